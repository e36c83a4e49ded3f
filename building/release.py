"""One archive a processor that holds every supported Python.

The trees of the Pythons are laid over each other, oldest first, and nothing is overwritten: where two
have a file of the same name (abi3 modules, pure packages) the older one suits both.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from building import archive, completeness
from building.archive import DIST
from building.environment import (
    REQUIREMENTS,
    ROOT,
    SCRATCH,
    SOURCE_ONLY,
    VENV,
    Failed,
    install_extra,
    pinned,
    python,
    say,
)

PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
MACHINES = ("x86_64", "aarch64")
PLATFORM = "manylinux_2_28"


def build_all(machines: Sequence[str] = MACHINES) -> list[Path]:
    """Build the archives into dist/, with their checksums beside them; their paths."""
    made = [build(machine) for machine in machines]
    sums = "".join(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}\n" for path in made)
    (DIST / "SHA256SUMS").write_text(sums)
    return made


def build(machine: str, folder: Path = DIST) -> Path:
    """Build the archive for one processor. Raises Failed when a package has no wheel for a Python."""
    python("build")
    install_extra("release")
    folder.mkdir(exist_ok=True)
    target = folder / f"appliance-{version()}-{machine}.pyz"
    say(f"building {target.name}")
    site = archive.empty(SCRATCH / f"release-{machine}")
    for release in PYTHONS:
        tree = fetch(release, machine)
        completeness.check(tree, release, machine)
        lay_over(tree, site)
        shutil.rmtree(tree)
    archive.unpack_wheel(site)
    archive.finish(site)
    archive.pack(site, target, archive.built_for(site, PYTHONS, machine))
    say(f"{target}: {target.stat().st_size / 1e6:.1f} MB")
    return target


def fetch(release: tuple[int, int], machine: str) -> Path:
    """Install the locked packages for that Python and processor into a folder of their own."""
    number = f"{release[0]}.{release[1]}"
    say(f"packages for Python {number} on {machine}")
    tree = archive.empty(SCRATCH / f"release-{machine}-{number}")
    lock = SCRATCH / "release-runtime.lock"
    lock.write_text(_without((REQUIREMENTS / "runtime.lock").read_text(), SOURCE_ONLY))
    command = [str(VENV / "bin" / "uv"), "pip", "install", "--quiet", "--target", str(tree)]
    command += ["--python-version", number, "--python-platform", f"{machine}-{PLATFORM}"]
    command += ["--only-binary", ":all:", "--require-hashes", "--no-deps", "--link-mode", "copy"]
    done = subprocess.run(
        [*command, "-r", str(lock)], cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ
    )
    if done.returncode:
        raise Failed(f"no packages for Python {number} on {machine}:\n{done.stderr.strip()}")
    archive.copy_installed(tree, SOURCE_ONLY)
    return tree


def lay_over(tree: Path, site: Path) -> None:
    """Add what is not there yet."""
    for path in sorted(tree.rglob("*")):
        destination = site / path.relative_to(tree)
        if path.is_file() and not destination.exists():
            destination.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, destination)


def version() -> str:
    """The version of the appliance."""
    text = (ROOT / "appliance" / "__init__.py").read_text()
    return text.partition('__version__ = "')[2].partition('"')[0]


def _without(lock: str, names: Sequence[str]) -> str:
    kept, skipping = [], False
    for line in lock.splitlines(keepends=True):
        if not line.startswith(" "):
            skipping = line.partition("==")[0] in names
        if not skipping:
            kept.append(line)
    assert len(pinned("runtime")) - len(names) == sum("==" in line for line in kept)
    return "".join(kept)
