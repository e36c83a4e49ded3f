"""An append-only file of entries that survives being killed: length, checksum, bytes.

An entry is written by one system call, so a killed process leaves at most one torn entry at the
end; opening cuts it off. Not made for power loss.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from appliance.devnet.entries import Entry, Proof, decoder, encoder

_HEAD = 8


class Journal:
    """One file. Read it through with ``replay`` before the first ``append``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        self.size = 0

    def replay(self) -> Iterator[tuple[int, Entry]]:
        """Every whole entry with its offset; the rest of the file is cut off."""
        data = self.path.read_bytes()
        view = memoryview(data)
        at = 0
        while len(view) - at >= _HEAD:
            length = int.from_bytes(view[at : at + 4], "little")
            body = view[at + _HEAD : at + _HEAD + length]
            if len(body) < length or crc32(body) != int.from_bytes(view[at + 4 : at + _HEAD], "little"):
                break
            yield at, decoder.decode(body)
            at += _HEAD + length
        os.ftruncate(self._file, at)
        self.size = at

    def append(self, entry: Entry) -> int:
        """Write it; returns its offset."""
        body = encoder.encode(entry)
        data = len(body).to_bytes(4, "little") + crc32(body).to_bytes(4, "little") + body
        at = self.size
        written = os.write(self._file, data)
        while written < len(data):
            written += os.write(self._file, data[written:])
        self.size += len(data)
        return at

    def read(self, at: int) -> Entry:
        """The entry at an offset that ``append`` or ``replay`` gave."""
        head = os.pread(self._file, _HEAD, at)
        return decoder.decode(os.pread(self._file, int.from_bytes(head[:4], "little"), at + _HEAD))

    def close(self) -> None:
        os.close(self._file)


class Proofs:
    """The tree nodes of recent events, in files that go when nobody may ask for them any more."""

    _FILE_BYTES = 8 << 20

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._files: list[tuple[int, Journal]] = []
        self._places: dict[int, tuple[Journal, int]] = {}
        for path in sorted(folder.glob("*.log")):
            journal = Journal(path)
            self._files.append((int(path.stem), journal))
            for at, entry in journal.replay():
                if isinstance(entry, Proof):
                    self._places[entry.n] = (journal, at)

    def put(self, n: int, nodes: list[bytes]) -> None:
        """Keep the nodes of event ``n``; a number written anew replaces what was never announced."""
        if not self._files or self._files[-1][1].size > self._FILE_BYTES:
            self._files.append((n, Journal(self._folder / f"{n:012}.log")))
        journal = self._files[-1][1]
        self._places[n] = (journal, journal.append(Proof(n, nodes)))

    def get(self, n: int) -> list[bytes]:
        """Empty where they are gone."""
        place = self._places.get(n)
        if place is None:
            return []
        entry = place[0].read(place[1])
        return entry.nodes if isinstance(entry, Proof) else []

    def drop_below(self, n: int) -> None:
        """Let go of files whose events are all older."""
        while len(self._files) > 1 and self._files[1][0] <= n:
            _, journal = self._files.pop(0)
            journal.close()
            journal.path.unlink(missing_ok=True)
            self._places = {key: place for key, place in self._places.items() if place[0] is not journal}

    def close(self) -> None:
        for _, journal in self._files:
            journal.close()
