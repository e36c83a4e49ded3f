"""Events about accounts as a whole. They have no rev, so they never destroy what has one."""

from __future__ import annotations

from typing import Final

from appliance.ingest import chain
from appliance.protocol.events import AccountEvent
from appliance.store import actors, repos
from appliance.store.database import Transaction

# The relay's own trouble with an account says nothing about the account:
# https://atproto.com/specs/account
_NOT_THE_ACCOUNTS: Final = frozenset({"desynchronized", "throttled"})


def account_changed(tx: Transaction, actor: int, event: AccountEvent, upstream: str, now_us: int) -> None:
    """Hosting status. Inactive hides everything and keeps it; active again asks for a snapshot."""
    if not event.active and event.status in _NOT_THE_ACCOUNTS:
        if repos.find(tx, actor) is not None:
            from_us = chain.last_good_us(tx, actor)
            repos.suspect(tx, actor, f"account {event.status}", now_us, from_us=from_us)
        return
    status = None if event.active else event.status or "deactivated"
    if not actors.set_status(tx, actor, status, upstream, event.upstream_seq):
        return
    if status is None:
        repos.reactivate(tx, actor, now_us)
    else:
        repos.deactivate(tx, actor, status, now_us)


def status_found(tx: Transaction, actor: int, status: str | None, now_us: int) -> None:
    """What the account's own PDS says about it; it wins over any upstream."""
    actors.confirm_status(tx, actor, status)
    if status is None:
        repos.reactivate(tx, actor, now_us)
    else:
        repos.deactivate(tx, actor, status, now_us)


def moved(tx: Transaction, actor: int, now_us: int) -> None:
    """Another server or key: what the new one holds may have come without commits, so all of it is read."""
    repos.suspect(tx, actor, "server or key changed", now_us)


def identity_changed(tx: Transaction, actor: int) -> None:
    """Document and handle have to be fetched anew before they are believed again."""
    actors.identity_due(tx, actor)
