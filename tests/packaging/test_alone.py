"""The archive alone in an empty folder, with nothing of ours around it, does the main job."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path

import httpx

from tests.journeys.harness import comes_true, told_in
from tests.journeys.judge import signed_in, what_is_wrong

BARE_PATH = "/usr/local/bin:/usr/bin:/bin"


async def test_the_archive_alone_shows_a_whole_timeline(pyz: Path, tmp_path: Path) -> None:
    folder = tmp_path / "empty"
    folder.mkdir()
    shutil.copy(pyz, folder / "appliance.pyz")
    told = folder / "info.json"
    # Not what runs these tests: a virtual environment would lend the archive its packages.
    python = Path(sys.executable).resolve()
    environment = {"HOME": str(folder), "PATH": BARE_PATH}
    with (tmp_path / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(
                python,
                "appliance.pyz",
                "demo",
                "--port",
                "0",
                "--data",
                "data",
                "--accounts",
                "8",
                "--rate",
                "0",
            ),
            *("--info", str(told)),
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        info = await told_in(told, process, 90)
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            clients = await signed_in(info["appliance"], http, info["members"])
            await comes_true(lambda: what_is_wrong(info, clients), within_s=60)
            page = await http.get(info["appliance"] + "/")
        assert page.status_code == 200
        assert "<h1" in page.text
    finally:
        process.send_signal(signal.SIGINT)
        assert await asyncio.wait_for(process.wait(), 30) == 0
