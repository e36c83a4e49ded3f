"""The calls of a Jetstream v2 archive: what to download, and the downloads, each of one generation.

Compaction rewrites files at any time. What is fetched carries the checksum of the file that it comes from, so
a download that would mix two generations is noticed, and none of it is given out.
"""

from __future__ import annotations

import asyncio
import contextlib
import mmap
import re
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import IO, Any, Final, Literal, TypeVar

import msgspec

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import ApplianceError, BadInput, Refused, Unavailable
from appliance.outbound.client import Answer, Outbound
from appliance.outbound.limits import ARCHIVE_BLOCK, ARCHIVE_PLAN, ARCHIVE_SEGMENT, MB
from appliance.protocol import segments
from appliance.protocol.segments import Block, Segment

BLOCKS = telemetry.counter("archive_blocks", "Blocks of archive segments that were fetched.")
BYTES = telemetry.counter("archive_bytes", "Bytes of archive blocks and segments that were fetched.")

RETRIES = telemetry.counter("archive_retries", "Downloads out of the archive that were asked for again.")

SPACE: Final = "network.bsky.jetstream."
# https://github.com/bluesky-social/jetstream: planSnapshot
DIDS_MAX: Final = 10_000
COLLECTIONS_MAX: Final = 100
IN_MEMORY_MAX: Final = 8 * MB
BODY_MAX: Final = 256 * MB  # of a block, decompressed
AT_ONCE: Final = 4
TRIES_MAX: Final = 5
PAUSE_S: Final = 0.1
PAUSE_MAX_S: Final = 60.0
_NOT_THERE: Final = frozenset({"SegmentNotFound", "BlockNotFound"})
_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_CHECKSUM: Final = re.compile(r"[0-9a-f]{16}")

Kind = Literal["commit", "identity", "account", "sync"]
_T = TypeVar("_T")


class NewGeneration(ApplianceError):
    """The file was rewritten or removed since it was planned: only a new plan tells what to fetch."""

    name = "NewGeneration"


class Wanted(msgspec.Struct, frozen=True):
    """What is asked for; empty stands for everything."""

    kinds: tuple[Kind, ...] = ()
    dids: tuple[str, ...] = ()
    collections: tuple[str, ...] = ()


class Range(msgspec.Struct, frozen=True):
    """Numbers of blocks, both included."""

    first: int
    last: int


class Planned(msgspec.Struct, frozen=True, rename="camel"):
    """A segment file that may hold something wanted: as a whole, or these blocks of it."""

    name: str
    checksum: str
    min_seq: int
    max_seq: int
    mode: str
    blocks: tuple[Range, ...] = ()

    @property
    def numbers(self) -> list[int]:
        """The blocks to take."""
        return [number for part in self.blocks for number in range(part.first, part.last + 1)]


class Plan(msgspec.Struct, frozen=True, rename="camel"):
    """A page of the plan: what to fetch, how far that reaches, and where the whole archive ends."""

    planned_through_seq: int
    sealed_tip_seq: int
    segments: tuple[Planned, ...] = ()


