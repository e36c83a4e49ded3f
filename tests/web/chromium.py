"""A real browser without a screen, kept off every network but this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, async_playwright

FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
)


def executable() -> str:
    """The browser's path; the test is skipped where there is none, and fails in CI."""
    found = shutil.which("chromium")
    if found is None:
        reason = "chromium is not installed (apt-get install chromium)"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return found


@contextlib.asynccontextmanager
async def browser(names: str = "") -> AsyncIterator[Browser]:
    """A new browser with an empty profile. ``names``: rules for host names before those that shut it in."""
    path = executable()
    flags = [flag.replace("=MAP", f"={names}, MAP") if names else flag for flag in FLAGS]
    async with async_playwright() as playwright:
        launched = await playwright.chromium.launch(executable_path=path, args=flags)
        try:
            yield launched
        finally:
            await launched.close()
