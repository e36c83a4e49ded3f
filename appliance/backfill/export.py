"""A whole repository as its owner signed it: spooled to disk, hashed, walked from the root."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from typing import IO, NamedTuple

from appliance.errors import BadInput
from appliance.protocol import car, cbor, commits, mst
from appliance.protocol import cid as cids

IN_MEMORY_MAX = 8 * 1024 * 1024
CHUNK = 1024 * 1024
# A repository of a million records; the index of its blocks takes about 250 MB.
BLOCKS_MAX = 1_500_000
_LENGTH_BITS = 24


class Entry(NamedTuple):
    """A record that the tree names."""

    collection: str
    rkey: str
    cid: bytes


class NotSigned(BadInput):
    """The commit is not signed by the key that we know: it may have been rotated."""

    name = "InvalidSignature"


class Export:
    """A repository export on disk. Blocks are hashed as they come in; ``open`` proves the rest.

    Its methods block, so they are called in a thread, one at a time.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(  # noqa: SIM115 - closed by close()
            IN_MEMORY_MAX, dir=str(folder)
        )
        self._reader = car.Reader()
        self._places: dict[bytes, int] = {}
        self._end = 0

    def close(self) -> None:
        """Let go of the space."""
        self._file.close()
        self._places.clear()

    def add(self, chunk: bytes) -> None:
        """The next bytes of the CAR. Raises BadInput for a block that is not what its CID says."""
        for cid, block in self._reader.feed(chunk):
            self._places[cid] = self._end << _LENGTH_BITS | len(block)
            self._file.write(block)
            self._end += len(block)
        if len(self._places) > BLOCKS_MAX:
            raise BadInput("the repository has more blocks than are read", name="ResponseTooLarge")

    def end(self) -> None:
        """No more bytes come. Raises BadInput when the last block is cut."""
        self._reader.close()

    def block(self, cid: bytes) -> bytes | None:
        """A block, or None when the export doesn't hold it."""
        place = self._places.get(cid)
        if place is None:
            return None
        self._file.seek(place >> _LENGTH_BITS)
        return self._file.read(place & (1 << _LENGTH_BITS) - 1)

    def commit(self, did: str, key: str) -> commits.Commit:
        """The signed commit at the root. Raises BadInput, NotSigned for another key's signature."""
        block = self.block(self._reader.root)
        if block is None:
            raise mst.Missing(self._reader.root)
        commit = commits.parse(block)
        if commit.did != did:
            raise BadInput("the PDS answered with another account's repository", name="WrongRepository")
        if not commits.verify(commit, key):
            raise NotSigned("the repository is not signed by its account")
        return commit

    def entries(self, commit: commits.Commit, wanted: Collection[str]) -> list[Entry]:
        """Every record of these collections that the commit's tree names, in the order of the tree.

        The whole tree is walked: a missing node, or a missing record among those wanted, raises
        ``mst.Missing``. A CAR that was cut between two blocks shows itself only by that.
        """
        found: list[Entry] = []
        for path, cid in mst.Tree(self.block, commit.data).items():
            collection, _, rkey = path.partition("/")
            if collection in wanted:
                if cid not in self._places:
                    raise mst.Missing(cid)
                found.append(Entry(collection, rkey, cid))
        return found

    def records(self, entries: list[Entry]) -> list[tuple[Entry, str, bytes]]:
        """Each with the text of its CID and its record as JSON.

        One that can't be JSON becomes an empty object, which no lexicon allows: the repository has it,
        so it counts, and nobody sees it.
        """
        rows = []
        for entry in entries:
            block = self.block(entry.cid)
            assert block is not None  # entries() saw it
            try:
                body = cbor.to_json(block)
            except BadInput:
                body = b"{}"
            rows.append((entry, cids.to_text(entry.cid), body))
        return rows


@contextlib.asynccontextmanager
async def fetched(pieces: AsyncIterator[bytes], folder: Path) -> AsyncIterator[Export]:
    """The export, complete; its space is given back at the end of the block."""
    export = Export(folder)
    try:
        waiting = bytearray()
        async with contextlib.aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                waiting += piece
                if len(waiting) >= CHUNK:
                    await asyncio.to_thread(export.add, bytes(waiting))
                    waiting.clear()
        await asyncio.to_thread(export.add, bytes(waiting))
        export.end()
        yield export
    finally:
        # Here and now: a task that is cancelled twice would leave it open.
        export.close()
