"""Every state that a repository was ever in, by rev: for judges, and for servers that lag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from appliance.devnet.repository import Repository


class Head(NamedTuple):
    """One commit. ``changes`` are those since the head numbered ``before``; without one it is everything."""

    rev: str
    time_us: int
    commit: bytes
    before: int | None
    changes: Mapping[str, bytes | None]


class Chronicle:
    """What happened in this life of the process, beginning with what was there."""

    def __init__(self) -> None:
        self._heads: dict[str, list[Head]] = {}
        self._now: dict[str, int] = {}
        self._by_rev: dict[tuple[str, str], int] = {}

    def whole(self, repository: Repository, time_us: int) -> None:
        """The repository is this from now on, whatever it was."""
        self._add(repository, time_us, None, dict(repository.records()))

    def changed(
        self, repository: Repository, time_us: int, changes: Iterable[tuple[str, bytes | None]]
    ) -> None:
        """It went on from where it was."""
        before = self._now.get(repository.did)
        if before is None:
            self.whole(repository, time_us)
        else:
            self._add(repository, time_us, before, dict(changes))

    def returned(self, did: str, rev: str, time_us: int) -> None:
        """It is again what it was at that rev; raises KeyError."""
        known = self._heads[did][self._by_rev[did, rev]]
        self._heads[did].append(known._replace(time_us=time_us))
        self._now[did] = len(self._heads[did]) - 1

    def revs(self, did: str) -> list[str]:
        """Of all heads, in the order in which they were."""
        return [head.rev for head in self._heads.get(did, [])]

    def broken_us(self, did: str) -> int:
        """Since when each head leads to the next: the last import, restore or new beginning."""
        heads = self._heads.get(did, [])
        at = len(heads) - 1
        while at > 0 and heads[at].before == at - 1:
            at -= 1
        return heads[at].time_us if heads else 0

    def since(self, did: str, rev: str) -> list[str]:
        """That rev and every later one; raises KeyError."""
        return [head.rev for head in self._heads[did][self._by_rev[did, rev] :]]

    def records(self, did: str, rev: str) -> dict[str, bytes] | None:
        """(path, block) of everything at that rev; None for a rev that never was."""
        at = self._by_rev.get((did, rev))
        return None if at is None else self._records(did, at)

    def repository(self, did: str, rev: str) -> Repository:
        """As it was; raises KeyError."""
        return self._repository(did, self._by_rev[did, rev])

    def as_of(self, did: str, time_us: int) -> Repository | None:
        """As it was then, or at its beginning."""
        heads = self._heads.get(did)
        if not heads:
            return None
        at = len(heads) - 1
        while at > 0 and heads[at].time_us > time_us:
            at -= 1
        return self._repository(did, at)

    def _add(
        self, repository: Repository, time_us: int, before: int | None, changes: Mapping[str, bytes | None]
    ) -> None:
        heads = self._heads.setdefault(repository.did, [])
        heads.append(Head(repository.rev, time_us, repository.commit_block, before, changes))
        self._now[repository.did] = len(heads) - 1
        self._by_rev[repository.did, repository.rev] = len(heads) - 1

    def _repository(self, did: str, at: int) -> Repository:
        return Repository(did, self._heads[did][at].commit, self._records(did, at).items())

    def _records(self, did: str, at: int) -> dict[str, bytes]:
        chain: list[Head] = []
        step: int | None = at
        while step is not None:
            chain.append(self._heads[did][step])
            step = chain[-1].before
        found: dict[str, bytes] = {}
        for head in reversed(chain):
            for path, block in head.changes.items():
                if block is None:
                    found.pop(path, None)
                else:
                    found[path] = block
        return found
