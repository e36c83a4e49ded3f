"""The systemd unit as systemd reads it, and the script that runs before a change lands."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from building.environment import ROOT

UNIT = ROOT / "systemd" / "appliance.service"
EXPOSURE_MAX = 2.0


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


def test_the_unit_leaves_little_open() -> None:
    done = analyze("security", "--offline=true", "--no-pager", UNIT)

    overall = next(line for line in done.stdout.splitlines() if "Overall exposure level" in line)
    assert float(overall.split(":")[1].split()[0]) <= EXPOSURE_MAX


def test_the_archive_and_the_data_lie_under_the_state_folder() -> None:
    text = UNIT.read_text()

    assert "DATA_DIR=%S/appliance/data" in text
    assert "SHIV_ROOT=%S/appliance/unpacked" in text
    assert "StateDirectory=appliance" in text


def test_the_script_before_landing_runs_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"

    assert os.access(script, os.X_OK)
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    assert script.read_text().endswith('"$python" build.py check\n"$python" build.py test\n')
