"""Events of any upstream become rows, together with the position that they reach.

Runs inside the writer. An event that can't be applied is kept as a dead letter, its account goes
into doubt, and the position moves on.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from appliance.errors import ApplianceError, BadInput, Corrupt
from appliance.ingest import accounts, chain, concerned, merge
from appliance.ingest.concerned import Concerned
from appliance.ingest.merge import Fact, Rules, Verdict
from appliance.ingest.tracked import Tracked
from appliance.protocol.events import (
    AccountEvent,
    BrokenEvent,
    CommitEvent,
    Event,
    HeadEvent,
    IdentityEvent,
    SyncEvent,
)
from appliance.protocol.syntax import is_record_key, is_tid, normalise_did
from appliance.protocol.tid import tid_of
from appliance.store import (
    actors,
    collections,
    coverage,
    dead_letters,
    fetches,
    findings,
    records,
    repos,
    upstreams,
)
from appliance.store.collections import NUMBERS
from appliance.store.database import Transaction

# A rev may be this far ahead of our clock: https://atproto.com/specs/sync
REV_AHEAD_MAX_US = 5 * 60 * 1_000_000
_LAST_CLOCK = 1023
_LAST_TID_US = 2**53 - 1
# Version 1, DAG-CBOR, SHA-256, in base32: https://atproto.com/specs/data-model
_CID_OF_RECORD = "bafyrei"
_CID_LENGTH = 59


class Batch(msgspec.Struct, frozen=True):
    """Events of one upstream in its order, and where they end: one commit.

    ``seq`` is the upstream's number of the last event where the wire has numbers; ``time_us`` its
    clock there. Both are None when nothing has moved yet. ``line`` is the key of the position where that
    isn't the upstream alone. Of a connection that is not in force the position is not stored (``stored``).
    ``archived``: the events are read from the upstream's archive, by accounts: whom they make tracked is
    covered from now on only, because what the archive goes on to tell of them was not asked for.
    """

    upstream: str
    wire: Literal["jetstream-v1", "jetstream-v2", "relay"]
    seq: int | None
    time_us: int | None
    events: list[Event]
    line: str = ""
    stored: bool = True
    archived: bool = False


class Tally(msgspec.Struct):
    """What became of a batch, by number of events."""

    applied: int = 0
    known: int = 0
    old: int = 0
    strangers: int = 0
    unknown_collection: int = 0
    accounts: int = 0
    dead: int = 0
    suspected: int = 0
    newly_tracked: int = 0


class Applier:
    """Applies events; keeps the set of tracked accounts. Belongs to the writer's thread."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.tracked = Tracked()
        self.concerned = Concerned()

    def refresh(self, tx: Transaction) -> None:
        """Know the tracked accounts and the members of this transaction."""
        self.tracked.refresh(tx)
        self.concerned.refresh(tx)

    def apply_batch(self, tx: Transaction, batch: Batch, *, now_us: int) -> Tally:
        """Apply the events and store the position, all in this transaction.

        One event that raises costs only itself: the batch is then gone through again, each event in
        a savepoint of its own. Raises where our own store is at fault.
        """
        tally = self._apply_all(tx, batch, now_us)
        if batch.stored:
            self._reached(tx, batch, now_us)
        return tally

    def apply_history(
        self,
        tx: Transaction,
        source: str,
        seq: int,
        events: Sequence[Event],
        epochs: Mapping[str, int],
        *,
        now_us: int,
    ) -> Tally:
        """Apply what an archive tells of accounts' past, up to its number ``seq``, as ``apply_batch`` would.

        It touches no stream's position. Accounts that are not tracked in the epoch that they had when the
        archive was asked are left out: revs from before an epoch don't compare with those in it.
        """
        self.refresh(tx)
        chosen = [
            event
            for event in events
            if event.did is not None
            and (repo := self.tracked.find(event.did)) is not None
            and repo.epoch == epochs.get(event.did)
        ]
        return self._apply_all(tx, Batch(source, "jetstream-v2", seq, None, chosen, archived=True), now_us)

    def _apply_all(self, tx: Transaction, batch: Batch, now_us: int) -> Tally:
        self.refresh(tx)
        try:
            with tx.savepoint():
                run = _Run(self, tx, batch, now_us)
                for event in batch.events:
                    run.take(event)
                run.end()
        except Exception as error:  # noqa: BLE001 - whatever one event causes must not stop the others
            _raise_own_fault(error)
            self.refresh(tx)
            run = _Run(self, tx, batch, now_us)
            for event in batch.events:
                self._take_alone(tx, run, event)
            run.end()
        return run.tally

    def apply(self, tx: Transaction, event: Event, *, now_us: int) -> Tally:
        """Apply one event that came by no stream, such as a member's own write. Raises what it raises."""
        self.refresh(tx)
        run = _Run(self, tx, None, now_us)
        run.take(event)
        run.end()
        return run.tally

    def _reached(self, tx: Transaction, batch: Batch, now_us: int) -> None:
        name = batch.line or batch.upstream
        upstreams.save(tx, name, batch.wire, batch.seq, batch.time_us, len(batch.events), now_us)
        if not batch.line and not batch.archived and batch.time_us is not None:
            # Everybody is read: whoever was wanted before there was a position is covered from here on.
            coverage.prove(tx, batch.time_us, None)

    def _take_alone(self, tx: Transaction, run: _Run, event: Event) -> None:
        before = msgspec.structs.replace(run.tally)
        try:
            with tx.savepoint():
                run.take(event)
        except Exception as error:  # noqa: BLE001 - this event is at fault: kept, its account in doubt
            _raise_own_fault(error)
            self.refresh(tx)
            run.tally = before
            run.bury(event, f"{type(error).__name__}: {error}")


