"""The demo: a small network and an appliance on it, started together, for looking around."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import app
from appliance.config import Settings
from appliance.errors import ApplianceError, Unavailable

NETWORK_START_S = 60.0
HISTORY_S = 60.0
LOADING = ("QUEUED", "SCANNING", "SUSPECT", "WAIT")


@dataclass(frozen=True)
class Options:
    """What can be chosen about the demo. Both worlds keep their data under ``data``."""

    port: int
    data: Path
    accounts: int
    rate: float
    info: Path | None


def run(options: Options, say: Callable[[str], None], serve: Callable[[Any], None]) -> None:
    """Start both and stay until stopped. ``serve`` runs the coroutine of the appliance.

    The network is a process of its own, so that neither waits for the other; it ends with us,
    however we end, because the pipe between us closes.
    """
    options.data.mkdir(parents=True, exist_ok=True)
    told = options.data / "network.json"
    told.unlink(missing_ok=True)
    say("Starting a small network …")
    reading_end, writing_end = os.pipe()
    try:
        network = subprocess.Popen(
            [
                *(*_self(), "devnet", "--data", str(options.data / "network"), "--info", str(told)),
                *("--accounts", str(options.accounts), "--rate", str(options.rate)),
                *("--while-open", str(reading_end)),
            ],
            pass_fds=(reading_end,),
            stdout=subprocess.DEVNULL,
        )
        os.close(reading_end)
        info = _wait_for(told, network)
        settings = _settings(options, info)
        # Members from the start, so that their timelines are whole when the first of them looks.
        for member in info["members"]:
            serve(app.operate(settings, "member add", [member["did"]]))
        serve(app.serve(settings, ready=lambda origin: _ready(options, settings, info, origin, say)))
    finally:
        os.close(writing_end)
    network.wait(timeout=20)


def _self() -> list[str]:
    """The command that starts this program again."""
    if sys.argv[0].endswith(".pyz"):
        return [sys.executable, sys.argv[0]]
    return [sys.executable, "-m", "appliance.cli"]


def _wait_for(told: Path, network: subprocess.Popen[bytes]) -> dict[str, Any]:
    end_s = time.monotonic() + NETWORK_START_S
    while time.monotonic() < end_s:
        if network.poll() is not None:
            raise Unavailable(f"the small network ended at once, with status {network.returncode}")
        try:
            found: dict[str, Any] = json.loads(told.read_text("utf-8"))
        except (FileNotFoundError, json.JSONDecodeError):
            time.sleep(0.05)
            continue
        return found
    network.terminate()
    raise Unavailable("the small network did not get ready in time")


def _settings(options: Options, info: dict[str, Any]) -> Settings:
    return Settings(
        port=options.port,
        data_dir=str(options.data / "appliance"),
        jetstream_urls=(info["jetstream_v2"],),
        relay_url=info["relay"],
        plc_url=info["plc"],
        handle_resolvers=tuple(info["pds"]),
        allow_loopback=True,
        members=tuple(member["did"] for member in info["members"]),
        labelers=(),
        rate_limits="off",
        outbound_rate_per_host=200.0,
        outbound_per_host=8,
        log_level="warning",
        log_format="text",
    )


def _ready(
    options: Options, settings: Settings, info: dict[str, Any], origin: str, say: Callable[[str], None]
) -> None:
    """Say where to look once there is something to see."""
    task = asyncio.get_running_loop().create_task(_announce(options, settings, info, origin, say))
    # The loop holds tasks loosely; this one ends long before the process.
    _announcing.add(task)
    task.add_done_callback(_announcing.discard)


_announcing: set[asyncio.Task[None]] = set()


async def _announce(
    options: Options, settings: Settings, info: dict[str, Any], origin: str, say: Callable[[str], None]
) -> None:
    end_s = time.monotonic() + HISTORY_S
    while time.monotonic() < end_s:
        with contextlib.suppress(ApplianceError):
            states = await app.operate(settings, "accounts", [])
            if states and not any(states.get(state) for state in LOADING):
                break
        await asyncio.sleep(0.1)
    info = {**info, "appliance": origin}
    if options.info is not None:
        part = options.info.with_suffix(".part")
        part.write_text(json.dumps(info, indent=2) + "\n", "utf-8")
        part.replace(options.info)
    say("")
    say(f"  The timeline is at   {origin}")
    say("")
    for member in info["members"]:
        say(f"  Sign in as           {member['handle']:24} password  {member['password']}")
    say("")
    say(
        "  Any AT Protocol client can use the same address as its server."
        " Ctrl-C ends the demo; the data stay."
    )
