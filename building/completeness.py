"""Whether a folder of packages has all that one Python on one processor needs. Asks the environment's
``packaging``, because the conditions in package metadata are evaluated for a Python that isn't here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from building.environment import ROOT, Failed, pinned, python, surroundings


def check(tree: Path, release: tuple[int, int], machine: str) -> None:
    """Raises Failed with every complaint."""
    done = subprocess.run(
        [python("build"), "-m", "building.completeness", str(tree), json.dumps(release), machine],
        cwd=ROOT,
        env=surroundings(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        number = f"{release[0]}.{release[1]}"
        raise Failed(f"incomplete for Python {number} on {machine}:\n{done.stdout}{done.stderr}")


def complaints(tree: Path, release: tuple[int, int], machine: str) -> list[str]:
    """What is missing, or made for something else."""
    import importlib.metadata

    from packaging.markers import Marker
    from packaging.requirements import Requirement
    from packaging.tags import compatible_tags, cpython_tags
    from packaging.tags import parse_tag as tags_of
    from packaging.utils import canonicalize_name

    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(28, 4, -1)]
    platforms += [f"{old}_{machine}" for old in ("manylinux2014", "manylinux2010", "manylinux1")]
    allowed = {*cpython_tags(release, platforms=platforms)}
    allowed |= {*compatible_tags(release, f"cp{release[0]}{release[1]}", platforms)}
    target = {
        "python_version": f"{release[0]}.{release[1]}",
        "python_full_version": f"{release[0]}.{release[1]}.0",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "os_name": "posix",
        "extra": "",
    }
    found = {
        canonicalize_name(each.name): each for each in importlib.metadata.distributions(path=[str(tree)])
    }
    wrong = []
    for name, version in pinned("runtime").items():
        package = found.get(canonicalize_name(name))
        marker = _marker(name)
        if marker and not Marker(marker).evaluate(target):
            if package is not None:
                wrong.append(f"{name} is there although its condition says no")
        elif package is None:
            wrong.append(f"{name} is missing")
        elif package.version != version:
            wrong.append(f"{name} is {package.version} instead of {version}")
    for name, package in found.items():
        wheel = package.read_text("WHEEL") or ""
        tags: set[Any] = set()
        for line in wheel.splitlines():
            if line.startswith("Tag: "):
                tags |= tags_of(line.removeprefix("Tag: "))
        if not tags & allowed:
            wrong.append(f"{name} is for {', '.join(sorted(map(str, tags)))}")
        for text in package.requires or []:
            requirement = Requirement(text)
            if requirement.marker and not requirement.marker.evaluate(target):
                continue
            other = found.get(canonicalize_name(requirement.name))
            if other is None:
                wrong.append(f"{name} needs {requirement.name}")
            elif not requirement.specifier.contains(other.version, prereleases=True):
                wrong.append(f"{name} needs {requirement}, and {other.version} is there")
    return wrong


def _marker(name: str) -> str:
    for line in (ROOT / "requirements" / "runtime.lock").read_text().splitlines():
        if line.startswith(f"{name}=="):
            return line.rstrip("\\ ").partition(";")[2].strip()
    return ""


if __name__ == "__main__":
    told = complaints(Path(sys.argv[1]), tuple(json.loads(sys.argv[2])), sys.argv[3])
    print("\n".join(told))
    sys.exit(bool(told))
