"""From a folder of packages to an archive, with shiv. Runs inside the environment.

Same folder in, same bytes out: times, modes and order are set here, never taken from the machine.
"""

from __future__ import annotations

import json
import os
import stat
import sys
import zipfile
from pathlib import Path
from typing import Any

from shiv import __version__ as shiv_version
from shiv.bootstrap.environment import Environment
from shiv.builder import create_archive

BUILT_AT = "1980-01-01 00:00:00"  # the oldest that a zip file can tell
DATE_TIME = (1980, 1, 1, 0, 0, 0)
ENTRY_POINT = "appliance.cli:main"
FRONT = Path(__file__).parent / "front"


def pack(site: Path, target: Path, built_for: dict[str, Any]) -> None:
    """Write the archive; ``built_for`` becomes the constants that its front checks."""
    environment = Environment(
        built_at=BUILT_AT,
        shiv_version=shiv_version,
        entry_point=ENTRY_POINT,
        reproducible=True,
        compile_pyc=False,
    )
    unfinished = target.with_name(target.name + ".unfinished")
    create_archive([site], unfinished, "/usr/bin/env python3", "_front:main", environment, True)
    constants = {**built_for, "BUILD_ID": environment.build_id, "BYTES": _size(site)}
    with zipfile.ZipFile(unfinished, "a", zipfile.ZIP_DEFLATED) as archive:
        for name in ("_front.py", "_unpacked.py"):
            archive.writestr(_member(name), (FRONT / name).read_bytes())
        text = '"""What this archive holds."""\n' + "".join(f"{k} = {v!r}\n" for k, v in constants.items())
        archive.writestr(_member("_built_for.py"), text)
        for member in archive.infolist():
            member.external_attr = (stat.S_IFREG | 0o644) << 16
    unfinished.chmod(0o755)
    unfinished.replace(target)


def _member(name: str) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name, DATE_TIME)
    member.compress_type = zipfile.ZIP_DEFLATED
    return member


def _size(site: Path) -> int:
    """Bytes on a disk that gives whole blocks."""
    sizes = (entry.stat().st_size for entry in site.rglob("*") if entry.is_file())
    return sum(-(-size // 4096) * 4096 for size in sizes)


if __name__ == "__main__":
    os.umask(0o022)
    told = json.loads(sys.argv[3])
    # JSON has no tuples, and versions are compared as such.
    told["PYTHONS"] = tuple(tuple(version) for version in told["PYTHONS"])
    told["GLIBC"] = tuple(told["GLIBC"])
    pack(Path(sys.argv[1]), Path(sys.argv[2]), told)
