"""The release file: every supported Python in one archive."""

import hashlib
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from building import archive, completeness, natives, release
from building.environment import Failed, pinned
from tests.interpreters import interpreters

pytestmark = pytest.mark.long


@pytest.fixture(scope="module", params=release.MACHINES)
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp("release")
    return request.param, release.build(request.param, folder)


@pytest.fixture
def site(built: tuple[str, Path], tmp_path: Path) -> Path:
    with zipfile.ZipFile(built[1]) as opened:
        opened.extractall(tmp_path)
    return tmp_path / "site-packages"


def test_each_native_module_is_there_for_each_python_and_made_for_the_processor(
    built: tuple[str, Path], site: Path
) -> None:
    machine, _ = built
    pythons: dict[str, set[str]] = {}
    for path in natives.modules(site):
        assert natives.machine(path) == machine
        assert natives.glibc(path) <= (2, 28)
        if match := re.fullmatch(r"(.+?)\.cpython-(\d+)-.*\.so", path.name):
            pythons.setdefault(f"{path.parent.relative_to(site)}/{match[1]}", set()).add(match[2])

    wanted = {f"{major}{minor}" for major, minor in release.PYTHONS}
    assert len(pythons) > 10
    for name, found in pythons.items():
        assert found == (wanted - {"314"} if name.startswith("coincurve/") else wanted), name


def test_every_locked_package_is_in_it(site: Path) -> None:
    found = {archive.normal(path.name.split("-")[0]) for path in site.glob("*.dist-info")}

    wanted = {archive.normal(name) for name in pinned("runtime")} - {"pip"}
    assert found == {*wanted, "appliance"}


def test_it_runs_on_every_python_of_this_machine(built: tuple[str, Path], tmp_path: Path) -> None:
    machine, path = built
    tried = 0
    for version, python in interpreters().items():
        done = subprocess.run(
            [python.resolve(), path, "version"],
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
        if machine == "x86_64" and version in release.PYTHONS:
            assert done.returncode == 0, done.stderr
            assert f"Python {version[0]}.{version[1]}." in done.stdout
            tried += 1
        else:
            assert done.returncode == 1
            assert "this file " in done.stderr
    assert tried > 0 or machine != "x86_64"


def test_a_release_is_the_same_bytes_twice(built: tuple[str, Path], tmp_path: Path) -> None:
    machine, path = built

    again = release.build(machine, tmp_path / "again")

    assert hashlib.sha256(again.read_bytes()).digest() == hashlib.sha256(path.read_bytes()).digest()


def test_a_tree_that_lacks_something_is_refused() -> None:
    tree = release.fetch((3, 14), "aarch64")
    completeness.check(tree, (3, 14), "aarch64")
    for path in [*tree.glob("orjson"), *tree.glob("orjson-*")]:
        shutil.rmtree(path)

    with pytest.raises(Failed, match="orjson is missing"):
        completeness.check(tree, (3, 14), "aarch64")
    with pytest.raises(Failed, match="is for cp314-"):
        completeness.check(tree, (3, 13), "aarch64")
