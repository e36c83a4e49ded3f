"""An account as it is in truth, and what the stream has yet to tell of it. Knows nothing of the store."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator
from hashlib import sha256
from typing import Final, NamedTuple

from appliance.protocol.events import AccountEvent, CommitEvent, Event
from appliance.protocol.tid import tid_of

START_US: Final = 1_767_225_600_000_000
KEYS: Final = 4
PAGE: Final = 2
NSID: Final = "app.bsky.feed.post"
RKEYS: Final = [tid_of(START_US - 1_000_000 + key) for key in range(KEYS)]
BODY: Final = b'{"text":"%d","createdAt":"2026-01-01T00:00:00Z"}'
_DIGITS: Final = str.maketrans("0189", "abcd")

Status = str | None


def did_of(name: str, number: int) -> str:
    """A DID that tells its number."""
    return f"did:plc:{name}{number:023d}".translate(_DIGITS)


def cid(value: int) -> str:
    """A CID that tells the value."""
    return f"bafyrei{value:012d}".translate(_DIGITS) + "a" * 40


class Clock:
    """The time of everybody; no two readings are equal."""

    def __init__(self) -> None:
        self.us = START_US + 1_000_000

    def tick(self) -> int:
        """A moment later."""
        self.us += 1_000
        return self.us


class Shown(NamedTuple):
    """A page of a listing."""

    rows: list[tuple[int, int]]
    cursor: str | None


class World:
    """One account as it is in truth, and the part of its story that the stream has not told yet."""

    def __init__(self, did: str, chance: random.Random, clock: Clock) -> None:
        self.did = did
        self.clock = clock
        self.chance = chance
        self.status: Status = None
        self.rev = tid_of(clock.tick())
        self.state: dict[int, int] = {}
        self.past: list[tuple[str, dict[int, int]]] = [(self.rev, {})]
        self.feed: deque[Event] = deque()
        self.told: deque[CommitEvent] = deque(maxlen=4)
        # What we can't know of: what is here may be wrong until somebody compares, and rightly so.
        self.secrets = 0

    def commit(self) -> None:
        """The owner writes or deletes a record."""
        if self.status is not None:
            return
        key = int(self.chance.random() * KEYS)
        at_us = self.clock.tick()
        self.rev = tid_of(at_us)
        self.state = dict(self.state)
        gone = key in self.state and self.chance.random() < 0.5
        value = None if gone else int(self.chance.random() * 2**30)
        if value is None:
            del self.state[key]
        else:
            self.state[key] = value
        self.past.append((self.rev, self.state))
        self.feed.append(
            CommitEvent(
                self.did,
                self.rev,
                0,
                "delete" if value is None else "create",
                NSID,
                RKEYS[key],
                None if value is None else cid(value),
                None if value is None else BODY % value,
                at_us,
            )
        )

    def turn(self, status: Status, *, told: bool) -> None:
        """The account becomes active, or anything else. ``told`` by the stream or not."""
        self.status = status
        if told:
            self.say(status)
        else:
            self.secrets += 1

    def say(self, status: Status) -> None:
        """The stream tells a status, true or not."""
        at_us = self.clock.tick()
        self.feed.append(AccountEvent(self.did, status is None, status, at_us, at_us))

    def roll_back(self) -> None:
        """The server was restored from an older copy. The stream does not tell."""
        self.past = self.past[: 1 + int(self.chance.random() * len(self.past))]
        self.rev, self.state = self.past[-1]
        self.told.clear()
        self.secrets += 1

    def begin_anew(self, *, told: bool) -> None:
        """After its deletion somebody has an account of this name again, whose revs begin earlier."""
        self.rev = tid_of(START_US + int(self.chance.random() * 1000))
        self.state = {}
        self.past = [(self.rev, {})]
        self.told.clear()
        self.turn(None, told=told)

    def lose(self) -> None:
        """Something that the stream had to tell is lost."""
        del self.feed[int(self.chance.random() * len(self.feed))]
        self.secrets += 1

    def take(self) -> Iterator[Event]:
        """What the stream tells next."""
        number = 1 + int(self.chance.random() * len(self.feed)) if self.feed else 0
        for _ in range(number):
            event = self.feed.popleft()
            if isinstance(event, CommitEvent):
                self.told.append(event)
            yield event

    def listing(self, after: str | None) -> Shown:
        """One page, newest first."""
        keys = sorted((key for key in self.state if after is None or RKEYS[key] < after), reverse=True)
        shown = keys[:PAGE]
        more = len(keys) > PAGE
        return Shown([(key, self.state[key]) for key in shown], RKEYS[shown[-1]] if more else None)

    def digest(self) -> tuple[bytes, int]:
        """As anybody computes it."""
        return digest_of(self.state)


def digest_of(state: dict[int, int]) -> tuple[bytes, int]:
    """SHA-256 over the sorted lines."""
    lines = sorted(f"{NSID}/{RKEYS[key]} {cid(value)}\n".encode() for key, value in state.items())
    return sha256(b"".join(lines)).digest(), len(lines)