class Fetched:
    """Blocks of one generation of a segment file, in their order. Its methods block."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[tuple[int, int]] = []
        self._segment: Segment | None = None

    def __len__(self) -> int:
        return len(self._places) if self._segment is None else len(self._segment.blocks)

    def add(self, frame: bytes) -> None:
        """One block more, as getBlock gave it."""
        self._places.append((self._file.seek(0, 2), len(frame)))
        self._file.write(frame)

    def whole(self, checksum: str) -> None:
        """The file is a whole segment. Raises BadInput, NewGeneration when it is another than that."""
        self._file.flush()
        if self._file.seek(0, 2) <= IN_MEMORY_MAX:
            self._file.seek(0)
            self._segment = Segment(self._file.read())
        else:
            self._segment = Segment(memoryview(mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)))
        if self._segment.checksum != checksum:
            raise NewGeneration("the segment is another than its ETag says")

    def block(self, number: int) -> Block:
        """Decompressed and checked. Raises BadInput."""
        if self._segment is not None:
            return self._segment.block(number, body_max=BODY_MAX)
        at, length = self._places[number]
        self._file.seek(at)
        return segments.decode_block(self._file.read(length), body_max=BODY_MAX)


class ArchiveClient:
    """One archive. Every call raises Unavailable, BadInput, Refused (the token), or NewGeneration."""

    def __init__(self, outbound: Outbound, origin: str, token: str, folder: Path, clock: Clock) -> None:
        self.origin = origin
        self._clock = clock
        self._outbound = outbound
        self._folder = folder
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    async def plan(self, wanted: Wanted, after_seq: int, before_seq: int | None) -> Plan:
        """What to fetch of the events above ``after_seq``, up to and with ``before_seq``."""
        assert len(wanted.dids) <= DIDS_MAX
        assert len(wanted.collections) <= COLLECTIONS_MAX
        asked: dict[str, Any] = {
            name: list(values)
            for name in ("kinds", "dids", "collections")
            if (values := getattr(wanted, name))
        }
        asked["afterSeq"] = after_seq
        if before_seq is not None:
            asked["beforeSeq"] = before_seq
        answer = await self._outbound.post(
            self._url("planSnapshot"), limits=ARCHIVE_PLAN, json=asked, headers=self._headers
        )
        _judge(answer)
        plan = _decoded(answer.body, Plan)
        _check(plan, after_seq, before_seq)
        return plan

    @contextlib.asynccontextmanager
    async def fetched(self, planned: Planned) -> AsyncIterator[Fetched]:
        """All that is planned of the segment, in one generation; its space is given back at the end."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with tempfile.SpooledTemporaryFile(IN_MEMORY_MAX, dir=str(self._folder)) as file:
            found = Fetched(file)
            if planned.mode == "blocks":
                numbers = planned.numbers
                for at in range(0, len(numbers), AT_ONCE):
                    for frame in await self._blocks(planned, numbers[at : at + AT_ONCE]):
                        await asyncio.to_thread(found.add, frame)
            else:
                await self._segment(planned, file)
                await asyncio.to_thread(found.whole, planned.checksum)
            yield found

    async def _blocks(self, planned: Planned, numbers: Sequence[int]) -> list[bytes]:
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._block(planned, number)) for number in numbers]
        except BaseExceptionGroup as failures:
            # The others were cancelled because of it.
            raise failures.exceptions[0] from None
        return [task.result() for task in tasks]

    async def _block(self, planned: Planned, number: int) -> bytes:
        """One block whose bytes are right. A failure costs this block alone, as far as it can be mended."""
        tries = 0
        while True:
            try:
                frame = await self._get_block(planned, number)
                await asyncio.to_thread(segments.inflate, frame, BODY_MAX)
            except (Unavailable, BadInput) as error:
                tries += 1
                await self._pause(tries, error)
            else:
                return frame

    async def _pause(self, tries: int, error: ApplianceError) -> None:
        """Wait before asking for the same thing again; raise the error where that makes no sense any more."""
        wait_s = PAUSE_S * 2**tries
        if isinstance(error, Unavailable) and error.retry_after_s is not None:
            wait_s = max(wait_s, error.retry_after_s)
        if tries >= TRIES_MAX or wait_s > PAUSE_MAX_S:
            raise error
        RETRIES.inc()
        await self._clock.sleep(wait_s)

    async def _get_block(self, planned: Planned, number: int) -> bytes:
        answer = await self._outbound.get(
            self._url("getBlock"),
            limits=ARCHIVE_BLOCK,
            params={"segment": planned.name, "blockIndex": number},
            headers=self._headers,
        )
        _judge(answer)
        if answer.headers.get("etag") != f'"{planned.checksum}:{number}"':
            raise NewGeneration("the block is of another file than was planned")
        BLOCKS.inc()
        BYTES.inc(len(answer.body))
        return answer.body

    async def _segment(self, planned: Planned, file: IO[bytes]) -> None:
        """The whole file. A download that is cut goes on where it ended, if the file is still the same."""
        have = tries = 0
        while True:
            before = have
            try:
                async for piece, begins in self._pieces(planned, have):
                    if begins:
                        have = begins - 1
                        await asyncio.to_thread(_cut, file, have)
                    await asyncio.to_thread(file.write, piece)
                    have += len(piece)
                    BYTES.inc(len(piece))
                    if have > ARCHIVE_SEGMENT.body_max:
                        raise BadInput("a segment that does not end", name="ResponseTooLarge")
            except Unavailable as error:
                tries = 0 if have > before else tries + 1
                await self._pause(tries, error)
            else:
                return

    async def _pieces(self, planned: Planned, have: int) -> AsyncIterator[tuple[bytes, int]]:
        """Bytes of the file from ``have`` on, or from its beginning where the archive prefers that.

        With the first comes where it stands, counted from 1; with the others 0.
        """
        etag = f'"{planned.checksum}"'
        headers = dict(self._headers)
        if have:
            headers |= {"range": f"bytes={have}-", "if-range": etag}
        async with self._outbound.stream(
            self._url("getSegment"), limits=ARCHIVE_SEGMENT, params={"name": planned.name}, headers=headers
        ) as streamed:
            if not streamed.ok:
                _judge(await streamed.read())
            if streamed.headers.get("etag") != etag:
                raise NewGeneration("the segment is of another generation than was planned")
            begins = 1
            if streamed.status == 206:
                if not streamed.headers.get("content-range", "").startswith(f"bytes {have}-"):
                    raise BadInput("the archive sent another range than was asked for")
                begins = have + 1
            async for piece in streamed:
                yield piece, begins
                begins = 0

    def _url(self, call: str) -> str:
        return f"{self.origin}/xrpc/{SPACE}{call}"


