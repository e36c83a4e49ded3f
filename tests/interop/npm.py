"""Official parts from npm, installed once into a cache folder outside the checkout."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

CLIENT = Path(__file__).parent / "client"
NODE_MIN = 20
INSTALL_S = 300
STEP_S = 60


def _absent(reason: str) -> None:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def installed() -> Path:
    """A folder in which Node finds the client's packages, of exactly the locked versions."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _absent("Node.js and npm are needed for the official client")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < NODE_MIN:
        _absent(f"the official client needs Node.js {NODE_MIN} or newer, here is {version.strip()}")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance" / "interop"
    lock = (CLIENT / "package-lock.json").read_bytes()
    folder = Path(os.environ.get("APPLIANCE_INTEROP", default)) / hashlib.sha256(lock).hexdigest()[:16]
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for name in ("package.json", "package-lock.json", ".npmrc"):
            shutil.copy(CLIENT / name, folder / name)
        done = subprocess.run(
            ["npm", "ci", "--ignore-scripts"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=INSTALL_S,
            check=False,
        )
        if done.returncode != 0:
            _absent(f"the official client can't be installed: {done.stderr[-500:]}")
        (folder / "complete").touch()
    return folder


async def run(
    script: str, options: dict[str, Any], on_wait: Callable[[], Any] | None = None
) -> dict[str, Any]:
    """What the script tells, by step. ``on_wait`` is called where it waits for the world to move on."""
    folder = await asyncio.to_thread(installed)
    shutil.copy(CLIENT / script, folder / script)
    process = await asyncio.create_subprocess_exec(
        "node",
        script,
        cwd=folder,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        limit=16 << 20,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    told: dict[str, Any] = {}
    try:
        process.stdin.write(json.dumps(options).encode() + b"\n")
        while line := await asyncio.wait_for(process.stdout.readline(), STEP_S):
            step = json.loads(line)
            told[step.pop("step")] = step
            if step.get("wait"):
                assert on_wait is not None
                await on_wait()
                process.stdin.write(b"\n")
        said = (await process.stderr.read()).decode(errors="replace")
        assert await process.wait() == 0, f"after {list(told)}: {said[-3000:]}"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return told
