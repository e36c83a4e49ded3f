"""Signed repositories that tell of their commits as a PDS does, and what others have to know of them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import orjson

from appliance.protocol import car, cbor_exact, cid, commits, firehose, keys, mst
from appliance.protocol.tid import tid_of
from appliance.store import actors, identities
from appliance.store.database import Database
from tests.ingest.hosts import BEGIN_US, POST, Line, did, relay_line

ALICE = did(1)
FIRST_US = BEGIN_US - 600_000_000


class Numbers:
    """What a relay gives each event; one for all repositories of a test."""

    def __init__(self) -> None:
        self.seq = 1000
        self.number = 0

    def next(self) -> tuple[int, int, str]:
        """Sequence, time and the time as text; each a second after the one before."""
        self.seq += 1
        self.number += 1
        time_us = FIRST_US + self.number * 1_000_000
        text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(time_us // 1_000_000))
        return self.seq, time_us, f"{text}.{time_us % 1_000_000:06d}Z"


class Repo:
    """One account's repository."""

    def __init__(
        self, key: keys.PrivateKey | None = None, who: str = ALICE, numbers: Numbers | None = None
    ) -> None:
        self.key = key or keys.PrivateKey.generate()
        self.did = who
        self.root, self.blocks = mst.build({})
        self.rev: str | None = None
        self.numbers = numbers or Numbers()
        self.records: dict[str, bytes] = {}

    def post(
        self, text: str, *, key: keys.PrivateKey | None = None, rkey: str | None = None, **changes: Any
    ) -> Line:
        """Commit one post; the frame. ``changes`` replace fields of it."""
        record = cbor_exact.encode({"$type": POST, "text": text, "createdAt": "2026-07-01T00:00:00.000Z"})
        return self._commit(rkey, record, key, changes)

    def delete(self, rkey: str, **changes: Any) -> Line:
        """Delete that post."""
        return self._commit(rkey, None, None, changes)

    def sync(self, **changes: Any) -> Line:
        """Says where the repository stands."""
        assert self.rev is not None
        seq, _, text = self.numbers.next()
        commit_cid, commit = commits.sign(self.did, self.rev, self.root, self.key)
        body: dict[str, Any] = {
            "seq": seq, "did": self.did, "rev": self.rev,
            "blocks": car.write(commit_cid, {commit_cid: commit}), "time": text,
        }  # fmt: skip
        return relay_line(firehose.encode_frame("#sync", body | changes))

    def tell(self, kind: str, **fields: Any) -> Line:
        """Another message about the account."""
        seq, _, text = self.numbers.next()
        return relay_line(firehose.encode_frame(kind, {"seq": seq, "did": self.did, "time": text} | fields))

    def again(self, line: Line, **changes: Any) -> Line:
        """The same message under a new number."""
        frame = firehose.decode_frame(line.data)
        seq, _, text = self.numbers.next()
        return relay_line(
            firehose.encode_frame(frame.kind, frame.body | {"seq": seq, "time": text} | changes)
        )

    def export(self) -> bytes:
        """The whole repository as a CAR."""
        assert self.rev is not None
        commit_cid, commit = commits.sign(self.did, self.rev, self.root, self.key)
        tree = mst.Tree(self.blocks.get, self.root)
        blocks = {commit_cid: commit} | {name: self.blocks[name] for name in tree.node_cids()}
        blocks |= {name: self.records[path] for path, name in tree.items()}
        return car.write(commit_cid, blocks)

    def _commit(
        self, rkey: str | None, record: bytes | None, key: keys.PrivateKey | None, changes: dict[str, Any]
    ) -> Line:
        seq, time_us, text = self.numbers.next()
        path = f"{POST}/{rkey or tid_of(time_us, 1)}"
        before, tree = self.root, mst.Tree(self.blocks.get, self.root)
        name = None if record is None else cid.cid_of(record)
        prev = tree.get(path)
        after, new = tree.with_changes({path: name})
        self.blocks |= new
        self.root = after.root
        rev, since = tid_of(time_us, 2), self.rev
        self.rev = rev
        commit_cid, commit = commits.sign(self.did, rev, self.root, key or self.key)
        proof = {commit_cid: commit, **new, **mst.Tree(self.blocks.get, self.root).proof(path)}
        operation: dict[str, Any] = {"action": "create", "path": path, "cid": name}
        if name is not None and record is not None:
            proof[name] = record
            self.records[path] = record
        if prev is not None:
            operation |= {"action": "delete" if name is None else "update", "prev": prev}
        body: dict[str, Any] = {
            "seq": seq, "repo": self.did, "rev": rev, "since": since, "commit": commit_cid,
            "blocks": car.write(commit_cid, proof), "blobs": [], "tooBig": False, "rebase": False,
            "ops": [operation], "prevData": before, "time": text,
        }  # fmt: skip
        return relay_line(firehose.encode_frame("#commit", body | changes))


def document(key: keys.PrivateKey, who: str = ALICE, pds: str = "https://pds.net") -> bytes:
    method = {
        "id": f"{who}#atproto", "type": "Multikey", "controller": who,
        "publicKeyMultibase": key.multibase,
    }  # fmt: skip
    service = {"id": "#atproto_pds", "type": "AtprotoPersonalDataServer", "serviceEndpoint": pds}
    return orjson.dumps({"id": who, "verificationMethod": [method], "service": [service]})


async def know(
    folder: Path, did_key: str, who: str = ALICE, resolved_us: int | None = BEGIN_US - 1_000_000
) -> None:
    """As if the document had been read a moment ago."""
    database = await Database.open(folder / "test.db")

    def work(tx: Any) -> None:
        actor = actors.ensure(tx, who)
        identities.save(
            tx, actor, handle=None, pds="https://pds.net", signing_key=did_key,
            resolved_us=resolved_us or BEGIN_US,
        )  # fmt: skip
        if resolved_us is None:
            actors.identity_due(tx, actor)

    await database.write(work)
    await database.close()
