"""Native modules as files: what machine and C library they need, and their weight without debug data."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

ELF = b"\x7fELF\x02\x01"  # 64 bits, little-endian
MACHINES = {62: "x86_64", 183: "aarch64"}  # e_machine in the ELF specification


def modules(site: Path) -> Iterator[Path]:
    """Every native module and library under the folder."""
    for path in sorted(site.rglob("*")):
        if path.is_file() and (path.suffix == ".so" or ".so." in path.name):
            yield path


def machine(path: Path) -> str:
    """The processor that a module is made for."""
    with path.open("rb") as file:
        head = file.read(20)
    if not head.startswith(ELF):
        return "unknown"
    return MACHINES.get(struct.unpack_from("<H", head, 18)[0], "unknown")


def glibc(path: Path) -> tuple[int, int]:
    """The oldest C library that has all that the module asks for; (0, 0) when it asks for none."""
    found = re.findall(rb"GLIBC_(\d+)\.(\d+)", path.read_bytes())
    return max(((int(major), int(minor)) for major, minor in found), default=(0, 0))


def drop_debug_data(path: Path) -> int:
    """Cut off what only a debugger reads; the bytes saved.

    The loader goes by the program header alone, so everything after the last segment may go,
    together with the table of sections that describes it.
    """
    data = path.read_bytes()
    if not data.startswith(ELF) or b".debug_info" not in data:
        return 0
    start, sections = struct.unpack_from("<QQ", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    ends = []
    for index in range(count):
        offset, length = struct.unpack_from("<Q16xQ", data, start + index * size + 8)
        ends.append(offset + length)
    end = max(ends, default=0)
    if not 64 < end <= sections:
        return 0
    head = bytearray(data[:end])
    struct.pack_into("<Q", head, 40, 0)
    struct.pack_into("<HHH", head, 58, 64, 0, 0)
    path.write_bytes(head)
    return len(data) - end
