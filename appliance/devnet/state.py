"""The network's facts: accounts, repositories, blobs, and the log of what happened to them.

Everything that changes goes through here: into the journal, then into memory, then to the streams.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path

import msgspec

from appliance.clock import Clock
from appliance.devnet import plc
from appliance.devnet.chronicle import Chronicle
from appliance.devnet.entries import (
    Account,
    AccountBody,
    Blob,
    Bulk,
    CommitBody,
    Entry,
    Event,
    IdentityBody,
    Note,
    PlcOperation,
    Ports,
    Preferences,
    Refresh,
    Started,
    SyncBody,
)
from appliance.devnet.journal import Journal, Proofs
from appliance.devnet.log import EventLog
from appliance.devnet.repository import Change, Repository
from appliance.errors import BadInput
from appliance.protocol import cid
from appliance.protocol.keys import Curve, PrivateKey
from appliance.protocol.tid import TidGenerator, tid_of


class Hosted:
    """An account with what belongs to it."""

    def __init__(self, entry: Account) -> None:
        self.entry = entry
        self.repository: Repository | None = None
        self.blobs: dict[str, Blob] = {}
        self.preferences = b"[]"
        self.key = _load_key(entry.signing_key)

    @property
    def did(self) -> str:
        return self.entry.did

    @property
    def handle(self) -> str:
        return self.entry.handle

    @property
    def pds(self) -> int:
        return self.entry.pds

    @property
    def status(self) -> str | None:
        """None while active."""
        return self.entry.status

    @property
    def active(self) -> bool:
        return self.entry.status is None

    def take(self, entry: Account) -> None:
        """A newer entry replaces the old one."""
        if entry.signing_key != self.entry.signing_key:
            self.key = _load_key(entry.signing_key)
        self.entry = entry


class State:
    """Opens the folder of an earlier life, or begins a new one."""

    def __init__(self, folder: Path, seed: int, clock: Clock) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.clock = clock
        self.started: Started | None = None
        self.ports: dict[str, int] = {}
        self.notes: dict[str, str] = {}
        self.accounts: dict[str, Hosted] = {}
        self.handles: dict[str, str] = {}
        self.refreshes: dict[str, Refresh] = {}
        self._blobs = folder / "blobs"
        self._blobs.mkdir(exist_ok=True)
        self.journal = Journal(folder / "journal.log")
        self._proofs = Proofs(folder / "proofs")
        self.log = EventLog(self.journal, self._proofs, clock.now_us)
        self.directory = plc.Directory(clock.now_us, self._append)
        self._tids: dict[int, TidGenerator] = {}
        self.chronicle: Chronicle | None = None
        # A server that an account has left, and what it still answers with.
        self.ghosts: dict[tuple[int, str], Repository] = {}
        for at, entry in self.journal.replay():
            self._take(at, entry)
        if self.started is None:
            self._keep(Started(seed, os.urandom(32), {}))

    @property
    def seed(self) -> int:
        """The seed that this data began with."""
        assert self.started is not None, "set when opened"
        return self.started.seed

    @property
    def secret(self) -> bytes:
        """Signs the tokens of all PDSs; stays over restarts."""
        assert self.started is not None, "set when opened"
        return self.started.secret

    def keep_chronicle(self) -> Chronicle:
        """From now on every state of every repository is kept; it takes memory without end."""
        if self.chronicle is None:
            self.chronicle = Chronicle()
            for account in self.accounts.values():
                if account.repository is not None:
                    self.chronicle.whole(account.repository, self.clock.now_us())
        return self.chronicle

    def close(self) -> None:
        self.journal.close()
        self._proofs.close()

    def note(self, name: str, value: str) -> None:
        """Write down a fact under a name."""
        self._keep(Note(name, value))

    def origin(self, pds: int) -> str:
        """Origin of a PDS."""
        return f"http://localhost:{self.ports[f'pds{pds}']}"

    def move_to_ports(self, ports: dict[str, int]) -> None:
        """The services listen there from now on; documents that name another origin are updated."""
        if ports == self.ports:
            return
        self._keep(Ports(ports))
        for account in self.accounts.values():
            if account.status != "deleted":
                self._update_document(account)

    def tid(self, pds: int, after: str | None = None) -> str:
        """A new TID of a PDS's clock."""
        generator = self._tids.get(pds)
        if generator is None:
            generator = self._tids[pds] = TidGenerator(self.clock.now_us, 17 + pds)
        return generator.next(after=after)

    # ---- accounts

    def new_account(
        self,
        handle: str,
        pds: int,
        *,
        created_us: int | None = None,
        password: str | None = None,
        curve: Curve = "k256",
    ) -> Hosted:
        """An account without a repository; tells nobody yet."""
        if handle in self.handles:
            raise BadInput("Handle already taken", name="HandleNotAvailable")
        key = self._make_key(handle, "signing", curve)
        rotation = self._make_key(handle, "rotation", "k256")
        operation = plc.sign(
            plc.operation(
                rotation_keys=[rotation.did_key],
                signing_key=key.did_key,
                handle=handle,
                pds=self.origin(pds),
                prev=None,
            ),
            rotation,
        )
        did = plc.did_of(operation)
        if did in self.accounts:
            raise BadInput("the account exists")
        self.directory.submit(did, operation)
        entry = Account(
            did=did,
            handle=handle,
            pds=pds,
            signing_key=_store_key(key),
            rotation_key=_store_key(rotation),
            password=password or self._make_password(handle),
            created_us=self.clock.now_us() if created_us is None else created_us,
        )
        self._keep(entry)
        return self.accounts[did]

    def fill(self, did: str, records: Mapping[str, bytes]) -> None:
        """Give a new account all these records in its first commit; tells nobody."""
        account = self.accounts[did]
        assert account.repository is None, "filled once"
        rev = self.tid(account.pds)
        account.repository = Repository.begin(did, rev, account.key, records)
        self._chronicle(account.repository)
        self._append(Bulk(did, rev, account.repository.commit_block, list(records.items())))

    def announce(self, did: str) -> None:
        """Tell the streams about a new account, as the reference does."""
        account = self.accounts[did]
        repository = self.repository(did)
        empty = not repository.collections
        nodes = list(repository.tree().proof("a.b.c/d").values())
        self._tell(account, IdentityBody(account.handle))
        self._tell(account, AccountBody(active=True, status=None))
        if empty:
            self._tell(account, CommitBody(repository.rev, None, repository.commit_block, None, []), nodes)
        self._tell(account, SyncBody(repository.rev, repository.commit_block, list(repository.records())))

    def resync(self, did: str) -> None:
        """As after a loss upstream: the streams are told to read the repository anew."""
        account, repository = self.accounts[did], self.repository(did)
        body = SyncBody(repository.rev, repository.commit_block, list(repository.records()))
        self._tell(account, body)

    def change_handle(self, did: str, handle: str) -> None:
        """Document, then the identity event; the same handle again only tells."""
        account = self.accounts[did]
        if self.handles.get(handle, did) != did:
            raise BadInput("Handle already taken", name="HandleNotAvailable")
        if handle != account.handle:
            self._keep(msgspec.structs.replace(account.entry, handle=handle))
            self._update_document(account)
        self._tell(account, IdentityBody(handle))

    def set_status(self, did: str, status: str | None, *, tell: bool = True) -> None:
        """None makes it active again; ``deleted`` is for good."""
        account = self.accounts[did]
        if account.status == status:
            return
        if account.status == "deleted":
            raise BadInput("a deleted account stays deleted")
        self._keep(msgspec.structs.replace(account.entry, status=status))
        if not tell:
            return
        self._tell(account, AccountBody(active=status is None, status=status))
        if status is None:
            repository = self.repository(did)
            self._tell(account, SyncBody(repository.rev, repository.commit_block))

    def claim_status(self, did: str, status: str | None) -> None:
        """The streams say so; nothing else changes."""
        self._tell(self.accounts[did], AccountBody(active=status is None, status=status))

    def roll_back(self, did: str, steps: int) -> str:
        """The repository as it was so many commits ago, told to nobody; needs the chronicle."""
        if self.chronicle is None:
            raise BadInput("only what a chronicle has kept can come back")
        account = self.accounts[did]
        revs = self.chronicle.revs(did)
        rev = revs[max(len(revs) - 1 - steps, 0)]
        account.repository = self.chronicle.repository(did, rev)
        self.chronicle.returned(did, rev, self.clock.now_us())
        self._append(Bulk(did, rev, account.repository.commit_block, list(account.repository.records())))
        return rev

    def bring_in(self, did: str, records: Mapping[str, bytes], *, sync: bool = False) -> None:
        """More records at once, as an import makes them: a new head that no commit leads to."""
        account = self.accounts[did]
        before = self.repository(did)
        rev = self.tid(account.pds, after=before.rev)
        self._replace(account, rev, dict(before.records()) | dict(records))
        if sync:
            self._tell(account, SyncBody(rev, self.repository(did).commit_block))

    def rotate_key(self, did: str, *, tell: bool = True) -> None:
        """Another signing key at the same server."""
        account = self.accounts[did]
        key = self._make_key(f"{did}/{self.log.end}", "signing", "k256")
        self._keep(msgspec.structs.replace(account.entry, signing_key=_store_key(key)))
        self._update_document(account)
        rev = self.tid(account.pds, after=self.repository(did).rev)
        self._replace(account, rev, dict(self.repository(did).records()))
        if tell:
            self._tell(account, IdentityBody(account.handle))
            self._tell(account, SyncBody(rev, self.repository(did).commit_block))

    def begin_anew(self, did: str) -> None:
        """What was deleted exists again, empty, with the revs of a clock that is far behind."""
        account = self.accounts[did]
        self._keep(msgspec.structs.replace(account.entry, status=None))
        self._replace(account, tid_of(account.entry.created_us - 1_000_000, account.pds), {})
        self._tell(account, IdentityBody(account.handle))
        self._tell(account, AccountBody(active=True, status=None))
        self._tell(account, SyncBody(self.repository(did).rev, self.repository(did).commit_block))

    def leave_behind(self, did: str, pds: int) -> None:
        """Moves, and the old server goes on as if it had not."""
        account = self.accounts[did]
        left = account.pds
        self.ghosts[left, did] = Repository(
            did, self.repository(did).commit_block, self.repository(did).records()
        )
        self.migrate(did, pds)

    def migrate(self, did: str, pds: int) -> None:
        """To another PDS with a new signing key: identity, account, then the repository's new head."""
        account = self.accounts[did]
        old = account.entry
        if old.pds == pds:
            raise BadInput("it lives there already")
        key = self._make_key(f"{did}/{len(old.left)}", "signing", "k256")
        left = (*(place for place in old.left if place != pds), old.pds)
        self._keep(msgspec.structs.replace(old, pds=pds, signing_key=_store_key(key), left=left))
        self._update_document(account)
        repository = self.repository(did)
        rev = self.tid(pds, after=repository.rev)
        commit = repository.resign(rev, account.key)
        self._chronicle(repository)
        self._append(Bulk(did, rev, commit, list(repository.records())))
        self._tell(account, IdentityBody(account.handle))
        self._tell(account, AccountBody(active=True, status=None))
        self._tell(account, SyncBody(rev, commit))

    def account_at(self, pds: int, name: str) -> Hosted | None:
        """By DID or handle, if this PDS knows it; accounts that left it count as known."""
        account = self.accounts.get(self.handles.get(name.lower(), name))
        if account is None or (account.pds != pds and pds not in account.entry.left):
            return None
        return account

    def status_at(self, pds: int, account: Hosted) -> str | None:
        """The account's status as this PDS sees it; None while active there."""
        if (pds, account.did) in self.ghosts and account.pds != pds:
            return None
        return account.status if account.pds == pds else "deactivated"

    def hosted_by(self, pds: int) -> list[Hosted]:
        """All accounts of a PDS, oldest first; deleted ones too."""
        return [account for account in self.accounts.values() if account.pds == pds]

    # ---- repositories

    def repository(self, did: str) -> Repository:
        repository = self.accounts[did].repository
        assert repository is not None, "only a new account has none"
        return repository

    def write(self, did: str, changes: Iterable[Change], *, rev: str | None = None) -> Event:
        """One commit; the streams tell it. Raises BadInput where a delete finds nothing."""
        account = self.accounts[did]
        repository = self.repository(did)
        rev = rev or self.tid(account.pds, after=repository.rev)
        body, nodes = repository.plan(list(changes), rev, account.key)
        event = self._tell(account, body, nodes)
        repository.apply(body)
        if self.chronicle is not None:
            changes_made = [(write.path, write.block) for write in body.writes]
            self.chronicle.changed(repository, event.time_us, changes_made)
        return event

    # ---- blobs, preferences, tokens

    def store_blob(self, did: str, data: bytes, mime: str) -> Blob:
        """Keep an account's blob."""
        name = self.keep_bytes(data)
        blob = self.accounts[did].blobs.get(name)
        if blob is None or blob.mime != mime:
            blob = Blob(did, name, mime, len(data))
            self._keep(blob)
        return blob

    def keep_bytes(self, data: bytes) -> str:
        """Keep what blobs are made of, without an owner; returns its name."""
        name = cid.to_text(cid.blob_cid_of(data))
        path = self._blobs / name
        if not path.exists():
            part = path.with_suffix(".part")
            part.write_bytes(data)
            part.rename(path)
        return name

    def blob_bytes(self, name: str) -> bytes:
        return (self._blobs / name).read_bytes()

    def keep_refresh(self, token: Refresh) -> None:
        self._keep(token)

    def keep_preferences(self, did: str, items: bytes) -> None:
        self._keep(Preferences(did, items))

    # ---- inside

    def _replace(self, account: Hosted, rev: str, records: Mapping[str, bytes]) -> None:
        """Another repository in the place of the one there is."""
        account.repository = Repository.begin(account.did, rev, account.key, records)
        self._chronicle(account.repository)
        self._append(Bulk(account.did, rev, account.repository.commit_block, list(records.items())))

    def _chronicle(self, repository: Repository) -> None:
        if self.chronicle is not None:
            self.chronicle.whole(repository, self.clock.now_us())

    def _tell(
        self,
        account: Hosted,
        body: CommitBody | IdentityBody | AccountBody | SyncBody,
        nodes: list[bytes] | None = None,
    ) -> Event:
        return self.log.append(account.pds, account.did, body, nodes or [])

    def _update_document(self, account: Hosted) -> None:
        before = self.directory.latest(account.did)
        assert before is not None, "every account has an operation"
        rotation = _load_key(account.entry.rotation_key)
        operation = plc.operation(
            rotation_keys=before.operation["rotationKeys"],
            signing_key=account.key.did_key,
            handle=account.handle,
            pds=self.origin(account.pds),
            prev=before.cid,
        )
        self.directory.submit(account.did, plc.sign(operation, rotation))

    def tell_directory(
        self, did: str, keys: Mapping[str, str], services: Mapping[str, tuple[str, str]]
    ) -> None:
        """The account's document names these keys and services (type, endpoint) beside its own."""
        account = self.accounts[did]
        before = self.directory.latest(did)
        assert before is not None, "every account has an operation"
        operation = plc.operation(
            rotation_keys=before.operation["rotationKeys"],
            signing_key=account.key.did_key,
            handle=account.handle,
            pds=self.origin(account.pds),
            prev=before.cid,
        )
        operation["verificationMethods"] |= keys
        for name, (kind, endpoint) in services.items():
            operation["services"][name] = {"type": kind, "endpoint": endpoint}
        self.directory.submit(did, plc.sign(operation, _load_key(account.entry.rotation_key)))

    def _make_key(self, name: str, purpose: str, curve: Curve) -> PrivateKey:
        return PrivateKey(curve, sha256(f"{self.seed}/{name}/{purpose}".encode()).digest())

    def _make_password(self, name: str) -> str:
        digest = sha256(f"{self.seed}/{name}/password".encode()).digest()
        text = base64.b32encode(digest).decode().lower()
        return "-".join(text[at : at + 4] for at in range(0, 16, 4))

    def _append(self, entry: Entry) -> None:
        self.journal.append(entry)

    def _keep(self, entry: Entry) -> None:
        self._take(self.journal.append(entry), entry)

    def _take(self, at: int, entry: Entry) -> None:
        match entry:
            case Event():
                self.log.replayed(at, entry)
                if isinstance(entry.body, CommitBody):
                    self.repository(entry.did).apply(entry.body)
            case Account():
                self._take_account(entry)
            case Bulk():
                self.accounts[entry.did].repository = Repository(entry.did, entry.commit, entry.records)
            case PlcOperation():
                self.directory.replayed(entry)
            case Blob():
                self.accounts[entry.did].blobs[entry.cid] = entry
            case Refresh():
                self.refreshes[entry.jti] = entry
            case Preferences():
                self.accounts[entry.did].preferences = entry.items
            case Note():
                self.notes[entry.name] = entry.value
            case Ports():
                self.ports = entry.ports
            case Started():
                self.started = entry
            case _:
                raise AssertionError(f"{type(entry).__name__} doesn't belong into the journal")

    def _take_account(self, entry: Account) -> None:
        account = self.accounts.get(entry.did)
        if account is None:
            account = self.accounts[entry.did] = Hosted(entry)
        elif self.handles.get(account.handle) == entry.did:
            del self.handles[account.handle]
        account.take(entry)
        if entry.status != "deleted":
            self.handles[entry.handle] = entry.did


def _store_key(key: PrivateKey) -> str:
    return f"{key.curve}:{key.to_hex()}"


def _load_key(text: str) -> PrivateKey:
    curve, _, secret = text.partition(":")
    return PrivateKey.from_hex(secret, "p256" if curve == "p256" else "k256")
