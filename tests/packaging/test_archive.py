"""The built file, alone: what an operator copies to a server."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from appliance import __version__
from appliance.store.migrations import SCHEMA_VERSION
from building import archive
from building.environment import ROOT, pinned
from building.front import _front, _unpacked
from tests.interpreters import interpreters

Run = Callable[..., subprocess.CompletedProcess[str]]
complaint: Callable[[SimpleNamespace], str] = _front.complaint
OLD = "appliance.pyz_" + "0" * 64
RUNNING = "appliance.pyz_" + "1" * 64
HALF = "appliance-0.0.9.pyz_" + "2" * 64


@pytest.fixture
def alone(tmp_path: Path, pyz: Path) -> Path:
    """The archive as the only file of a folder."""
    folder = tmp_path / "alone"
    folder.mkdir()
    return Path(shutil.copy(pyz, folder / "appliance.pyz"))


@pytest.fixture
def run(tmp_path: Path, alone: Path) -> Run:
    """Run the archive with a bare environment."""
    home = tmp_path / "home"
    home.mkdir()

    def start(
        *arguments: str, python: Path = Path(sys.executable), **more: str
    ) -> subprocess.CompletedProcess[str]:
        # The interpreter itself: a virtual environment would lend the archive its packages.
        return subprocess.run(
            [_real(python), alone, *arguments],
            cwd=alone.parent,
            env={"HOME": str(home), "PATH": "/usr/bin:/bin", **more},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    return start


def _real(python: Path) -> Path:
    return Path(os.path.realpath(python))


def test_it_starts_alone_in_an_empty_folder_with_a_bare_environment(run: Run, alone: Path) -> None:
    done = run("version")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"appliance {__version__}, build ")
    assert [path.name for path in alone.parent.iterdir()] == ["appliance.pyz"]


def test_version_says_all_that_is_inside(run: Run, alone: Path, tmp_path: Path) -> None:
    told = json.loads(run("version", "--json").stdout)

    assert told["version"] == __version__
    assert told["schema"] == SCHEMA_VERSION
    assert told["python"].split(".")[:2] == [str(part) for part in sys.version_info[:2]]
    assert told["lexicons"]["documents"] > 100
    assert told["archive"]["file"] == str(alone)
    assert told["archive"]["unpacked"].startswith(str(tmp_path / "home"))
    absent = {"pip", *archive.skipped_by_marker()}
    wanted = {
        archive.normal(name): version for name, version in pinned("runtime").items() if name not in absent
    }
    assert {archive.normal(name): version for name, version in told["packages"].items()} == {
        **wanted,
        "appliance": __version__,
    }


def test_the_archive_and_the_checkout_are_the_same_build(run: Run) -> None:
    told = json.loads(run("version", "--json").stdout)
    here = subprocess.run(
        [sys.executable, "-m", "appliance", "version", "--json"], cwd=ROOT, capture_output=True, check=True
    )

    assert told["build"] == json.loads(here.stdout)["build"]


def test_every_file_of_the_package_is_in_the_archive(pyz: Path) -> None:
    with zipfile.ZipFile(pyz) as opened:
        inside = {
            name.removeprefix("site-packages/"): hashlib.sha256(opened.read(name)).digest()
            for name in opened.namelist()
            if name.startswith("site-packages/appliance/")
        }

    here = {
        str(path.relative_to(ROOT)): hashlib.sha256(path.read_bytes()).digest()
        for path in (ROOT / "appliance").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert inside == here
    assert "appliance/store/schema.sql" in inside


def test_the_same_sources_give_the_same_bytes(pyz: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    mask = os.umask(0o077)
    try:
        archive.build(again)
    finally:
        os.umask(mask)

    assert hashlib.sha256(again.read_bytes()).hexdigest() == hashlib.sha256(pyz.read_bytes()).hexdigest()


def test_the_archive_is_built_again_only_when_something_changed(
    pyz: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unwanted(target: Path) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(archive, "build", unwanted)
    assert archive.single() == pyz
    monkeypatch.setattr(archive, "sources_digest", lambda: "something else")
    note = pyz.with_name(pyz.name + ".sources")
    known = note.read_text()
    try:
        with pytest.raises(AssertionError, match="built again"):
            archive.single()
    finally:
        note.write_text(known)


@pytest.mark.parametrize("version", [v for v in interpreters() if v != sys.version_info[:2]], ids=str)
def test_another_python_is_told_so_before_anything_is_unpacked(
    run: Run, tmp_path: Path, version: tuple[int, int]
) -> None:
    done = run("version", python=interpreters()[version])

    fitting = ".".join(str(part) for part in sys.version_info[:2])
    assert done.returncode == 1
    assert f"needs, and this is Python {version[0]}.{version[1]} (" in done.stderr
    assert f"what Python {fitting} needs" in done.stderr
    assert list((tmp_path / "home").iterdir()) == []


def test_a_fitting_python_of_the_machine_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fitting = tmp_path / "python3.99"
    fitting.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["appliance.pyz", "serve"])

    told = complaint(_made_for(PYTHONS=((3, 99),)))

    assert f"This machine has one that fits: {fitting} appliance.pyz serve" in told


@pytest.mark.parametrize(
    ("made_for", "told"),
    [
        ({"MACHINE": "vax"}, "is made for linux on vax, and this Python runs on linux, "),
        ({"SYSTEM": "plan9"}, "is made for plan9 on "),
        ({"GLIBC": (2, 999)}, "needs glibc 2.999 or newer, and this system has 2."),
        ({"PYTHONS": ((3, 98), (3, 99))}, "what Python 3.98 or 3.99 needs"),
        ({"PYTHONS": ((3, 97), (3, 98), (3, 99))}, "what Python 3.97 to 3.99 needs"),
    ],
)
def test_a_machine_that_does_not_fit_is_told_why(made_for: dict[str, object], told: str) -> None:
    assert complaint(_made_for()) == ""
    assert told in complaint(_made_for(**made_for))


def _made_for(**different: object) -> SimpleNamespace:
    fitting = {
        "PYTHONS": (sys.version_info[:2],),
        "SYSTEM": sys.platform,
        "MACHINE": os.uname().machine,
        "GLIBC": (2, 17),
        "BUILD_ID": "3" * 64,
        "BYTES": 1,
    }
    return SimpleNamespace(**{**fitting, **different})


def test_copies_of_older_archives_are_removed_unless_something_runs_from_them(
    run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "home" / ".shiv"
    strangers = ["other.pyz_" + "0" * 64, "appliance.pyz_short", "appliance-notes"]
    gone = [OLD, HALF + ".tmp", f".{OLD[:-1]}3.gone"]
    for name in [*strangers, *gone, RUNNING]:
        (root / name / "site-packages").mkdir(parents=True)
        (root / name / "site-packages" / "module.py").touch()
    (root / f".{OLD}_lock").touch()
    handle = _unpacked.hold(root / RUNNING)

    assert run("version").returncode == 0

    os.close(handle)
    left = {path.name for path in root.iterdir() if not path.name.startswith(".")}
    (current,) = left - {*strangers, RUNNING}
    assert left == {*strangers, RUNNING, current}
    assert {path.name for path in root.iterdir() if path.name.startswith(".")} == {
        f".{RUNNING}.use",
        f".{current}.use",
        f".{current}_lock",
    }

    assert run("version").returncode == 0
    assert not (root / RUNNING).exists()


def test_a_link_that_looks_like_a_copy_is_left_alone(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / OLD).symlink_to(precious)

    assert _unpacked.prune(tmp_path, keep="") == []
    assert precious.is_dir()


def test_a_lock_whose_file_was_removed_meanwhile_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f".{OLD}.use"
    tried: list[int] = []

    def removed_before_it_is_had(handle: int, how: int) -> None:
        if not tried:
            path.unlink()
        tried.append(handle)

    monkeypatch.setattr(fcntl, "flock", removed_before_it_is_had)

    handle = _unpacked.hold(tmp_path / OLD)

    assert len(tried) == 2
    assert os.fstat(handle).st_ino == path.stat().st_ino
    os.close(handle)


def test_two_versions_started_many_times_at_once_all_come_up(run: Run, alone: Path, tmp_path: Path) -> None:
    other = Path(shutil.copy(alone, alone.with_name("appliance-next.pyz")))
    environment = {"HOME": str(tmp_path / "home"), "PATH": "/usr/bin:/bin"}

    started = [
        subprocess.Popen(
            [_real(Path(sys.executable)), which, "version"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for which in [alone, other] * 3
    ]
    answers = [process.communicate(timeout=120)[0] for process in started]

    assert [process.returncode for process in started] == [0] * 6, answers


def test_a_folder_that_can_not_be_written_is_named(run: Run, tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.touch()

    done = run("version", SHIV_ROOT=str(taken / "deeper"))

    assert done.returncode == 1
    assert f"can't unpack to {taken / 'deeper'}: Not a directory" in done.stderr
    assert "Set SHIV_ROOT" in done.stderr


def test_a_disk_without_room_is_told_before_unpacking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHIV_ROOT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["appliance.pyz"])

    with pytest.raises(SystemExit):
        _unpacked.start(_made_for(BYTES=2**60))

    assert "1099511627776 MiB are needed there" in capsys.readouterr().err
    os.close(_unpacked._held.pop())
