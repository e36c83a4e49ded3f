"""What can be chosen about a devnet."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from appliance.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Dialect:
    """How a PDS differs from the next one where the specification leaves room, or is ignored.

    ``descending``: order of listRecords. ``cursor``: whether the last page carries one: when it is
    ``full``, ``never``, or ``always`` as long as a page has records. ``rate``: requests allowed in so many
    seconds, told by headers. ``delay_s``: the least time of an answer.
    """

    name: str
    descending: bool = True
    cursor: Literal["full", "never", "always"] = "full"
    opaque_cursor: bool = False
    latest_commit: bool = True
    rate: tuple[int, float] | None = (3000, 300.0)
    delay_s: float = 0.0


DIALECTS = (
    Dialect("reference"),
    Dialect("ascending", descending=False, cursor="never", latest_commit=False),
    Dialect("slow", cursor="always", opaque_cursor=True, rate=(120, 10.0), delay_s=0.02),
)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything about one devnet.

    ``port`` is the first of consecutive ports, 0 takes free ones; ``data`` None means a folder that
    goes with the network. ``rate`` is events per second of the living world, 0 lets it stand still.
    ``appview`` is the origin where app.bsky calls without ``atproto-proxy`` go. Streams can go back
    ``retention_s`` seconds, and at least ``retention_events`` events. With ``archive`` the streams are told
    of the whole past in the beginning, so that the archive of Jetstream v2 holds it; ``archive_token`` is
    what it asks for, if anything.
    """

    port: int = 0
    data: Path | None = None
    accounts: int = 40
    posts: int = 50
    members: int = 3
    rate: float = 2.0
    seed: int = 1
    info: Path | None = None
    pds: int = 3
    dialects: tuple[Dialect, ...] = DIALECTS
    appview: str = ""
    appview_did: str = ""
    retention_s: float = 6 * 3600.0
    retention_events: int = 20_000
    archive: bool = False
    archive_token: str = ""
    clock: Clock = field(default_factory=SystemClock)
