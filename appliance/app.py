"""The whole: builds every part, hands each what it needs, runs them, and ends them in order."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import signal
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import msgspec
from hypercorn.asyncio import serve as serve_http
from hypercorn.config import Config
from quart import Blueprint, Response

from appliance import __version__, telemetry
from appliance.auth import own_identity
from appliance.auth import parts as auth_parts
from appliance.auth.admin_door import AdminDoor
from appliance.auth.budgets import Budgets
from appliance.auth.secrets import Secrets, open_secrets
from appliance.auth.sign_in import Join
from appliance.backfill.archive import Archive
from appliance.backfill.audit import Auditor
from appliance.backfill.backfill import Backfill
from appliance.backfill.catch_up import CatchUp
from appliance.backfill.fetcher import Fetcher
from appliance.backfill.lists_in_force import ListsInForce
from appliance.backfill.looking_back import LookingBack
from appliance.backfill.newest import Newest
from appliance.backfill.on_demand import OnDemand
from appliance.backfill.outside_counts import Counting
from appliance.backfill.pruner import Pruner
from appliance.backfill.schedule import Schedule
from appliance.backfill.tools import make_tools
from appliance.backfill.vouching import Vouching
from appliance.clock import Clock, SystemClock
from appliance.config import Settings
from appliance.errors import BadInput, NotFound, Unavailable
from appliance.feeds.generators import Generators
from appliance.feeds.own import OwnFeeds
from appliance.feeds.publishing import Publishing
from appliance.identity.identities import Identities
from appliance.ingest import accounts
from appliance.ingest.apply import Applier
from appliance.ingest.merge import Rules
from appliance.ingest.pipeline import Pipeline
from appliance.labels.labelers import Labelers
from appliance.labels.subscriptions import Subscriptions
from appliance.media.images import Images
from appliance.media.renderer import Renderer
from appliance.media.videos import Videos
from appliance.members import admission
from appliance.members.crew import Crew
from appliance.members.feed_door import FeedDoor
from appliance.members.importing import Importing
from appliance.ops import control, measures, reaching
from appliance.ops.auditing import audit_command
from appliance.ops.commands import commands
from appliance.ops.lock import DataLock
from appliance.ops.probes import probes
from appliance.ops.status import Status
from appliance.ops.upkeep import Upkeep
from appliance.ops.watch import Watch
from appliance.outbound.client import Outbound
from appliance.outbound.limits import BLOB, PUSH, VIDEO
from appliance.protocol import lexicons
from appliance.push.delivery import Delivery
from appliance.push.vapid import Vapid
from appliance.store import actors, audits, backups, blobs, checks, generation, takedowns
from appliance.store.database import Database, Reader, Transaction
from appliance.supervisor import Supervisor
from appliance.timeline import labelers
from appliance.timeline.completeness import Completeness
from appliance.timeline.graph_views import GraphViews
from appliance.timeline.notification_views import NotificationViews
from appliance.timeline.own_views import OwnViews
from appliance.timeline.search_views import SearchViews
from appliance.web.admin import admin as admin_pages
from appliance.web.blobs import NSID as GET_BLOB
from appliance.web.blobs import blobs as blob_ways
from appliance.web.devices import devices
from appliance.web.frame import Frame
from appliance.web.marking import Keys, Marking
from appliance.web.oauth import oauth_ways
from appliance.web.reading import Pages
from appliance.web.security import Guard
from appliance.web.site import site
from appliance.web.status import status as status_page
from appliance.web.syndication import syndication
from appliance.web.videos import videos
from appliance.web.writing import Writing
from appliance.writes.repos import Repos
from appliance.writes.writer import Writer
from appliance.xrpc import (
    admin,
    asgi,
    completeness,
    drafts,
    export,
    graph,
    notifications,
    own,
    plain,
    private,
    reads,
    search,
)
from appliance.xrpc import importing as own_import
from appliance.xrpc.calling import Calling
from appliance.xrpc.feeds import FeedCalls
from appliance.xrpc.member_calls import member_calls

log = telemetry.Log("app")

DATABASE_FILE = "appliance.db"
BACKLOG = 1024
KEEP_ALIVE_S = 75.0
REQUESTS_PER_CONNECTION_MAX = 1_000_000
DRAIN_S = 5.0
IMAGE_CACHE_BYTES = 2_000_000_000
VIDEO_CACHE_BYTES = 2_000_000_000


async def serve(settings: Settings, *, ready: Callable[[str], None] | None = None) -> None:
    """Run the appliance until SIGTERM or Ctrl-C. ``ready`` is called with our origin once it serves.

    Raises Unavailable when the data folder or the port is taken, Corrupt when the data is.
    """
    with DataLock(settings.data_path) as lock, _listening(settings) as listener:
        settings = msgspec.structs.replace(settings, port=listener.getsockname()[1])
        lock.write(json.dumps({"origin": settings.origin, "port": settings.port}))
        clock = SystemClock()
        supervisor = Supervisor(clock)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, supervisor.stop)
        async with contextlib.AsyncExitStack() as stack:
            application = await build(settings, clock, supervisor, stack)
            config = _http_config(listener)
            supervisor.start(
                "http",
                partial(_serve, application, config, supervisor.stopping),
                restart=False,
                ask_to_stop=supervisor.stop,
                grace_s=DRAIN_S + 1,
            )
            # What start-up made stays for ever: full collections need not look at it again.
            gc.collect()
            gc.freeze()
            if ready is not None:
                loop.call_soon(ready, settings.origin)
            log.info("started", origin=settings.origin, version=__version__)
            await supervisor.run()
        log.info("stopped")


async def operate(settings: Settings, command: str, arguments: list[str]) -> Any:
    """Run an operator's command: in the running process if there is one, else here and now.

    Raises what the command raises.
    """
    clock = SystemClock()
    try:
        lock = DataLock(settings.data_path)
    except Unavailable:
        key = open_secrets(settings).subkey("control")
        return await reaching.ask(settings.data_path, key, clock, command, arguments)
    async with _alone(lock, settings, clock) as (database, outbound, identities):
        publishing = Publishing(database, identities, outbound, settings, clock)
        status = Status(database, clock, None)
        secrets = open_secrets(settings)
        auth = auth_parts.build(database, identities, outbound, secrets, _joining(settings), settings, clock)
        importing = Importing(database, auth.pds_sessions, clock)
        known = commands(database, identities, publishing, importing, settings, clock, status)
        return await known[command](arguments)


async def follow(settings: Settings, command: str, arguments: list[str]) -> AsyncGenerator[Any, None]:
    """The same for a long command: what it tells as it goes, and ``control.Done`` last."""
    clock = SystemClock()
    try:
        lock = DataLock(settings.data_path)
    except Unavailable:
        key = open_secrets(settings).subkey("control")
        steps = reaching.follow(settings.data_path, key, clock, command, arguments)
        async with contextlib.aclosing(steps) as told:
            async for step in told:
                yield step
        return
    async with _alone(lock, settings, clock) as (database, outbound, identities):
        rules = _rules(settings)
        auditor = Auditor(make_tools(database, outbound, identities, settings, clock, rules))
        long = {"audit": audit_command(database, identities, auditor, clock)}
        async with contextlib.aclosing(long[command](arguments)) as steps:
            async for step in steps:
                yield step


@contextlib.asynccontextmanager
async def _alone(
    lock: DataLock, settings: Settings, clock: Clock
) -> AsyncIterator[tuple[Database, Outbound, Identities]]:
    """What a command needs that works by itself while no process runs."""
    async with contextlib.AsyncExitStack() as stack:
        stack.enter_context(lock)
        path = settings.data_path / DATABASE_FILE
        generation.expect(path)
        database = await Database.open(path, readers=1)
        stack.push_async_callback(database.close)
        outbound = Outbound(settings, clock)
        stack.push_async_callback(outbound.close)
        yield database, outbound, Identities(database, outbound, settings, clock)


async def build(
    settings: Settings, clock: Clock, supervisor: Supervisor, stack: contextlib.AsyncExitStack
) -> Any:
    """Every part, over an open database; the ASGI application. What must be closed is on the stack."""
    database = await _open(settings, clock, stack)
    outbound = Outbound(settings, clock)
    stack.push_async_callback(outbound.close)
    secrets = open_secrets(settings)

    def moved(tx: Transaction, actor: int) -> None:
        accounts.moved(tx, actor, clock.now_us())
        tx.announce(partial(auth.viewers.forget, actors.did_of(tx, actor)))

    identities = Identities(database, outbound, settings, clock, moved=moved)
    auth = auth_parts.build(database, identities, outbound, secrets, _joining(settings), settings, clock)
    stack.push_async_callback(auth.close)
    supervisor.start("sessions", auth.run)
    rules = _rules(settings)
    applier = Applier(rules)
    catching_up = CatchUp(database, outbound, applier, settings, clock)
    pipeline = Pipeline(
        database,
        outbound,
        identities,
        applier,
        settings,
        clock,
        misses=audits.misses_since,
        catch_up=catching_up.catch_up if settings.archive_origin else None,
    )
    backfill = Backfill(
        database,
        outbound,
        identities,
        settings,
        clock,
        rules,
        connected=pipeline.connected,
        lag_s=pipeline.lag_s,
    )
    auditor = Auditor(backfill.tools, wake=backfill.wake)
    schedule = Schedule(
        auditor, backfill.tools, canaries=settings.canary_dids, canary_minutes=settings.canary_minutes
    )

    fetcher = Fetcher(database, outbound, identities, settings, clock, rules)
    newest = Newest(database, fetcher, rules, clock)
    views = OnDemand(database, identities, fetcher, newest, settings, clock, opened=schedule.opened)
    stack.push_async_callback(views.close)
    if settings.constellation_url:
        counting = Counting(database, outbound, settings.constellation_url, clock)
        views.answering.uncounted = counting.want
        supervisor.start("outside counts", counting.run)
    repositories = Repos(database, auth.pds_sessions, applier, clock)
    stack.push_async_callback(repositories.close)
    writer = Writer(database, auth.web_sessions, repositories, identities.resolve_handle, clock)

    supervisor.start("writes", repositories.run)
    supervisor.start("identities", identities.run)
    supervisor.start("backfill", backfill.run)
    supervisor.start("auditor", schedule.run)
    supervisor.start("fetcher", fetcher.run)
    supervisor.start("pruner", Pruner(database, settings, clock).run)
    supervisor.start("lists in force", ListsInForce(database, fetcher, rules, clock).run)
    if settings.verifiers:
        supervisor.start("verifications", Vouching(database, fetcher, settings.verifiers, rules, clock).run)
    supervisor.start("looking back", LookingBack(database, clock).run)
    supervisor.start("ingest", pipeline.run)
    told = NotificationViews(views.answering)
    vapid = Vapid(secrets.subkey("push"), settings.origin)
    supervisor.start("push", Delivery(database, outbound, told, vapid, clock).run)
    archive = Archive(database, outbound, applier, settings, clock)
    if archive.usable:
        supervisor.start("archive", archive.run)

    subscriptions = Subscriptions(database, clock, fetcher.want)
    if settings.labeler_streams_max:
        listening = Labelers(database, outbound, identities, subscriptions, settings, clock)
        supervisor.start("labelers", listening.run)

    def reached_us() -> int | None:
        lag_s = pipeline.lag_s()
        return None if lag_s is None else clock.now_us() - round(lag_s * 1_000_000)

    upkeep = Upkeep(database, settings, clock, reached_us, woken=[lambda _: backfill.wake()])
    if not await database.read(_is_sound):
        # The last look found damage: nothing is served from the file before another look.
        await upkeep.check()
    supervisor.start("upkeep", upkeep.run)

    watch = Watch(database, pipeline.facts, settings, clock)
    supervisor.start("watch", watch.run)
    status = Status(database, clock, watch)
    proving = Completeness(database, watch.stream)

    async def refresh() -> None:
        measures.update(await status.look())

    importing = Importing(database, auth.pds_sessions, clock)
    methods = [
        *reads.methods(views, settings, __version__),
        *graph.methods(GraphViews(views.answering)),
        *own.methods(OwnViews(views.answering)),
        *search.methods(SearchViews(views.answering, settings.store_scope)),
        *notifications.methods(told, database, clock, partial(_may_push, outbound)),
        *plain.methods(views.answering),
        *completeness.methods(proving, clock),
        *private.methods(database, clock),
        *drafts.methods(database, clock),
        *export.methods(database, clock),
        *own_import.methods(importing),
        *(admin.methods(database, clock) if settings.admin_password else []),
    ]
    publishing = Publishing(database, identities, outbound, settings, clock)
    own_feeds = OwnFeeds(views.answering, settings.service_did, FeedDoor(database, settings, clock).admit)
    feed_calls = FeedCalls(
        views.answering,
        Generators(identities, outbound),
        own_feeds,
        auth.viewers,
        auth.pds_sessions,
        settings,
        views.bring_posts,
    )
    methods += feed_calls.methods()
    images = Images(
        settings.data_path / "cache" / "images",
        partial(_fetch_blob, outbound, identities),
        Renderer().render,
        partial(_is_shown, database),
        refused=partial(_is_taken_down, database),
        cache_bytes=IMAGE_CACHE_BYTES,
    )
    moving = Videos(
        settings.data_path / "cache" / "videos",
        partial(_open_blob, outbound, identities),
        partial(_is_shown, database),
        cache_bytes=VIDEO_CACHE_BYTES,
    )
    budgets = Budgets(settings, clock)
    guard = Guard(secrets.subkey("forms"), settings.origin, _outside_origin(settings))
    client = auth.oauth.client
    frame = Frame(guard, auth.web_sessions, clock, settings.origin, oauth=client.usable)
    door = AdminDoor(auth.web_sessions, settings, clock)
    crew = Crew(database, auth.pds_sessions.end_all, clock)
    website = site(
        frame,
        Pages(views),
        Marking(database, clock),
        Calling(methods),
        proving,
        auth.web_sessions,
        Writing(writer),
        images,
        [
            probes(watch, refresh, telemetry.REGISTRY, settings.admin_password, budgets),
            status_page(frame, status.public),
            control.control(
                secrets.subkey("control"),
                clock,
                commands(
                    database,
                    identities,
                    publishing,
                    importing,
                    settings,
                    clock,
                    status,
                    auth.pds_sessions.end_all,
                    door.link,
                ),
                {"audit": audit_command(database, identities, auditor, clock)},
            ),
            _well_known(settings, secrets, vapid),
            syndication(frame, Pages(views), Keys(database, clock)),
            oauth_ways(frame, auth.web_sessions, client),
            devices(frame, auth.web_sessions),
            videos(moving),
            blob_ways(partial(_locate_blob, database, identities)),
            admin_pages(frame, door, database, crew, clock, budgets),
        ],
        budgets,
    )
    calls = member_calls(
        auth,
        repositories,
        settings,
        cast(asgi.App, website),
        passing=subscriptions.preferences,
        budgets=budgets,
    )
    return asgi.Front(
        methods,
        auth.viewers.authenticate,
        default_labelers=labelers.default(settings.labelers),
        admin_password=settings.admin_password,
        rest=calls,
        rest_has=lambda nsid: calls.has(nsid) or nsid == GET_BLOB,
        goes_elsewhere=calls.goes_elsewhere,
        asked_for=subscriptions.heard,
        budgets=budgets,
        hosts=_own_hosts(settings),
    )


def _joining(settings: Settings) -> Join:
    def join(tx: Transaction, did: str, handle: str | None, invite: str, now_us: int) -> None:
        admission.join(tx, settings, did, handle, invite, now_us)

    return join


def _own_hosts(settings: Settings) -> frozenset[str]:
    """By which names we are spoken to: the public ones, and this machine's for whatever stands in front."""
    named = [
        urlsplit(url).hostname or "" for url in (settings.origin, settings.image_url, settings.video_url)
    ]
    local = ["localhost", "127.0.0.1", "::1", settings.bind.strip("[]")]
    return frozenset(name for name in [*named, *local, settings.appview_hostname.lower()] if name)


