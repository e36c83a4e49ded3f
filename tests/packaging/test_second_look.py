"""The test run's second look: what fails alone, too, fails the run; so do many, or a broken file."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from building import testing
from building.environment import ROOT

STEADY = "def test_steady(): pass\n"
# Fails in the first process that runs it.
UNSTEADY = """
import pathlib
def test_unsteady{number}():
    mark = pathlib.Path(__file__).with_name("mark{number}")
    if not mark.exists():
        mark.touch()
        raise AssertionError("among the others")
"""
BROKEN = "def test_broken(): raise AssertionError('always')\n"


def outcome(folder: Path, monkeypatch: pytest.MonkeyPatch, **files: str) -> tuple[int, list[list[str]]]:
    """The exit code of a run over these files, and with what pytest was called."""
    (folder / "conftest.py").write_text("from tests.conftest import *\n")
    for name, text in files.items():
        (folder / f"test_{name}.py").write_text(text)
    calls = []

    def run(arguments: Sequence[str | Path]) -> int:
        calls.append([str(each) for each in arguments])
        command = [sys.executable, *calls[-1], "--rootdir", str(folder), "-c", str(folder / "none.ini")]
        environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
        return subprocess.run(command, cwd=folder, env=environment, check=False).returncode

    (folder / "none.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    monkeypatch.setattr(testing, "run", run)
    return testing.run_all(["-q"]), calls


def test_what_holds_alone_is_named_and_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code, calls = outcome(tmp_path, monkeypatch, steady=STEADY, unsteady=UNSTEADY.format(number=1))
    assert code == 0
    assert [call[-1] for call in calls[1:]] == ["test_unsteady.py::test_unsteady1"]
    assert "-n" in calls[0]
    assert "-n" not in calls[1]
    told = capfd.readouterr().err
    assert "UNSTEADY" in told
    assert told.count("test_unsteady1") == 1


def test_what_fails_alone_too_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"steady": STEADY, "unsteady": UNSTEADY.format(number=1), "broken": BROKEN}
    code, calls = outcome(tmp_path, monkeypatch, **files)
    assert code == 1
    assert len(calls) == 2


def test_many_failures_have_no_second_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many = "".join(UNSTEADY.format(number=number) for number in range(testing.SECOND_LOOKS_MAX + 1))
    code, calls = outcome(tmp_path, monkeypatch, many=many)
    assert code == 1
    assert len(calls) == 1


def test_a_file_that_cannot_be_read_fails_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _calls = outcome(tmp_path, monkeypatch, steady=STEADY, worse="import nothing_of_that_name\n")
    assert code != 0


def test_a_run_in_which_nothing_failed_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, calls = outcome(tmp_path, monkeypatch, steady=STEADY)
    assert (code, len(calls)) == (0, 1)
