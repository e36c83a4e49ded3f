"""What this build is and what it runs on, for ``version`` and for bug reports."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import platform
import sqlite3
import sys
from functools import cache
from pathlib import Path
from typing import Any

from appliance import __version__
from appliance.store.migrations import SCHEMA_VERSION

PACKAGE = Path(__file__).parents[1]


@cache
def build_id() -> str:
    """A hash of every file of the package: the same for the same code, in an archive or a checkout."""
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*"), key=lambda path: path.relative_to(PACKAGE).as_posix()):
        if path.is_file() and path.suffix != ".pyc":
            digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def facts() -> dict[str, Any]:
    """Everything that ``version --json`` prints."""
    return {
        "version": __version__,
        "build": build_id(),
        "schema": SCHEMA_VERSION,
        "lexicons": _lexicons(),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "system": f"{sys.platform} {platform.machine()}",
        "libc": " ".join(platform.libc_ver()).strip(),
        "archive": _archive(),
        "packages": _packages(),
    }


def as_json() -> str:
    """The facts for a machine."""
    return json.dumps(facts(), indent=2, ensure_ascii=False)


def as_text() -> str:
    """The facts for a person, without the long list of packages."""
    known = facts()
    lexicons = known["lexicons"]
    lines = [
        f"appliance {known['version']}, build {known['build']}",
        f"Python {known['python']}, SQLite {known['sqlite']}, {known['system']}, {known['libc']}",
        f"database schema {known['schema']}",
        f"{lexicons['documents']} lexicon documents ({lexicons['digest']})",
        f"{len(known['packages'])} packages (--json names them)",
    ]
    if known["archive"]:
        lines.append(f"from {known['archive']['file']}, unpacked to {known['archive']['unpacked']}")
    return "\n".join(lines)


def _lexicons() -> dict[str, Any]:
    """The snapshot of published schemas that ships inside."""
    digest = hashlib.sha256()
    documents = 0
    for path in sorted((PACKAGE / "protocol").rglob("*.json*")):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
        documents += 1
    return {"documents": documents, "digest": digest.hexdigest()[:16]}


def _packages() -> dict[str, str]:
    site = str(PACKAGE.parent) if _archive() else None
    found = importlib.metadata.distributions(path=[site]) if site else importlib.metadata.distributions()
    return dict(sorted((each.name.lower(), each.version) for each in found))


def _archive() -> dict[str, str] | None:
    """Where the running archive lies and was unpacked; None in a checkout."""
    unpacked = PACKAGE.parents[1]
    if PACKAGE.parent.name != "site-packages" or "_" not in unpacked.name:
        return None
    return {
        "file": os.path.abspath(sys.argv[0]),  # noqa: PTH100 - resolving links would name another file
        "unpacked": str(unpacked),
    }
