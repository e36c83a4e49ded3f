"""Resolving requirements/*.in to requirements/*.lock: exact versions with hashes, no address of any index."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence

from building.environment import REQUIREMENTS, VENV, Failed, install_extra, python, say

# The versions must suit the oldest Python and be the same for all: they share one file.
RESOLVE_FOR = "3.11"

# The largest first: what it settles binds the others.
ORDER = ("dev", "build", "runtime", "release")


def lock(arguments: Sequence[str]) -> int:
    """Write every lock anew. Versions that still fit stay, unless ``--upgrade`` is among the arguments."""
    python("build")
    install_extra("release")
    markers = _markers()
    for name in ORDER:
        say(f"resolving requirements/{name}.in")
        path = REQUIREMENTS / f"{name}.lock"
        bound = [] if name == "dev" else ["--constraint", "dev.lock"]
        # Options that write an address into the output are never given here.
        command = [str(VENV / "bin" / "uv"), "pip", "compile", "--python-version", RESOLVE_FOR, "--quiet"]
        command += ["--generate-hashes", "--no-header", "--no-annotate", *bound, *arguments]
        done = subprocess.run(
            [*command, f"{name}.in", "-o", path.name],
            cwd=REQUIREMENTS,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            check=False,
        )
        if done.returncode:
            raise Failed(f"{name}.in can't be resolved:\n{done.stderr.decode(errors='replace')}")
        text = path.read_text()
        for package, marker in markers.items():
            text = re.sub(
                rf"^({package}==[^ ;]+)(?: ;.*?)? \\$", rf"\1 ; {marker} \\", text, flags=re.MULTILINE
            )
        path.write_text(text)
    return 0


def _markers() -> dict[str, str]:
    """Conditions in the .in files; resolving for one Python would drop those that it meets."""
    found: dict[str, str] = {}
    for path in REQUIREMENTS.glob("*.in"):
        for line in path.read_text().splitlines():
            requirement, _, marker = line.partition(";")
            if marker:
                found[re.split(r"[=<>~!]", requirement)[0].strip()] = marker.strip()
    return found
