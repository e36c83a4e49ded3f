"""Every page in both themes and three widths: python -m tests.web.screenshots FOLDER [page ...]."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from appliance.clock import ManualClock
from tests.web import proof_samples, samples
from tests.web.chromium import browser
from tests.web.samples import ME, NOW_US
from tests.web.site_rig import running

HEIGHT = 2000
WIDTHS = {"desktop": (1280, 1000), "phone": (390, 844), "small": (320, 640)}


async def main(folder: Path, only: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as cache:
        async with running(ME, Path(cache), clock=ManualClock(NOW_US)) as site, browser() as chromium:
            world = samples.furnish(site)
            proof_samples.furnish(site)
            site.door.inside["cookie-of-the-member"] = ME
            paths = {
                "home": ("/", True),
                "profile": ("/profile/ivo.example.net", True),
                "profile-long": (
                    f"/profile/{samples.did_of('a-rather-long-handle-that-goes-on-and-on')}",
                    True,
                ),
                "thread": (f"/post/{world.focus}", True),
                "completeness": ("/completeness?show=all", True),
                "status": ("/status", False),
                "login": ("/login", False),
                "welcome": ("/", False),
                "error": ("/post/at://did:plc:44ybard66vv44zksje25o7dz/app.bsky.feed.post/3none", True),
            }
            for name, (path, signed_in) in paths.items():
                if only and name not in only:
                    continue
                for size, (width, height) in WIDTHS.items():
                    for theme in ("light", "dark"):
                        if size == "small" and theme == "dark":
                            continue
                        context = await chromium.new_context(
                            viewport={"width": width, "height": height},
                            color_scheme=theme,
                            device_scale_factor=1,
                        )
                        if signed_in:
                            await context.add_cookies(
                                [{"name": "session", "value": "cookie-of-the-member", "url": site.origin}]
                            )
                        page = await context.new_page()
                        answer = await page.goto(site.origin + path, wait_until="networkidle")
                        assert answer is not None
                        assert answer.status < 400 or name == "error", (name, answer.status)
                        # Pictures that wait to be scrolled to are wanted, too.
                        await page.evaluate(
                            "document.querySelectorAll('img').forEach(i => i.loading = 'eager')"
                        )
                        await page.wait_for_load_state("networkidle")
                        tall = name in ("home", "thread", "profile")
                        await page.screenshot(
                            path=folder / f"{name}-{size}-{theme}.png",
                            full_page=tall,
                            clip={"x": 0, "y": 0, "width": width, "height": HEIGHT} if tall else None,
                        )
                        await context.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