class _Run:
    """One pass over events in one transaction."""

    def __init__(self, applier: Applier, tx: Transaction, batch: Batch | None, now_us: int) -> None:
        self.tally = Tally()
        self._rules = applier.rules
        self._network = applier.rules.scope == "network"
        self._tracked = applier.tracked
        self._concerned = applier.concerned
        self._tx = tx
        self._batch = batch
        self._upstream = batch.upstream if batch is not None else ""
        self._position = None if batch is None else batch.time_us if batch.seq is None else batch.seq
        self._now_us = now_us
        self._too_new = tid_of(max(now_us + REV_AHEAD_MAX_US, 0), _LAST_CLOCK)
        self._revs: dict[int, tuple[str, int, bool]] = {}
        self._checked = batch is not None and batch.wire == "relay"
        self._head = ("", "")
        # Has a scan met something that this stream may be about to bring?
        self._awaited = findings.any_in_flight(tx)

    def take(self, event: Event) -> None:
        if event.did is not None and event.did.startswith("did:web:"):
            event = _in_one_spelling(event)
        if isinstance(event, CommitEvent):
            self._commit(event)
        elif isinstance(event, HeadEvent):
            self._follow(event)
        elif isinstance(event, AccountEvent):
            actor = self._about(event.did, event.time_us)
            if actor is not None:
                accounts.account_changed(self._tx, actor, event, self._upstream, self._now_us)
        elif isinstance(event, IdentityEvent):
            actor = self._about(event.did, event.time_us)
            if actor is not None:
                accounts.identity_changed(self._tx, actor)
        elif isinstance(event, SyncEvent):
            # Its replacement rows have no end mark: clearing the repository would blink empty.
            self._jumped(event)
        elif event.did is None or self._is_tracked(event.did):
            self.bury(event, event.error)
        else:
            self.tally.strangers += 1

    def end(self) -> None:
        """Note the newest rev of each account that had one."""
        for actor, (rev, seen_us, tracked) in self._revs.items():
            actors.applied_rev(self._tx, actor, rev, seen_us)
            if tracked:
                repos.seen_rev(self._tx, actor, rev)

    def bury(self, event: Event, error: str) -> None:
        """Keep what can't be applied, and doubt its account."""
        did = event.did
        error = error.encode("utf-8", "backslashreplace").decode()
        dead_letters.add(self._tx, self._upstream, self._position, did, _raw(event), error, self._now_us)
        self.tally.dead += 1
        if did is not None:
            # What an archive tells has the time of its telling, which says nothing of what is missing.
            told = self._batch is not None and not self._batch.archived
            at_us = event.time_us or None if told else None
            self._suspect(did, "an event could not be applied", at_us)

    def _commit(self, event: CommitEvent) -> None:
        collection = NUMBERS.get(event.collection)
        repo = self._tracked.find(event.did)
        if repo is None:
            found = self._stranger(event, collection)
            if found is None or collection is None:
                return
            actor, epoch = found, None
        else:
            actor, epoch = repo
        if repo is not None and self._came_unchecked(event, actor):
            self._suspect(event.did, "a commit came unchecked", event.time_us)
        if self._is_too_new(event) or not is_tid(event.rev):
            self.bury(event, "the rev lies in the future" if is_tid(event.rev) else "the rev is not a TID")
            return
        if collection is None:
            self.tally.unknown_collection += 1
            self._note_rev(actor, event)
            return
        if not is_record_key(event.rkey):
            self.bury(event, "not a record key")
            return
        if event.operation == "delete":
            cid = body = None
        elif event.operation in ("create", "update"):
            cid, body = event.cid, event.record
            if cid is None or body is None:
                self._without_body(event, actor)
                return
            if len(cid) != _CID_LENGTH or not cid.startswith(_CID_OF_RECORD):
                self.bury(event, "not a CID of a record")
                return
        else:
            self._suspect(event.did, "an unknown operation", event.time_us)
            return
        fact = Fact(
            did=event.did,
            actor=actor,
            collection=collection,
            rkey=event.rkey,
            epoch=epoch,
            rev=event.rev,
            n=event.n,
            cid=cid,
            body=body,
            at_us=event.time_us,
            now_us=self._now_us,
            found=event.found,
            cover_us=self._cover_us(event),
        )
        verdict = merge.put(self._tx, fact, self._rules)
        if verdict is Verdict.CONFLICT:
            self._suspect(event.did, "one version with two values", event.time_us)
            return
        self._note_rev(actor, event)
        if verdict is not Verdict.APPLIED and self._awaited:
            findings.came_late(self._tx, actor, collection, event.rkey, cid, self._now_us)
        tally = self.tally
        if verdict is Verdict.APPLIED:
            tally.applied += 1
            if repo is None and not self._network:
                concerned.want_context(self._tx, event, actor, self._now_us)
        elif verdict is Verdict.KNOWN:
            tally.known += 1
        else:
            tally.old += 1
        if fact.tracks is not None:
            tally.newly_tracked += 1
            self._tracked.add(self._tx, fact.tracks)

    def _cover_us(self, event: CommitEvent) -> int | None:
        """From when on whoever this event makes tracked is covered; None: from where the streams stand."""
        if self._batch is None:
            return None
        return self._now_us if self._batch.archived else event.time_us

    def _stranger(self, event: CommitEvent, collection: int | None) -> int | None:
        """The actor if this stranger's event concerns us: all do that keep the network, else those
        that name a member, or change a record which we hold."""
        if collection is None:
            self.tally.unknown_collection += 1
            return None
        if self._network:
            return self._network_actor(event.did, event.time_us)
        vouches = collection == collections.VERIFICATION and event.did in self._rules.verifiers
        if vouches or self._concerned.by(self._tx, event, collection):
            return self._network_actor(event.did, event.time_us)
        if event.operation != "create":
            actor = actors.find_id(self._tx, event.did)
            if actor is not None and records.is_held(self._tx, actor, collection, event.rkey):
                return actor
        self.tally.strangers += 1
        return None

    def _network_actor(self, did: str, seen_us: int) -> int | None:
        try:
            return actors.ensure(self._tx, normalise_did(did), seen_us)
        except BadInput:
            self.tally.strangers += 1
            return None

    def _about(self, did: str, seen_us: int) -> int | None:
        """The actor whom an account or identity event is about, if we show anything of them."""
        self.tally.accounts += 1
        repo = self._tracked.find(did)
        if repo is not None:
            actors.seen(self._tx, repo.actor, seen_us)
            return repo.actor
        if self._network:
            return self._network_actor(did, seen_us)
        return actors.find_id(self._tx, did)

    def _without_body(self, event: CommitEvent, actor: int) -> None:
        record = records.mention(self._tx, f"at://{event.did}/{event.collection}/{event.rkey}")
        if record is not None:
            fetches.want(self._tx, "record", record, 0, self._now_us)
        self._suspect(event.did, "a record came without its body", event.time_us)
        self._note_rev(actor, event)

    def _follow(self, event: HeadEvent) -> None:
        self._head = (event.did, event.rev)
        repo = self._tracked.find(event.did)
        if repo is not None:
            doubt, since_us = chain.follow(self._tx, repo.actor, event)
            if doubt:
                self._suspect(event.did, doubt, since_us)

    def _jumped(self, event: SyncEvent) -> None:
        repo = self._tracked.find(event.did)
        if repo is not None:
            self._suspect(event.did, chain.JUMPED, chain.last_good_us(self._tx, repo.actor))

    def _suspect(self, did: str, reason: str, from_us: int | None) -> None:
        repo = self._tracked.find(did)
        if repo is not None and repos.suspect(self._tx, repo.actor, reason, self._now_us, from_us=from_us):
            self.tally.suspected += 1

    def _came_unchecked(self, event: CommitEvent, actor: int) -> bool:
        """Whether it was read before its account became tracked, so that nobody looked at its signature, and
        no snapshot is under way that overwrites what it says."""
        if not self._checked or self._head == (event.did, event.rev):
            return False
        return not chain.is_being_read(self._tx, actor, event.rev)

    def _is_too_new(self, event: CommitEvent) -> bool:
        """Ahead of our clock and of the upstream's: either of them may be wrong."""
        return event.rev > self._too_new and event.rev > tid_of(
            min(max(event.time_us + REV_AHEAD_MAX_US, 0), _LAST_TID_US), _LAST_CLOCK
        )

    def _is_tracked(self, did: str) -> bool:
        return self._tracked.find(did) is not None

    def _note_rev(self, actor: int, event: CommitEvent) -> None:
        known = self._revs.get(actor)
        if known is None or known[0] < event.rev:
            self._revs[actor] = (event.rev, event.time_us, self._is_tracked(event.did))


def _in_one_spelling(event: Event) -> Event:
    """did:web names a host, and hosts have no capitals."""
    try:
        did = normalise_did(event.did or "")
    except BadInput:
        return event
    return event if did == event.did else msgspec.structs.replace(event, did=did)


def _raw(event: Event) -> bytes:
    """The event as it came, or as near to that as its text can be written."""
    if isinstance(event, BrokenEvent):
        return event.raw
    try:
        return msgspec.json.encode(event)
    except UnicodeEncodeError:
        return repr(event).encode("utf-8", "backslashreplace")


def _raise_own_fault(error: Exception) -> None:
    """Damage and a full disk are not the event's fault, and can't be buried with it."""
    poison = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
    if isinstance(error, sqlite3.Error) and not isinstance(error, poison):
        raise error
    if isinstance(error, ApplianceError) and isinstance(error, Corrupt):
        raise error
