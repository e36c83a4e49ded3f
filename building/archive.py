"""dist/appliance.pyz for the Python that runs this."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from building import natives
from building.environment import ROOT, SCRATCH, VENV, Failed, alone, pinned, python, run, say

DIST = ROOT / "dist"

# What an archive is made of, besides the packages of requirements/build.lock.
SOURCES = ("appliance", "schema.sql", "building", "pyproject.toml", "README.md", "LICENSE", "requirements")

# Nothing imports these at run time: pip comes with sqlite-utils for its own "install" command, and
# zstandard brings a second backend for Pythons without the C interface.
UNUSED = ("pip", "pip-*.dist-info", "bin", "zstandard/_cffi*.so", "zstandard/backend_cffi.py")

# Written by installers; they differ from one installer and one machine to the next.
INSTALLER_NOTES = ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json", "uv_cache.json")


def single() -> Path:
    """Build the archive unless the one there was made from the same sources; its path."""
    target = DIST / "appliance.pyz"
    note = DIST / "appliance.pyz.sources"
    with alone("archive"):
        digest = sources_digest()
        if target.exists() and note.exists() and note.read_text() == digest:
            return target
        DIST.mkdir(exist_ok=True)
        note.unlink(missing_ok=True)
        build(target)
        note.write_text(digest)
    return target


def build(target: Path) -> None:
    """Build the archive to that path."""
    python("build")
    say(f"building {target.name}")
    site = empty(SCRATCH / "site")
    copy_installed(site, pinned("runtime"))
    unpack_wheel(site)
    finish(site)
    pack(site, target, built_for(site, [sys.version_info[:2]], os.uname().machine))
    say(f"{target}: {target.stat().st_size / 1e6:.1f} MB")


def sources_digest() -> str:
    """Changes with anything that the archive is made of."""
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {os.uname()}\n".encode())
    for name in SOURCES:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(ROOT)}\0".encode())
                digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest() + "\n"


def copy_installed(site: Path, wanted: Iterable[str]) -> None:
    """Copy these packages out of the environment."""
    (packages,) = (VENV / "lib").glob("python3.*/site-packages")
    found = {normal(each.name): each for each in importlib.metadata.distributions(path=[str(packages)])}
    for name in wanted:
        package = found.get(normal(name))
        if package is None:
            if name in skipped_by_marker():
                continue
            raise Failed(f"{name} is in the lock and not in the environment: remove .venv and try again")
        for file in package.files or []:
            if ".." in file.parts or file.suffix == ".pyc":
                continue
            destination = site / file
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(packages / file, destination)


def skipped_by_marker() -> set[str]:
    """Packages that the lock leaves out on this Python."""
    return {"coincurve"} if sys.version_info >= (3, 14) else set()


def unpack_wheel(site: Path) -> None:
    """Build our own wheel and unpack it."""
    folder = empty(SCRATCH / "wheel")
    if run(["-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], layer="build") != 0:
        raise Failed("the wheel can't be built")
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)


def finish(site: Path) -> None:
    """Take out what nothing uses."""
    for pattern in UNUSED:
        for path in site.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for note in INSTALLER_NOTES:
        for path in site.glob(f"*.dist-info/{note}"):
            path.unlink()
    for path in sorted(site.rglob("__pycache__"), reverse=True):
        shutil.rmtree(path)
    for path in natives.modules(site):
        natives.drop_debug_data(path)


def built_for(site: Path, pythons: Sequence[tuple[int, int]], machine: str) -> dict[str, Any]:
    """What the archive's front will ask for. Raises Failed when a module is for another processor."""
    modules = list(natives.modules(site))
    glibc = (0, 0)
    if sys.platform == "linux":
        strangers = [path for path in modules if natives.machine(path) != machine]
        if strangers:
            raise Failed(f"not made for {machine}: {', '.join(map(str, strangers))}")
        glibc = max((natives.glibc(path) for path in modules), default=(0, 0))
    return {
        "PYTHONS": list(pythons),
        "SYSTEM": sys.platform,
        "MACHINE": machine,
        "GLIBC": glibc if any(glibc) else (),
    }


def pack(site: Path, target: Path, told: Mapping[str, Any]) -> None:
    """Make one file of the folder."""
    if run(["-m", "building.packing", str(site), str(target), json.dumps(told)], layer="build") != 0:
        raise Failed(f"{target.name} can't be packed")


def normal(name: str) -> str:
    """The spelling of a package's name in which it is compared (PEP 503)."""
    return name.lower().replace("_", "-").replace(".", "-")


def empty(folder: Path) -> Path:
    """The folder, with nothing in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
