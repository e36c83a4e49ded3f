"""A disk that forgets: what a process wrote, cut at any moment, with only what it had waited for for sure.

A tiny library (power_shim.c) traces the writes of a child. From the trace a disk is made as it may be after
a power cut at any point: of each file all that was synced before, and of what was written since any part,
in units of a sector.
"""

from __future__ import annotations

import functools
import random
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HEAD = struct.Struct("=cHQI")
SECTOR = 512


class Op(NamedTuple):
    """One line of the trace; ``end`` is where the next one begins."""

    what: str
    path: Path
    offset: int
    data: bytes
    end: int


@functools.cache
def shim() -> Path | None:
    """The library, built for this machine; None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    target = Path(tempfile.mkdtemp(prefix="power-")) / "power_shim.so"
    source = Path(__file__).with_name("power_shim.c")
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(target), str(source), "-ldl", "-lpthread"],
        check=True,
        capture_output=True,
    )
    return target


def environment(library: Path, folder: Path, trace: Path) -> dict[str, str]:
    """What a child needs so that its writes below this folder are traced."""
    return {"LD_PRELOAD": str(library), "POWER_FOLDER": str(folder), "POWER_TRACE": str(trace)}


def read(trace: Path) -> list[Op]:
    """The whole trace; a line that was not finished is left out."""
    return list(_lines(trace.read_bytes()))


def _lines(raw: bytes) -> Iterator[Op]:
    at = 0
    while at + HEAD.size <= len(raw):
        what, length, offset, size = HEAD.unpack_from(raw, at)
        begin = at + HEAD.size
        at = begin + length + size
        if at > len(raw):
            return
        path = Path(raw[begin : begin + length].decode())
        yield Op(what.decode(), path, offset, raw[begin + length : at], at)


class _File:
    """What is surely on the disk, and what may be."""

    def __init__(self) -> None:
        self.synced: bytearray | None = None
        self.pending: list[Op] = []

    def sync(self) -> None:
        self.synced = self.image(None)
        self.pending = []

    def image(self, rng: random.Random | None) -> bytearray | None:
        """The file with its pending writes; with ``rng`` each of them only perhaps, and perhaps in part."""
        data = None if self.synced is None else bytearray(self.synced)
        keep = 1.0 if rng is None else rng.choice([0.0, 0.5, 0.9, 1.0])
        for op in self.pending:
            if rng is not None and rng.random() >= keep:
                continue
            if op.what == "U":
                data = None
                continue
            data = bytearray() if data is None else data
            if op.what == "T":
                del data[op.offset :]
                data.extend(bytes(op.offset - len(data)))
            else:
                written = op.data
                if rng is not None and keep < 1.0 and rng.random() < 0.2 and len(written) > SECTOR:
                    written = written[: SECTOR * rng.randrange(1, len(written) // SECTOR + 1)]
                end = op.offset + len(written)
                data.extend(bytes(max(end - len(data), 0)))
                data[op.offset : end] = written
        return data


def cut(ops: list[Op], number: int, rng: random.Random) -> dict[Path, bytes]:
    """The files after a power cut behind the first so many lines."""
    files: dict[Path, _File] = {}
    for op in ops[:number]:
        file = files.setdefault(op.path, _File())
        if op.what == "S":
            file.sync()
            # What happened to names goes to the disk in order, with the next sync of any file: the promise of
            # a journalling file system.
            for other in files.values():
                if other.pending and other.pending[-1].what == "U":
                    other.sync()
        elif op.what == "R":
            # Journalling file systems keep a rename whole; what it names was synced before, or may be lost.
            target = files.setdefault(Path(op.data.decode()), _File())
            target.synced, target.pending = file.synced, file.pending
            del files[op.path]
        else:
            file.pending.append(op)
    found = {path: file.image(rng) for path, file in files.items()}
    return {path: bytes(data) for path, data in found.items() if data is not None}
