"""How long a start takes from the first instruction to /ready, and what memory the process then holds."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

STARTS = 4
ARCHIVE = Path(__file__).parents[1] / "dist" / "appliance.pyz"


def test_from_process_start_to_ready(tmp_path: Path) -> None:
    """The archive where it has been built, else the checkout. The first start unpacks and creates."""
    program = [str(ARCHIVE)] if ARCHIVE.exists() else ["-m", "appliance.cli"]
    print(f"\nseconds from process start to /ready, and RSS; {program[-1]}")
    taken = []
    for number in range(STARTS):
        seconds, rss_kb = _start(program, tmp_path)
        print(f"  start {number + 1}: {seconds:5.2f} s, {rss_kb / 1024:4.0f} MiB")
        taken.append(seconds)
    assert min(taken[1:]) < 10


def _start(program: list[str], data: Path) -> tuple[float, int]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    environment = {
        **os.environ,
        "DATA_DIR": str(data),
        "BIND": "127.0.0.1",
        "PORT": str(port),
        # Nobody is there: a start must not wait for the network.
        "JETSTREAM_URLS": "ws://127.0.0.1:9/subscribe",
    }
    begun = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *program, "serve"],
        env=environment,
        cwd=ARCHIVE.parents[1],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _is_ready(port):
            assert process.poll() is None, "it ended"
            assert time.perf_counter() - begun < 60
        seconds = time.perf_counter() - begun
        return seconds, rss_kb(process.pid)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except urllib.error.HTTPError as refused:
        refused.close()
        return False
    except OSError:
        time.sleep(0.005)
        return False


def rss_kb(pid: int) -> int:
    """Resident memory of a process."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1])
