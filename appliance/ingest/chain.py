"""Whether each commit follows the one before it: the last known tree of an account against what comes next.

Runs inside the writer, before the operations of the commit, so that chain and rows move on together and
the chain goes on after a restart, a reconnection and a snapshot.
"""

from __future__ import annotations

from appliance import telemetry
from appliance.errors import BadInput
from appliance.protocol.events import HeadEvent
from appliance.protocol.tid import tid_us
from appliance.store import chains, scans
from appliance.store.chains import Head
from appliance.store.database import Transaction

log = telemetry.Log("ingest")
BREAKS = telemetry.counter(
    "ingest_chain_breaks", "Commits that do not follow what was known of their account."
)

# A rev may be this far ahead of the clock of whoever passes it on: https://atproto.com/specs/sync
_AHEAD_US = 5 * 60 * 1_000_000

BROKEN = "a commit before this one is missing"
JUMPED = "the repository jumped"
FORKED = "two trees at one rev"


def follow(tx: Transaction, actor: int, event: HeadEvent) -> tuple[str, int | None]:
    """Move the account's chain to this commit.

    What is to be doubted, empty if nothing is; and since when: the upstream time of the last commit
    that was good, None for since ever.
    """
    if event.data is None:
        return event.doubt, last_good_us(tx, actor)
    known = chains.head(tx, actor)
    doubt = event.doubt or _break(known, event)
    since_us = _good_until_us(known)
    if event.rev >= known.rev:
        chains.advance(tx, actor, event.rev, event.data)
    if doubt and is_being_read(tx, actor, event.rev):
        return "", None
    if doubt and not event.doubt:
        fields = {"did": event.did, "rev": event.rev, "head_rev": known.rev, "why": doubt}
        tx.announce(lambda: _tell(fields))
    return doubt, since_us


def last_good_us(tx: Transaction, actor: int) -> int | None:
    """The upstream time up to which nothing is missing, as far as the chain of this account shows."""
    return _good_until_us(chains.head(tx, actor))


def is_being_read(tx: Transaction, actor: int, rev: str) -> bool:
    """Whether a snapshot is under way that shows everything up to that commit."""
    scan = scans.find_of(tx, actor)
    return scan is not None and scan.base_rev >= rev


def _break(known: Head, event: HeadEvent) -> str:
    if event.rev < known.rev:
        # Sent again or late: rows have versions of their own.
        return ""
    if event.rev == known.rev:
        return FORKED if known.data_cid not in (None, event.data) else ""
    if event.jump:
        return "" if known.data_cid == event.data else JUMPED
    if not known.rev or known.rev < known.seen_rev < event.rev:
        # Nothing was known, or others have shown commits since that tell no tree: it begins here.
        return ""
    if known.data_cid is None or event.before is None:
        return "" if event.since == known.rev else BROKEN
    return "" if event.before == known.data_cid else BROKEN


def _good_until_us(known: Head) -> int | None:
    rev = known.rev or known.seen_rev
    try:
        good_us = tid_us(rev)
    except BadInput:
        return None
    if known.cert_us is not None and known.cert_rev is not None and known.cert_rev >= rev:
        good_us = max(good_us, known.cert_us)
    return max(good_us - _AHEAD_US, 0)


def _tell(fields: dict[str, str]) -> None:
    BREAKS.inc()
    log.warning("chain_broken", **fields)
