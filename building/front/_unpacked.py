"""The unpacked copy that this archive runs from: made on the first start; those of older archives removed.

Every process holds a shared lock on its copy for as long as it lives, and takes it before it looks
whether the copy is there. Whoever removes a copy holds that lock alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

COPY = re.compile(r"appliance[^/]*_[0-9a-f]{64}")

# Kept open until the process ends: closing it would give the lock away.
_held: list[int] = []


def start(built_for: Any) -> None:
    """Unpack if need be, and hand over to the entry point."""
    root = _root()
    folder = root / f"{Path(sys.argv[0]).resolve().name}_{built_for.BUILD_ID}"
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        _held.append(hold(folder))
        prune(root, keep=folder.name)
        if not folder.exists():
            free = shutil.disk_usage(root).free
            if free < built_for.BYTES:
                _fail(root, f"{built_for.BYTES >> 20} MiB are needed there and {free >> 20} are free")
    except OSError as error:
        _fail(root, error.strerror or str(error))
    try:
        bootstrap = importlib.import_module("_bootstrap")
        if not folder.exists():
            _unpack(bootstrap, folder, built_for)
    except OSError as error:
        _fail(root, error.strerror or str(error))
    bootstrap.bootstrap()


def hold(folder: Path) -> int:
    """Wait until nobody removes this copy and keep it from being removed while the handle is open."""
    path = _lock_of(folder)
    while True:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(handle, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            # Whoever removed the copy removed the lock file too: then this is a lock on nothing.
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        os.close(handle)


def prune(root: Path, *, keep: str) -> list[str]:
    """Remove the copies that other archives of the appliance left and nobody runs from; their names."""
    removed = []
    for entry in sorted(path.name for path in root.iterdir()):
        name = entry.removeprefix(".").removesuffix(".gone").removesuffix(".tmp")
        if name != keep and name not in removed and COPY.fullmatch(name) and _remove(root / name):
            removed.append(name)
    return removed


def _remove(folder: Path) -> bool:
    parts = [folder, folder.with_name(folder.name + ".tmp"), folder.with_name(f".{folder.name}.gone")]
    if not any(_is_ours(part) for part in parts):
        return False
    lock = _lock_of(folder)
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if lock.stat().st_ino != os.fstat(handle).st_ino:
            return False
        if folder.exists():
            # Out of the way in one step: what is half removed must not look like a copy.
            shutil.rmtree(parts[2], ignore_errors=True)
            folder.rename(parts[2])
        for part in parts:
            shutil.rmtree(part, ignore_errors=True)
        folder.with_name(f".{folder.name}_lock").unlink(missing_ok=True)
        lock.unlink()
    except (BlockingIOError, FileNotFoundError):
        return False
    finally:
        os.close(handle)
    return True


def _is_ours(part: Path) -> bool:
    try:
        status = part.lstat()
    except FileNotFoundError:
        return False
    return part.is_dir() and not part.is_symlink() and status.st_uid == os.geteuid()


def _unpack(bootstrap: Any, folder: Path, built_for: Any) -> None:
    if sys.stderr.isatty():
        print(f"appliance: unpacking {built_for.BYTES >> 20} MiB to {folder.parent}, once", file=sys.stderr)
    with bootstrap.current_zipfile() as archive:
        bootstrap.extract_site_packages(archive, folder)


def _root() -> Path:
    return Path(os.environ.get("SHIV_ROOT") or "~/.shiv").expanduser()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.use")


def _fail(root: Path, why: str) -> None:
    sys.stderr.write(
        f"appliance: can't unpack to {root}: {why}.\n"
        "Set SHIV_ROOT to a folder that this user can write and that has room.\n"
    )
    sys.exit(1)
