"""What a connection asks for: everybody's events, or those of a list of accounts."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property
from typing import Final

from appliance.store.coverage import Mode
from appliance.store.upstreams import OF_LIST

# Jetstream takes 10,000; accounts are added between two looks.
PER_CONNECTION_MAX: Final = 9_500
CONNECTIONS_MAX: Final = 3
# They travel in the address, which proxies cut at 8 kB.
V2_MAX: Final = 150
_HASH_SHOWN: Final = 12


class Wanted:
    """The filter of a connection. ``dids`` None is everybody; an empty list there is not."""

    def __init__(self, mode: Mode, dids: Iterable[str] | None = None, canaries: Iterable[str] = ()) -> None:
        self.mode = mode
        self.dids = None if dids is None else frozenset(dids)
        self.canaries = frozenset(canaries)
        if self.dids is None:
            assert mode == "FULL"
            return
        # An empty list is taken for no filter: it would turn the whole network on us.
        assert self.dids, "a list of accounts is never empty"
        assert mode != "FULL"
        most = V2_MAX if mode == "DIDS-V2" else PER_CONNECTION_MAX
        assert len(self.dids) <= most, f"{len(self.dids)} accounts for one connection"

    @cached_property
    def asked(self) -> list[str]:
        """The list as it is sent: accounts, and canaries as far as there is room."""
        assert self.dids
        room = (V2_MAX if self.mode == "DIDS-V2" else 10_000) - len(self.dids)
        return sorted(self.dids | set(sorted(self.canaries - self.dids)[:room]))

    @cached_property
    def hash(self) -> str:
        """Names the list; '' is everybody."""
        if self.dids is None:
            return ""
        return hashlib.sha256("\n".join(sorted(self.dids)).encode()).hexdigest()

    def name(self, upstream: str) -> str:
        """The key under which the position of such a connection to that upstream is stored."""
        return upstream if self.dids is None else f"{upstream}{OF_LIST}{self.hash[:_HASH_SHOWN]}"


EVERYBODY: Final = Wanted("FULL")


def host_of(name: str) -> str:
    """The upstream's own name in the key of a position."""
    return name.partition(OF_LIST)[0]


def divided(
    wanted: Collection[str], held: Sequence[frozenset[str]], per_connection: int, connections: int
) -> list[frozenset[str]]:
    """The lists for so many accounts at most. A list of ``held`` to which nothing is added stays as it is,
    though some of it may not be wanted any more: to take an account off is never urgent."""
    kept_on = set(wanted)
    lists = [set(one) for one in held]
    new = sorted(kept_on.difference(*lists))
    for tidied in (False, True):
        for one in lists:
            if tidied and new and one - kept_on:
                one &= kept_on
            room = max(per_connection - len(one), 0)
            if new and room:
                one &= kept_on
                one.update(new[:room])
                new = new[room:]
    while new:
        lists.append(set(new[:per_connection]))
        new = new[per_connection:]
    kept = [frozenset(one) for one in lists if one & kept_on]
    assert len(kept) <= connections, f"{len(wanted)} accounts for {connections} connections"
    return kept
