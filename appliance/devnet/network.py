"""A whole network in one object: start it, write into it, lie with it, ask it for the truth."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import orjson

from appliance.devnet import archive, control, jetstream_v1, jetstream_v2, pds, plc, relay, seeding, truth
from appliance.devnet.backlinks import Backlinks
from appliance.devnet.entries import Blob
from appliance.devnet.faults import Faults, PlcFaults
from appliance.devnet.labeler import Labeler
from appliance.devnet.options import Options
from appliance.devnet.pds_proxy import Proxy
from appliance.devnet.records import FOLLOW, LIKE, POST, REPOST
from appliance.devnet.repository import Change
from appliance.devnet.servers import Servers, listen_for
from appliance.devnet.state import Hosted, State
from appliance.devnet.streams import Stream
from appliance.devnet.times import iso_ms
from appliance.devnet.truth import Timeline
from appliance.devnet.world import World
from appliance.protocol import cbor, cid, datamodel

_TIDY_EVERY_S = 30.0


class Network:
    """``async with Network(options) as net``: everything runs until the block ends."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.stop = asyncio.Event()
        self.info: dict[str, Any] = {}
        self.state: State
        self.world: World
        self.archive: archive.Archive
        self.pds: list[pds.Pds] = []
        self.faults: dict[str, Faults] = {}
        self.streams: dict[str, Stream] = {}
        self._temporary: str | None = None
        self._servers = Servers(self.stop)
        self._tasks: list[asyncio.Task[None]] = []
        self._proxy: Proxy

    async def __aenter__(self) -> Network:
        try:
            await self._start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def ended(self) -> None:
        """Return when ``stop`` is set; raises what ended the world early."""
        stopping = asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait((stopping, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        for task in self._tasks:
            if task.done() and not task.cancelled():
                task.result()

    # ---- accounts

    def create_account(self, handle: str, on: int = 0, *, records: Mapping[str, Any] | None = None) -> Hosted:
        """A new account, told to the streams; ``records`` are its past: path to value in JSON form."""
        account = self.state.new_account(handle, on)
        self.state.fill(account.did, {path: _encode(value) for path, value in (records or {}).items()})
        self.state.announce(account.did)
        return account

    def account(self, name: str) -> Hosted:
        """By handle or DID; raises KeyError."""
        return self.state.accounts[self.state.handles.get(name, name)]

    def deactivate(self, did: str) -> None:
        self.state.set_status(did, "deactivated")

    def activate(self, did: str) -> None:
        self.state.set_status(did, None)

    def take_down(self, did: str) -> None:
        self.state.set_status(did, "takendown")

    def delete_account(self, did: str) -> None:
        """For good."""
        self.state.set_status(did, "deleted")

    def migrate(self, did: str, to: int) -> None:
        """To another PDS, with a new signing key."""
        self.state.migrate(did, to)

    def change_handle(self, did: str, handle: str) -> None:
        self.state.change_handle(did, handle)

    def resync(self, did: str) -> None:
        """The streams tell that the repository has to be read anew."""
        self.state.resync(did)

    # ---- what real servers do to accounts, and nobody is told

    def lift_status(self, did: str) -> None:
        """Active again, without a word on any stream."""
        self.state.set_status(did, None, tell=False)

    def claim_status(self, did: str, status: str | None) -> None:
        """The streams say so of an account, and it is not true."""
        self.state.claim_status(did, status)

    def roll_back(self, did: str, steps: int) -> str:
        """The PDS was restored from a copy that lacks the newest commits; returns the rev of the copy."""
        return self.state.roll_back(did, steps)

    def bring_in(self, did: str, records: Mapping[str, Any], *, sync: bool = False) -> None:
        """Records arrive as an import: one new head, no commits; at most the streams tell the head."""
        self.state.bring_in(did, {path: _encode(value) for path, value in records.items()}, sync=sync)

    def rotate_key(self, did: str, *, tell: bool = True) -> None:
        """Another signing key, in the document and for the head."""
        self.state.rotate_key(did, tell=tell)

    def begin_anew(self, did: str) -> None:
        """A deleted account exists again, empty, and counts revs from long ago."""
        self.state.begin_anew(did)

    def leave_behind(self, did: str, to: int) -> None:
        """Moves, and the old server goes on answering with what it had."""
        self.state.leave_behind(did, to)

    def post_at_rev(self, did: str, text: str, rev: str) -> str:
        """A post whose commit has this rev, wherever the clock stands."""
        created = iso_ms(self.state.clock.now_us())
        path = f"{POST}/{self.state.tid(self.state.accounts[did].pds)}"
        value = {"$type": POST, "text": text, "createdAt": created}
        self.state.write(did, [Change(path, _encode(value))], rev=rev)
        return f"at://{did}/{path}"

    def seal_archive(self) -> int:
        """Everything that has happened goes into the archive's files; the number of the last row in them."""
        return self.archive.seal(all_of_it=True)

    def compact_archive(self) -> int:
        """The archive's files are rewritten without what was replaced; how many rows went."""
        return self.archive.compact()

    # ---- records; all return the record's URI

    def put(self, did: str, collection: str, value: Mapping[str, Any], rkey: str | None = None) -> str:
        """Write a record given in its JSON form."""
        path = f"{collection}/{rkey or self.state.tid(self.state.accounts[did].pds)}"
        self.state.write(did, [Change(path, _encode({"$type": collection} | dict(value)))])
        return f"at://{did}/{path}"

    def post(self, did: str, text: str, *, created_us: int | None = None, **fields: Any) -> str:
        """A post; further fields of the record by name."""
        created = iso_ms(self.state.clock.now_us() if created_us is None else created_us)
        return self.put(did, POST, {"text": text, "createdAt": created, **fields})

    def reply(self, did: str, text: str, parent: str, **fields: Any) -> str:
        """An answer in the parent's thread."""
        record = self.record(parent) or {}
        root = (record.get("reply") or {}).get("root") or self.strong_ref(parent)
        return self.post(did, text, reply={"root": root, "parent": self.strong_ref(parent)}, **fields)

    def like(self, did: str, uri: str) -> str:
        return self._point(did, LIKE, self.strong_ref(uri))

    def repost(self, did: str, uri: str) -> str:
        return self._point(did, REPOST, self.strong_ref(uri))

    def follow(self, did: str, subject: str) -> str:
        return self._point(did, FOLLOW, subject)

    def delete(self, uri: str) -> None:
        """Delete a record; raises BadInput where there is none."""
        did, _, path = uri.removeprefix("at://").partition("/")
        self.state.write(did, [Change(path, None)])

    def upload(self, did: str, data: bytes, mime: str) -> dict[str, Any]:
        """A blob, as it stands in a record's JSON."""
        blob: Blob = self.state.store_blob(did, data, mime)
        return {"$type": "blob", "ref": {"$link": blob.cid}, "mimeType": blob.mime, "size": blob.size}

    def record(self, uri: str) -> dict[str, Any] | None:
        """A record in its JSON form."""
        found = self._find(uri)
        value: dict[str, Any] | None = None if found is None else datamodel.to_parsed(cbor.decode(found[1]))
        return value

    def strong_ref(self, uri: str) -> dict[str, str]:
        """URI and CID of a record that exists; raises KeyError."""
        found = self._find(uri)
        if found is None:
            raise KeyError(uri)
        return {"uri": uri, "cid": cid.to_text(found[0])}

    async def add_labeler(self, name: str = "labeler") -> Labeler:
        """An account that is a labeler, on a port of its own; its faults go by this name."""
        account = self.create_account(f"{name}.test")
        policies = {"policies": {"labelValues": []}, "createdAt": iso_ms(self.state.clock.now_us())}
        self.put(account.did, "app.bsky.labeler.service", policies, "self")
        listening = listen_for([name], 0, {})[name]
        labeler = Labeler(self.state, account.did, f"http://localhost:{listening.getsockname()[1]}")
        self.faults[name] = labeler.faults
        await self._servers.add_stream(labeler.server(), listening)
        return labeler

    async def add_backlinks(self) -> tuple[Backlinks, str]:
        """An index of backlinks and its origin; its faults are ``backlinks``."""
        listening = listen_for(["backlinks"], 0, {})["backlinks"]
        backlinks = Backlinks(self.state)
        self.faults["backlinks"] = backlinks.faults
        await self._servers.add_stream(backlinks.server(), listening)
        return backlinks, f"http://localhost:{listening.getsockname()[1]}"

    # ---- truth and settings

    def timeline(self, member: str) -> Timeline:
        """What this member must be shown now."""
        return truth.from_state(self.state).timeline(member)

    def set_appview(self, origin: str, did: str) -> None:
        """Where the PDSs send app.bsky calls that name no service."""
        self._proxy.appview, self._proxy.appview_did = origin, did

    # ---- inside

    def _point(self, did: str, collection: str, subject: object) -> str:
        created = iso_ms(self.state.clock.now_us())
        return self.put(did, collection, {"subject": subject, "createdAt": created})

    def _find(self, uri: str) -> tuple[bytes, bytes] | None:
        did, _, path = uri.removeprefix("at://").partition("/")
        collection, _, rkey = path.partition("/")
        return self.state.repository(did).find(collection, rkey)

    async def _start(self) -> None:
        options = self.options
        folder = options.data
        if folder is None:
            self._temporary = tempfile.mkdtemp(prefix="devnet-")
            folder = Path(self._temporary)
        self.state = await asyncio.to_thread(_open, folder, options)
        number = max(options.pds, sum(name.startswith("pds") for name in self.state.ports))
        names = [
            "plc",
            *(f"pds{i}" for i in range(number)),
            "relay",
            "jetstream_v1",
            "jetstream_v2",
            "control",
            "archive",
        ]
        listening = listen_for(names, options.port, self.state.ports)
        self.state.move_to_ports({name: each.getsockname()[1] for name, each in listening.items()})
        if seeding.DONE not in self.state.notes:
            await asyncio.to_thread(seeding.Seeding(self.state, options).run)
            if options.archive:
                for account in self.state.accounts.values():
                    if account.active:
                        self.state.resync(account.did)
        self.world = World(self.state, options.members)
        self._proxy = Proxy(self.state, options.appview, options.appview_did)
        for name in ("relay", "jetstream_v1", "jetstream_v2"):
            self._add_stream(name)
        for i in range(number):
            stream = self._add_stream(f"pds{i}/stream")
            dialect = options.dialects[i % len(options.dialects)]
            self.pds.append(pds.Pds(self.state, i, dialect, stream, self._proxy))
            self.faults[f"pds{i}"] = self.pds[i].faults
            self._servers.add_site(pds.site(self.pds[i]), listening[f"pds{i}"])
        plc_faults = self.faults["plc"] = PlcFaults()
        self._servers.add_site(
            plc.site(self.state.directory, plc_faults, self.state.clock.sleep), listening["plc"]
        )
        self._servers.add_site(control.site(self), listening["control"])
        self.archive = archive.Archive(self.state.log, options.archive_token)
        self.faults["archive"] = self.archive.faults
        self._servers.add_site(archive.site(self.archive), listening["archive"])
        await self._servers.start()
        streams = self.streams
        for name, server in (
            ("relay", relay.relay_server(self.state, streams["relay"])),
            ("jetstream_v1", jetstream_v1.server(streams["jetstream_v1"])),
            ("jetstream_v2", jetstream_v2.server(streams["jetstream_v2"])),
        ):
            await self._servers.add_stream(server, listening[name])
        self.info = self._info()
        if options.info is not None:
            part = options.info.with_suffix(".part")
            part.write_bytes(orjson.dumps(self.info, option=orjson.OPT_INDENT_2))
            part.rename(options.info)
        self._tasks.append(asyncio.create_task(self.world.live(options.rate), name="devnet-world"))
        self._tasks.append(asyncio.create_task(self._tidy(), name="devnet-tidy"))
        if options.rate <= 0:
            # A world that stands still is no end of the network.
            self._tasks.pop(0)

    def _add_stream(self, name: str) -> Stream:
        stream = self.streams[name] = Stream(
            name,
            self.state.log,
            self.options.clock,
            self.stop,
            retention_s=self.options.retention_s,
            retention_events=self.options.retention_events,
        )
        self.faults[name] = stream.faults
        self.faults[f"{name}/losses"] = stream.losses
        return stream

    def _info(self) -> dict[str, Any]:
        ports = self.state.ports
        members = [each for each in self.state.accounts.values() if each.status != "deleted"]
        return {
            "appliance": None,
            "plc": f"http://localhost:{ports['plc']}",
            "pds": [each.origin for each in self.pds],
            "relay": f"ws://localhost:{ports['relay']}",
            "jetstream_v1": f"ws://localhost:{ports['jetstream_v1']}{jetstream_v1.PATH}",
            "jetstream_v2": f"ws://localhost:{ports['jetstream_v2']}{jetstream_v2.PATH}",
            "control": f"http://localhost:{ports['control']}",
            "archive": f"http://localhost:{ports['archive']}",
            "members": [
                {
                    "handle": account.handle,
                    "did": account.did,
                    "password": account.entry.password,
                    "pds": self.state.origin(account.pds),
                }
                for account in members[: self.options.members]
            ],
        }

    async def _tidy(self) -> None:
        while True:
            await self.options.clock.sleep(_TIDY_EVERY_S)
            self.state.log.forget_proofs_below(min(stream.floor() for stream in self.streams.values()))

    async def _close(self) -> None:
        self.stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._servers.close()
        if hasattr(self, "_proxy"):
            await self._proxy.close()
        if hasattr(self, "state"):
            self.state.close()
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)


async def run(
    options: Options, *, stop: asyncio.Event, on_ready: Callable[[dict[str, Any]], None] | None = None
) -> None:
    """A network until ``stop`` is set; ``on_ready`` gets what the info file holds."""
    async with Network(options) as network:
        if on_ready is not None:
            on_ready(network.info)
        ended, stopped = asyncio.create_task(network.ended()), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((ended, stopped), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopped.cancel()
            network.stop.set()
            with contextlib.suppress(asyncio.CancelledError):
                await ended


def _open(folder: Path, options: Options) -> State:
    state = State(folder, options.seed, options.clock)
    if seeding.DONE not in state.notes and state.accounts:
        # Killed while it was being made: nobody has seen any of it.
        state.close()
        for name in ("proofs", "blobs"):
            shutil.rmtree(folder / name)
        (folder / "journal.log").unlink()
        state = State(folder, options.seed, options.clock)
    return state


def _encode(value: Mapping[str, Any]) -> bytes:
    return cbor.encode(datamodel.from_parsed(dict(value)))
