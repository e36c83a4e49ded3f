"""Who is tracked, in memory: the question is asked for every event of the network.

Lives in the writer's thread. The database gives the set of tracked accounts a new random name each
time it changes (triggers of table repo), so a set from a transaction that was undone is noticed too.
"""

from __future__ import annotations

from typing import NamedTuple

from appliance.store import actors, repos
from appliance.store.database import Transaction


class TrackedRepo(NamedTuple):
    """What the merge rule needs of a tracked account."""

    actor: int
    epoch: int


class Tracked:
    """DIDs of all rows of ``repo``, as of the transaction that last called ``refresh``."""

    def __init__(self) -> None:
        self._version: str | None = ""
        self._repos: dict[str, TrackedRepo] = {}
        self.find = self._repos.get

    def __len__(self) -> int:
        return len(self._repos)

    def refresh(self, tx: Transaction) -> None:
        """Agree with this transaction; cheap when nothing has changed."""
        version = repos.tracked_version(tx)
        if version != self._version:
            self._repos = {did: TrackedRepo(actor, epoch) for did, actor, epoch in repos.tracked(tx)}
            self.find = self._repos.get
            self._version = version

    def add(self, tx: Transaction, actor: int) -> None:
        """One more, made in this transaction after ``refresh``."""
        repo = repos.find(tx, actor)
        assert repo is not None
        self._repos[actors.did_of(tx, actor)] = TrackedRepo(actor, repo.epoch)
        self._version = repos.tracked_version(tx)