def _cut(file: IO[bytes], size: int) -> None:
    file.seek(size)
    file.truncate()


def _judge(answer: Answer) -> None:
    """Raise for every answer but a good one."""
    if answer.ok:
        return
    name = answer.error_name()
    if name in _NOT_THERE:
        raise NewGeneration("the archive does not have that file any more", name=name)
    if answer.status in (401, 403):
        raise Refused("the archive wants another token", name=name or "AuthenticationRequired")
    if 400 <= answer.status < 500 and answer.status not in (404, 408, 425):
        raise BadInput(f"the archive declined with status {answer.status}", name=name or "InvalidRequest")
    raise Unavailable(f"the archive answered with status {answer.status}")


def _decoded(body: bytes, kind: type[_T]) -> _T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput("the archive answered with something else than a plan") from error


def _check(plan: Plan, after_seq: int, before_seq: int | None) -> None:
    """A plan has to lead somewhere: every page further than the one before. Raises BadInput."""
    tip = plan.sealed_tip_seq
    if before_seq is not None and tip > before_seq:
        raise BadInput("the plan goes beyond what was asked for")
    if plan.planned_through_seq > tip or (after_seq < tip and plan.planned_through_seq <= after_seq):
        raise BadInput("a page of the plan that does not advance", name="PlanStuck")
    last = -1
    for planned in plan.segments:
        if not _NAME.fullmatch(planned.name) or not _CHECKSUM.fullmatch(planned.checksum):
            raise BadInput("the plan names a segment in another way than archives do")
        if not last < planned.min_seq <= planned.max_seq:
            raise BadInput("the segments of the plan are not in their order")
        last = planned.max_seq
        at = -1
        for part in planned.blocks:
            if not at < part.first <= part.last <= part.first + segments.ROWS_MAX:
                raise BadInput("the blocks of the plan are not in their order")
            at = part.last
