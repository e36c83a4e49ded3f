"""What a stream never tells anybody: events lost at random, accounts and servers that it does not see."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha256
from typing import NamedTuple

from appliance.devnet.entries import CommitBody, Event
from appliance.devnet.faults import Faults


class Lost(NamedTuple):
    """One operation that never arrived anywhere."""

    n: int
    time_us: int
    did: str
    path: str
    action: str
    rev: str
    why: str


@dataclass(slots=True, kw_only=True)
class Losses(Faults):
    """An event is judged once, when it first would have been told; whoever asks again hears no more.

    ``lose_share`` of all commits are lost at random, by ``seed``; nothing is told of ``hide_dids``, of
    ``hide_share`` of all accounts, and of the servers ``hide_pds`` while they stand here. ``lose_next``
    takes so many of the commits that come next, ``only_did`` those of one account.
    """

    seed: int = 0
    lose_share: float = 0.0
    hide_share: float = 0.0
    hide_dids: frozenset[str] = frozenset()
    hide_pds: frozenset[int] = frozenset()
    lose_next: int = 0
    only_did: str = ""
    judged: dict[int, str] = field(default_factory=dict)
    lost: list[Lost] = field(default_factory=list)

    def swallow(self, event: Event) -> bool:
        """Whether this event is one of them."""
        why = self.judged.get(event.n)
        if why is None:
            why = self.judged[event.n] = self._why(event)
            if why:
                self._note_lost(event, why)
        return bool(why)

    def hidden(self, did: str) -> bool:
        """Whether the stream is blind for this account now."""
        return did in self.hide_dids or self._chance(did) < self.hide_share

    def _why(self, event: Event) -> str:
        if event.pds in self.hide_pds:
            return "hide-pds"
        if self.hidden(event.did):
            return "hide"
        if not isinstance(event.body, CommitBody) or not event.body.writes:
            return ""
        if self.lose_next and self.only_did in ("", event.did):
            self.lose_next -= 1
            return "lose-next"
        return "lose" if self._chance(str(event.n)) < self.lose_share else ""

    def _chance(self, of: str) -> float:
        digest = sha256(f"{self.seed}/{of}".encode()).digest()
        return int.from_bytes(digest[:6], "big") / 2**48

    def _note_lost(self, event: Event, why: str) -> None:
        self.note(why, event.n, event.did)
        if isinstance(event.body, CommitBody):
            for write in event.body.writes:
                lost = Lost(event.n, event.time_us, event.did, write.path, write.action, event.body.rev, why)
                self.lost.append(lost)

    def _switches(self) -> set[str]:
        return Faults._switches(self) - {"judged", "lost"}