def _rules(settings: Settings) -> Rules:
    return Rules(
        partial(lexicons.validate_record, published=True), settings.store_scope, frozenset(settings.verifiers)
    )


async def back_up(settings: Settings, target: Path) -> backups.Copied:
    """Copy the database to that file, whether or not the appliance runs. Raises what ``backups`` raises."""
    return await asyncio.to_thread(backups.back_up, settings.data_path / DATABASE_FILE, target)


async def restore(settings: Settings, source: Path) -> tuple[backups.Copied, Path | None]:
    """Put that backup in the database's place. Raises Unavailable while the appliance runs."""
    with DataLock(settings.data_path):
        path = settings.data_path / DATABASE_FILE
        return await asyncio.to_thread(backups.restore, source, path, SystemClock().now_us())


async def _open(settings: Settings, clock: Clock, stack: contextlib.AsyncExitStack) -> Database:
    """The database, ours alone, and in doubt about everybody where it is older than it was."""
    path = settings.data_path / DATABASE_FILE
    generation.expect(path)
    told = generation.told(path)
    database = await Database.open(path, readers=settings.readers)
    stack.push_async_callback(database.close)
    try:
        beat, why = await database.write(lambda tx: generation.begin(tx, told, clock.now_us()), durable=True)
        await database.claim(uuid4().hex)
    except Unavailable as error:
        # A full disk: readers can be served all the same, unless a doubt would have to be written first.
        if await database.read(lambda reader: generation.went_back(reader, told)):
            raise
        log.error("start_not_stored", error=error)
        return database
    if why:
        log.error("store_went_back", why=why)
    try:
        generation.tell(path, beat)
    except OSError as error:
        log.error("beat_not_told", error=error)
    return database


