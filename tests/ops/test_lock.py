"""One process a data folder."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.errors import Unavailable
from appliance.ops.lock import DataLock
from building.environment import ROOT


def test_a_second_process_is_turned_away_until_the_first_ends(tmp_path: Path) -> None:
    with DataLock(tmp_path) as held:
        held.write("somebody")
        with pytest.raises(Unavailable) as refused:
            DataLock(tmp_path)
        assert refused.value.name == "Locked"

    with DataLock(tmp_path):
        assert (tmp_path / "lock").read_text() == "somebody"


def test_of_two_processes_on_one_folder_the_second_ends_at_once_and_says_why(tmp_path: Path) -> None:
    """Catalogue 12, as an operator meets it."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "DATA_DIR": str(tmp_path),
        "PORT": "0",
        "ALLOW_LOOPBACK": "true",
        "JETSTREAM_URLS": "ws://localhost:9/subscribe",
        "PLC_URL": "http://localhost:9",
    }
    command = [sys.executable, "-m", "appliance.cli", "serve"]
    with DataLock(tmp_path):
        second = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )

    assert second.returncode == 1
    assert "another appliance runs on" in second.stderr
    assert not (tmp_path / "appliance.db").exists()
