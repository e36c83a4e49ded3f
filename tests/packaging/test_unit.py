"""The systemd unit as systemd reads it, and the script that runs before a change lands."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
import pytest

from building.environment import ROOT

UNIT = ROOT / "systemd" / "appliance.service"
EXPOSURE_MAX = 1.5


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        if os.environ.get("CI"):
            pytest.fail("systemd-analyze is absent")
        pytest.skip("systemd-analyze is absent (Debian: apt install systemd)")
    return subprocess.run([tool, *arguments], capture_output=True, text=True, check=False, timeout=60)


def test_the_unit_is_without_fault(tmp_path: Path) -> None:
    # The program need not be installed here; everything else is judged as it stands.
    text = UNIT.read_text().replace("/usr/bin/python3", "/bin/true")
    (tmp_path / "appliance.service").write_text(text)

    done = analyze("verify", tmp_path / "appliance.service")

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_t127_the_unit_leaves_little_open() -> None:
    done = analyze("security", "--offline=true", "--no-pager", UNIT)

    overall = next(line for line in done.stdout.splitlines() if "Overall exposure level" in line)
    assert float(overall.split(":")[1].split()[0]) <= EXPOSURE_MAX


def test_the_archive_and_the_data_lie_under_the_state_folder() -> None:
    text = UNIT.read_text()

    assert "DATA_DIR=%S/appliance/data" in text
    assert "SHIV_ROOT=%S/appliance/unpacked" in text
    assert "StateDirectory=appliance" in text


CONFINED = """
set -e
mount --make-rprivate /
mount --bind "$0" "$0"
# Everything else of this file system can't be written, whoever owns it.
mount -o remount,bind,ro /
exec setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \\
  --inh-caps=-all --bounding-set=-all -- "$@"
"""


def directives(name: str) -> list[str]:
    return [line.partition("=")[2] for line in UNIT.read_text().splitlines() if line.startswith(f"{name}=")]


async def test_t128_its_command_runs_without_privileges_and_writes_its_state_folder_alone(
    pyz: Path, tmp_path: Path
) -> None:
    """What only a real systemd shows is not here: its filters of system calls, families and devices."""
    unshare = shutil.which("unshare")
    if (
        os.geteuid() != 0
        or unshare is None
        or subprocess.run([unshare, "-m", "true"], check=False).returncode
    ):
        pytest.skip("only root may take privileges away and mount")
    state, program = tmp_path / "state", tmp_path / "opt"
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder != Path(tempfile.gettempdir()):
            folder.chmod(0o755)
    state.mkdir()
    os.chown(state, 65534, 65534)
    program.mkdir()
    shutil.copy(pyz, program / "appliance.pyz")
    (program / "appliance.pyz").chmod(0o444)
    settings = program / "appliance.toml"
    settings.write_text(
        'port = 0\nallow_loopback = true\njetstream_urls = ["ws://localhost:9/subscribe"]\n'
        'plc_url = "http://localhost:9"\n'
    )
    spelled = {
        "/usr/bin/python3": str(Path(sys.executable).resolve()),
        "/opt/appliance": str(program),
        "${CREDENTIALS_DIRECTORY}": str(program),
        "%S": str(state),
    }

    def here(text: str) -> list[str]:
        for theirs, ours in spelled.items():
            text = text.replace(theirs, ours)
        return text.split()

    environment = dict(one.split("=", 1) for line in directives("Environment") for one in here(line))
    (started,), (before,) = directives("ExecStart"), directives("ExecStartPre")
    (state / "appliance").mkdir(mode=0o700)
    os.chown(state / "appliance", 65534, 65534)
    confined = [unshare, "-m", "sh", "-c", CONFINED, str(state)]

    def child(*command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [*confined, *command],
            env={"PATH": "/usr/bin:/bin", **environment},
            cwd=state / "appliance",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    # The confinement itself holds: neither this user nor anybody could write beside the state folder.
    tried = child("sh", "-c", f"touch {program}/x; touch /etc/x; touch {state}/appliance/x && id -u")
    assert tried.communicate(timeout=60)[0].splitlines()[-1] == b"65534"
    assert sorted(path.name for path in program.iterdir()) == ["appliance.pyz", "appliance.toml"]

    checked = child(*here(before))
    told = checked.communicate(timeout=120)[0]
    assert checked.returncode == 0, told
    process = child(*here(started))
    try:
        lock = state / "appliance" / "data" / "lock"
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            for _ in range(1200):
                assert process.poll() is None, process.communicate()[0]
                if lock.exists() and lock.read_text():
                    with contextlib.suppress(httpx.TransportError):
                        if (
                            await http.get(json.loads(lock.read_text())["origin"] + "/login")
                        ).status_code == 200:
                            break
                await asyncio.sleep(0.1)
            else:
                pytest.fail("it did not serve")
        (signal_name,) = directives("KillSignal")
        process.send_signal(getattr(signal, signal_name))
        assert process.wait(int(directives("TimeoutStopSec")[0])) == 0
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def test_the_script_before_landing_runs_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.read_text().endswith('"$python" build.py check\n"$python" build.py test\n')