def _is_sound(reader: Reader) -> bool:
    last = checks.last(reader)
    return last is None or last.sound


@contextlib.contextmanager
def _listening(settings: Settings) -> Any:
    """The listening socket, taken before anything else starts, so that a taken port is said at once."""
    listener = socket.socket(socket.AF_INET6 if ":" in settings.bind else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.bind, settings.port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Unavailable(f"can't listen on {settings.bind}:{settings.port}: {error.strerror}") from error
    try:
        yield listener
    finally:
        listener.close()


def _http_config(listener: socket.socket) -> Config:
    config = Config()
    # The server closes it from now on.
    config.bind = [f"fd://{listener.detach()}"]
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = REQUESTS_PER_CONNECTION_MAX
    config.graceful_timeout = DRAIN_S
    config.backlog = BACKLOG
    return config


async def _serve(application: Any, config: Config, stopping: asyncio.Event) -> None:
    async def stop() -> None:
        await stopping.wait()

    await serve_http(application, config, shutdown_trigger=stop, mode="asgi")


async def _is_taken_down(database: Database, did: str, cid: str) -> bool:
    return await database.read(lambda reader: takedowns.of_blob(reader, did, cid)) is not None


def _may_push(outbound: Outbound, endpoint: str) -> bool:
    try:
        target = outbound.policy.target(endpoint, PUSH.ports)
    except BadInput:
        return False
    return target.scheme == "https" or target.loopback


async def _locate_blob(database: Database, identities: Identities, did: str, cid: str) -> str:
    if not await _is_shown(database, did, cid):
        raise NotFound("no record here shows that blob", name="BlobNotFound")
    identity = await identities.get(did)
    if identity.pds is None:
        raise NotFound("that account has no server", name="BlobNotFound")
    return f"{identity.pds}/xrpc/com.atproto.sync.getBlob?{urlencode({'did': did, 'cid': cid})}"


@contextlib.asynccontextmanager
async def _open_blob(
    outbound: Outbound, identities: Identities, did: str, cid: str
) -> AsyncIterator[AsyncIterator[bytes]]:
    identity = await identities.get(did)
    if identity.pds is None:
        raise NotFound("that account has no server", name="BlobNotFound")
    url = f"{identity.pds}/xrpc/com.atproto.sync.getBlob"
    async with outbound.stream(url, limits=VIDEO, params={"did": did, "cid": cid}) as answer:
        if answer.status in (400, 404):
            raise NotFound("the owner's server does not have that video", name="BlobNotFound")
        if answer.status != 200:
            raise Unavailable("the owner's server did not give the video")
        yield aiter(answer)


async def _is_shown(database: Database, did: str, cid: str) -> bool:
    return await database.read(lambda reader: blobs.is_shown(reader, did, cid))


async def _fetch_blob(outbound: Outbound, identities: Identities, did: str, cid: str) -> bytes:
    identity = await identities.get(did)
    if identity.pds is None:
        raise NotFound("that account has no server", name="BlobNotFound")
    answer = await outbound.get(
        f"{identity.pds}/xrpc/com.atproto.sync.getBlob", limits=BLOB, params={"did": did, "cid": cid}
    )
    if answer.status in (400, 404):
        raise NotFound("the owner's server does not have that picture", name="BlobNotFound")
    if answer.status != 200:
        raise Unavailable("the owner's server did not give the picture")
    return answer.body


def _outside_origin(settings: Settings) -> str:
    """Where pictures come from when not from us: the page's policy has to name it."""
    if not settings.image_url or settings.image_url.startswith(settings.origin + "/"):
        return ""
    parts = urlsplit(settings.image_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise BadInput("IMAGE_URL has to be a whole address")
    return f"{parts.scheme}://{parts.netloc}"


def _well_known(settings: Settings, secrets: Secrets, vapid: Vapid) -> Blueprint:
    """Our DID document: where clients and servers learn what we are. And our key as a sender of messages."""
    blueprint = Blueprint("well_known", __name__)
    document = json.dumps(own_identity.document(settings, own_identity.signing_key(secrets)))

    @blueprint.get("/.well-known/did.json")
    async def did_document() -> Response:
        response = Response(document, content_type="application/json")
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    @blueprint.get("/.well-known/push-key")
    async def push_key() -> Response:
        response = Response(vapid.public, content_type="text/plain")
        response.headers["Access-Control-Allow-Origin"] = "*"
        response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
        return response

    return blueprint
