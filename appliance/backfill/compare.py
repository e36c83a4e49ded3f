"""What an account's PDS lists, or what its signed tree names, against our rows: key by key.

A key of which the stream has shown us something newer than the rev at which reading began says nothing, so
the repository needn't stand still meanwhile.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, Literal, NamedTuple

from appliance.backfill import listing
from appliance.backfill.listing import Part, Read
from appliance.backfill.pds import Pds
from appliance.backfill.tools import Tools
from appliance.errors import Unavailable
from appliance.protocol import syntax, tid
from appliance.store import collections, findings, records
from appliance.store.database import Reader
from appliance.store.findings import Difference

# A listing of a thousand pages is not begun anew for one refusal.
TRIES: Final = 5
PAUSE_S: Final = 10.0
PAUSE_MAX_S: Final = 300.0
# How long a comparison waits for the stream to bring what would explain a difference.
PATIENCE_S: Final = 90.0
STEP_S: Final = 5.0
# The clocks of servers that stamp revs are trusted to be right within this.
CLOCKS_US: Final = 600_000_000


class Theirs(NamedTuple):
    """The repository as it was read: CIDs by collection and key.

    ``began`` and ``ended`` are its revs before and after. ``lowest`` is the key of each collection down to
    which it was read, '' where that is the end.
    """

    began: str
    ended: str
    method: Literal["listing", "signed"]
    listed: dict[str, dict[str, str]]
    lowest: dict[str, str]

    @property
    def exact(self) -> bool:
        """Whether all of it is the repository at one rev."""
        return self.began == self.ended

    @property
    def whole(self) -> bool:
        """Whether every collection was read to its end."""
        return not any(self.lowest.values())

    @property
    def number(self) -> int:
        """Records read."""
        return sum(len(rows) for rows in self.listed.values())

    def digest(self) -> tuple[bytes, int]:
        """As records.digest makes it of our rows."""
        return records.digest_of(
            (nsid, rkey, cid) for nsid, rows in self.listed.items() for rkey, cid in rows.items()
        )


async def read(
    tools: Tools, pds: Pds, did: str, began: str, nsids: Sequence[str], whole: Collection[str]
) -> Theirs:
    """List these collections, those in ``whole`` to their end and of the others the newest page.

    ``began`` has to be asked for before. A host that can't be brought to list the newest first is read to
    the end: its first page says nothing about what is new. Raises as Pds, and Disordered.
    """
    listed: dict[str, dict[str, str]] = {}
    lowest: dict[str, str] = {}
    for nsid in nsids:
        rows = listed[nsid] = {}
        lowest[nsid] = ""
        part: Part | None = Part(nsid)
        while part is not None:
            page = await _page(tools, pds, did, part)
            rows.update((row.rkey, row.cid) for row in page.rows)
            part = page.following
            if part is not None and nsid not in whole and part.upward is not True:
                lowest[nsid] = min(rows, default="")
                break
    return Theirs(began, await pds.latest_rev(did), "listing", listed, lowest)


async def _page(tools: Tools, pds: Pds, did: str, part: Part) -> Read:
    for left in reversed(range(TRIES)):
        try:
            return await listing.read(pds, did, part, None)
        except Unavailable as error:
            if not left or part.pages == 0:
                raise
            named_s = error.retry_after_s
            await tools.clock.sleep(min(PAUSE_S if named_s is None else named_s, PAUSE_MAX_S))
    raise AssertionError("the last try raises")


def differences(reader: Reader, actor: int, epoch: int, theirs: Theirs) -> list[Difference]:
    """What is missing here, too much, or another version, as far as that was read."""
    accepted = findings.accepted(reader, actor)
    found = []
    for nsid, listed in theirs.listed.items():
        number = collections.NUMBERS[nsid]
        ours = records.held(reader, actor, number, theirs.lowest[nsid])
        # Older than this the operator did not want it: BACKFILL_DAYS.
        oldest = "" if records.floor(reader, actor, number) is not None else min(ours, default="~")
        for rkey in listed.keys() | ours.keys():
            held = ours.get(rkey)
            here = held.cid if held is not None and held.state != records.DELETED else None
            there = listed.get(rkey)
            if here == there or (held is None and rkey < oldest):
                continue
            if held is not None and (held.epoch, held.rev) > (epoch, theirs.began):
                continue
            if (number, rkey, here or there) in accepted:
                continue
            found.append(Difference(number, rkey, here, there))
    found.sort(key=lambda one: (one.collection, one.rkey), reverse=True)
    return found


async def lasting(
    tools: Tools, actor: int, epoch: int, theirs: Theirs, patience_s: float
) -> tuple[list[Difference], bool]:
    """The differences that remain when the stream has had the time to bring what explains them, and
    whether it has had that time."""
    ended_us = tools.clock.now_us()
    found = await tools.database.read(lambda r: differences(r, actor, epoch, theirs))
    if not found:
        return found, True
    due_us = min(ended_us, tid.tid_us(theirs.ended) + CLOCKS_US) if syntax.is_tid(theirs.ended) else ended_us
    waited_s = 0.0
    while (told := await tools.told_until_us() >= due_us) is False:
        if tools.lag_s is None or waited_s >= patience_s:
            break
        await tools.clock.sleep(STEP_S)
        waited_s += STEP_S
    found = await tools.database.read(lambda r: differences(r, actor, epoch, theirs))
    return found, told
