"""One account's signed repository: records, their tree, and the commits that change them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from appliance.devnet.entries import CommitBody, Write
from appliance.errors import BadInput
from appliance.protocol import car, cbor, cid, commits, mst
from appliance.protocol.datamodel import Link, Value
from appliance.protocol.keys import PrivateKey

# How many nodes that the tree no longer has may wait to be let go of.
_STALE_NODES_MAX = 2000
# DAG-CBOR of a map entry "$type": "blob".
_BLOB_MARK = b"e$typedblob"


class Change:
    """One operation asked for: a block to put at a path, or None to remove what is there."""

    __slots__ = ("block", "path")

    def __init__(self, path: str, block: bytes | None) -> None:
        self.path = path
        self.block = block


class Repository:
    """The records as of the newest commit. The tree is built when somebody needs it."""

    def __init__(self, did: str, commit: bytes, records: Iterable[tuple[str, bytes]]) -> None:
        self.did = did
        self.collections: dict[str, dict[str, tuple[bytes, bytes]]] = {}
        self.blobs: dict[str, set[str]] = {}
        self._nodes: dict[bytes, bytes] | None = None
        self._stale = 0
        self._data: bytes | None = None
        self._head(commit, commits.parse(commit).rev)
        for path, block in records:
            self._put(path, block)

    @classmethod
    def begin(cls, did: str, rev: str, key: PrivateKey, records: Mapping[str, bytes]) -> Repository:
        """With all these records in its first commit."""
        root, nodes = mst.build({path: cid.cid_of(block) for path, block in records.items()})
        repository = cls(did, commits.sign(did, rev, root, key)[1], records.items())
        repository._nodes = nodes
        return repository

    def find(self, collection: str, rkey: str) -> tuple[bytes, bytes] | None:
        """CID and block of a record."""
        return self.collections.get(collection, {}).get(rkey)

    def records(self) -> Iterator[tuple[str, bytes]]:
        """(path, block) of every record."""
        for collection, records in self.collections.items():
            for rkey, (_, block) in records.items():
                yield f"{collection}/{rkey}", block

    def plan(self, changes: list[Change], rev: str, key: PrivateKey) -> tuple[CommitBody, list[bytes]]:
        """The commit that makes these changes, and the tree nodes that it carries; changes nothing yet."""
        tree = self.tree()
        writes = [self._write(change) for change in changes]
        targets = {write.path: write.cid for write in writes}
        if len(targets) < len(writes):
            raise BadInput("two writes to one record")
        after, made = tree.with_changes(targets)
        proof = dict(made)
        for path in targets:
            proof |= after.proof(path)
        _, commit = commits.sign(self.did, rev, after.root, key)
        body = CommitBody(rev=rev, since=self.rev, commit=commit, prev_data=self.data, writes=writes)
        assert self._nodes is not None, "tree() built them"
        self._nodes |= made
        self._stale += len(made)
        return body, list(proof.values())

    def apply(self, body: CommitBody) -> None:
        """Take a commit that ``plan`` made, now or in an earlier life of the process."""
        for write in body.writes:
            if write.block is not None:
                self._put(write.path, write.block)
            else:
                self._remove(write.path)
        self._head(body.commit, body.rev)
        if self._nodes is not None and self._stale > _STALE_NODES_MAX:
            self._nodes = {name: self._nodes[name] for name in self.tree().node_cids()}
            self._stale = 0

    def resign(self, rev: str, key: PrivateKey) -> bytes:
        """A commit of the same records under another key or rev; becomes the head."""
        _, commit = commits.sign(self.did, rev, self.data, key)
        self._head(commit, rev)
        return commit

    @property
    def data(self) -> bytes:
        """Root of the tree."""
        if self._data is None:
            self._data = commits.parse(self.commit_block).data
        return self._data

    @property
    def commit(self) -> bytes:
        """CID of the newest commit."""
        return cid.cid_of(self.commit_block)

    def tree(self) -> mst.Tree:
        """The tree as of the head."""
        if self._nodes is None:
            mapping = {
                f"{collection}/{rkey}": name
                for collection, records in self.collections.items()
                for rkey, (name, _) in records.items()
            }
            root, self._nodes = mst.build(mapping)
            assert root == self.data, "the records are those that the head commits to"
        return mst.Tree(self._nodes.get, self.data)

    def export(self) -> bytes:
        """The whole repository as a CAR: commit, nodes, records."""
        tree = self.tree()
        assert self._nodes is not None, "tree() built them"
        blocks = [(self.commit, self.commit_block)]
        blocks += [(name, self._nodes[name]) for name in tree.node_cids()]
        seen = set()
        for records in self.collections.values():
            for pair in records.values():
                if pair[0] not in seen:
                    seen.add(pair[0])
                    blocks.append(pair)
        return car.write(self.commit, blocks)

    def prove(self, path: str) -> bytes:
        """A CAR that shows the record at a path, or that there is none."""
        collection, _, rkey = path.partition("/")
        blocks = {self.commit: self.commit_block} | self.tree().proof(path)
        record = self.find(collection, rkey)
        if record is not None:
            blocks[record[0]] = record[1]
        return car.write(self.commit, blocks)

    def block(self, name: bytes) -> bytes | None:
        """Any block of the repository by its CID."""
        if name == self.commit:
            return self.commit_block
        self.tree()
        assert self._nodes is not None, "tree() built them"
        if name in self._nodes:
            return self._nodes[name]
        for records in self.collections.values():
            for record, block in records.values():
                if record == name:
                    return block
        return None

    def _write(self, change: Change) -> Write:
        collection, _, rkey = change.path.partition("/")
        before = self.find(collection, rkey)
        prev = before[0] if before else None
        if change.block is None:
            if before is None:
                raise BadInput("there is no such record")
            return Write("delete", change.path, None, prev, None)
        name = cid.cid_of(change.block)
        return Write("create" if before is None else "update", change.path, name, prev, change.block)

    def _put(self, path: str, block: bytes) -> None:
        collection, _, rkey = path.partition("/")
        self.collections.setdefault(collection, {})[rkey] = (cid.cid_of(block), block)
        self.blobs.pop(path, None)
        if _BLOB_MARK in block:
            self.blobs[path] = blobs_of(block)

    def _remove(self, path: str) -> None:
        collection, _, rkey = path.partition("/")
        records = self.collections.get(collection, {})
        records.pop(rkey, None)
        if not records:
            self.collections.pop(collection, None)
        self.blobs.pop(path, None)

    def _head(self, block: bytes, rev: str) -> None:
        # Read when needed: most heads of a replayed journal are gone before anybody asks.
        self.commit_block = block
        self.rev = rev
        self._data = None


def blobs_of(block: bytes) -> set[str]:
    """CIDs, as text, of the blobs that a record holds."""
    found: set[str] = set()
    stack: list[Value] = [cbor.decode(block)]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            ref = value.get("ref")
            if value.get("$type") == "blob" and isinstance(ref, Link):
                found.add(cid.to_text(ref))
            stack.extend(value.values())
        elif isinstance(value, list):
            stack.extend(value)
    return found
