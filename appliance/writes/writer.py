"""What the pages let a member do: post, like, repost, follow, delete."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import orjson

from appliance.auth.web_sessions import WebSessions
from appliance.clock import Clock
from appliance.errors import BadInput, NotFound, Refused, Unavailable
from appliance.ingest import gates
from appliance.protocol import syntax
from appliance.store import actors, collections, links, own_records, written
from appliance.store.database import Database, Reader, Transaction
from appliance.store.own_records import Subject
from appliance.store.sessions import Session
from appliance.store.written import Write
from appliance.writes import compose
from appliance.writes.compose import Answered
from appliance.writes.operations import is_record_cid
from appliance.writes.repos import Repos

T = TypeVar("T")
LIKE = "app.bsky.feed.like"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"
# Nothing else may be deleted by a form.
DELETABLE = frozenset({compose.POST, LIKE, REPOST, FOLLOW})
ONCE_CHARS_MAX = 100

Resolve = Callable[[str], Awaitable[str | None]]


class Writer:
    """Writes for whoever holds a browser's cookie. Each raises an ApplianceError with a sentence for them."""

    def __init__(
        self,
        database: Database,
        web_sessions: WebSessions,
        repos: Repos,
        resolve_handle: Resolve,
        clock: Clock,
    ) -> None:
        self._database = database
        self._web_sessions = web_sessions
        self._repos = repos
        self._resolve_handle = resolve_handle
        self._clock = clock
        self._locks: WeakValueDictionary[tuple[str, ...], asyncio.Lock] = WeakValueDictionary()

    async def post(
        self, cookie: str, text: str, *, reply: str = "", langs: Sequence[str] = (), once: str = ""
    ) -> str:
        """The address of the new post. The same form sent again (``once``) gives the same post."""
        session = await self._web_sessions.get(cookie)
        form = f"post {once[:ONCE_CHARS_MAX]}" if once else ""
        async with self._lock(session.did, form) if form else asyncio.Lock():
            # One form has one key, whatever happens in between: sent again it can't become a second post.
            former = await self._last(session, form)
            if former is not None and (
                former.outcome == "done"
                or (former.open and await self._repos.look(session, compose.POST, former.rkey))
            ):
                return f"at://{session.did}/{compose.POST}/{former.rkey}"
            answered = await self._answered(session, reply) if reply else None
            record = await compose.post(
                text, reply=answered, langs=langs, now_us=self._clock.now_us(), resolve=self._resolve
            )
            rkey = None if former is None else former.rkey
            return (await self._repos.create(session, compose.POST, record, rkey, form=form)).uri

    async def like(self, cookie: str, uri: str, cid: str) -> None:
        """Like a post; one that is liked already stays so."""
        await self._point(cookie, LIKE, links.LIKE, uri, cid, wanted=True)

    async def unlike(self, cookie: str, uri: str) -> None:
        """Take back every like of the post."""
        await self._point(cookie, LIKE, links.LIKE, uri, "", wanted=False)

    async def toggle_like(self, cookie: str, uri: str, cid: str) -> None:
        """Like, or take every like back."""
        await self._point(cookie, LIKE, links.LIKE, uri, cid, wanted=None)

    async def repost(self, cookie: str, uri: str, cid: str) -> None:
        """Repost a post; one that is reposted already stays so."""
        await self._point(cookie, REPOST, links.REPOST, uri, cid, wanted=True)

    async def unrepost(self, cookie: str, uri: str) -> None:
        """Take back every repost of the post."""
        await self._point(cookie, REPOST, links.REPOST, uri, "", wanted=False)

    async def toggle_repost(self, cookie: str, uri: str, cid: str) -> None:
        """Repost, or take every repost back."""
        await self._point(cookie, REPOST, links.REPOST, uri, cid, wanted=None)

    async def follow(self, cookie: str, did: str) -> None:
        """Follow an account; one that is followed already stays so."""
        await self._follow(cookie, did, wanted=True)

    async def unfollow(self, cookie: str, did: str) -> None:
        """Take back every follow of the account."""
        await self._follow(cookie, did, wanted=False)

    async def toggle_follow(self, cookie: str, did: str) -> None:
        """Follow, or take every follow back."""
        await self._follow(cookie, did, wanted=None)

    async def delete(self, cookie: str, uri: str) -> None:
        """Delete one of the member's own posts, likes, reposts or follows."""
        session = await self._web_sessions.get(cookie)
        address = syntax.parse_at_uri(uri)
        if address.authority != session.did or address.collection not in DELETABLE or not address.rkey:
            raise BadInput("That is not yours to delete here")
        await self._repos.delete(session, address.collection, address.rkey)

    async def _point(
        self, cookie: str, collection: str, kind: int, uri: str, cid: str, *, wanted: bool | None
    ) -> None:
        session = await self._web_sessions.get(cookie)
        address = syntax.parse_at_uri(uri)
        if address.collection != compose.POST or not address.rkey or not syntax.is_did(address.authority):
            raise BadInput("That is not a post")
        key = (address.authority, collections.POST, address.rkey)

        async def find() -> Subject | None:
            return await self._database.read(lambda r: own_records.find_subject(r, *key))

        async def number() -> int | None:
            subject = await find()
            return None if subject is None else subject.id

        async def strong() -> dict[str, Any]:
            subject = await find()
            if subject is None:
                raise NotFound("This post is gone")
            await self._check_blocks(session, subject.actor)
            return {"uri": uri, "cid": cid if is_record_cid(cid) else subject.cid}

        await self._toggle(session, collection, kind, uri, number, strong, wanted)

    async def _follow(self, cookie: str, did: str, *, wanted: bool | None) -> None:
        session = await self._web_sessions.get(cookie)
        if not syntax.is_did(did) or did == session.did:
            raise BadInput("That is not an account to follow")

        async def number() -> int | None:
            return await self._database.read(lambda r: actors.find_id(r, did))

        async def subject() -> str:
            actor = await number()
            if actor is not None:
                await self._check_blocks(session, actor)
            return did

        await self._toggle(session, FOLLOW, links.FOLLOW, did, number, subject, wanted)

    async def _toggle(
        self,
        session: Session,
        collection: str,
        kind: int,
        name: str,
        number: Callable[[], Awaitable[int | None]],
        make: Callable[[], Awaitable[Any]],
        wanted: bool | None,
    ) -> None:
        """``name`` and ``number`` are the subject's, ``make`` gives what the record says of it."""
        form = f"{collection} {name}"
        async with self._lock(session.did, form):
            former = await self._last(session, form)
            rkey = None
            if former is not None and former.open:
                # Nobody has heard what became of the last press of this button.
                there = await self._repos.look(session, former.collection, former.rkey)
                rkey = former.rkey if former.action == "create" and not there else None
            existing = await self._existing(session.actor, kind, await number())
            if existing and wanted is not True:
                for found, key in existing:
                    await self._repos.delete(session, found, key, form=form)
            elif not existing and wanted is not False:
                created_at = compose.timestamp(self._clock.now_us())
                record = {"$type": collection, "subject": await make(), "createdAt": created_at}
                await self._repos.create(session, collection, record, rkey, form=form)

    async def _last(self, session: Session, form: str) -> Write | None:
        if not form:
            return None
        return await self._database.read(lambda r: written.last(r, session.actor, form))

    async def _existing(self, actor: int, kind: int, subject: int | None) -> list[tuple[str, str]]:
        if subject is None:
            return []
        return await self._database.read(lambda r: own_records.keys_of_links(r, kind, actor, subject))

    async def _check_blocks(self, session: Session, actor: int) -> None:
        if await self._database.read(lambda r: own_records.blocks_between(r, session.actor, actor)):
            raise Refused("One of you has blocked the other", name="BlockedActor")

    async def _answered(self, session: Session, uri: str) -> Answered:
        """Parent and root of a reply, taken from the parent itself and never from the form."""
        address = syntax.parse_at_uri(uri)
        if address.collection != compose.POST or not address.rkey or not syntax.is_did(address.authority):
            raise BadInput("That is not a post to reply to")
        key = (address.authority, collections.POST, address.rkey)

        def look(reader: Reader) -> tuple[Subject, Subject | None] | None:
            parent = own_records.find_subject(reader, *key)
            if parent is None:
                return None
            root = root_of(parent)
            if root is None:
                return parent, parent
            try:
                at = syntax.parse_at_uri(root[0])
            except BadInput:
                return parent, None
            if at.collection != compose.POST or at.rkey is None:
                return parent, None
            return parent, own_records.find_subject(reader, at.authority, collections.POST, at.rkey)

        found = await self._database.read(look)
        if found is None:
            raise NotFound("The post that you reply to is gone")
        parent, root = found
        await self._check_blocks(session, parent.actor)
        if root is not None:
            await self._check_blocks(session, root.actor)
            await self._check_gate(session, root)
        named = root_of(parent)
        return Answered((parent.uri, parent.cid), named if named is not None else (parent.uri, parent.cid))

    async def _check_gate(self, session: Session, root: Subject) -> None:
        def check(tx: Transaction) -> bool:
            return gates.breaks_thread_gate(tx, session.did, session.actor, root.id, all_known=False)

        if await self._database.write(check):
            raise Refused("Its author has limited who can reply", name="ReplyNotAllowed")

    async def _resolve(self, handle: str) -> str | None:
        try:
            return await self._resolve_handle(handle)
        except (Unavailable, BadInput):
            return None

    def _lock(self, *name: str) -> asyncio.Lock:
        """One at a time for each name, so that a double click is one write."""
        lock = self._locks.get(name)
        if lock is None:
            lock = self._locks[name] = asyncio.Lock()
        return lock


def root_of(post: Subject) -> tuple[str, str] | None:
    """(uri, cid) of the root that a post names; None for a post that is no reply."""
    record = orjson.loads(post.body)
    reply = record.get("reply") if isinstance(record, dict) else None
    root = reply.get("root") if isinstance(reply, dict) else None
    if (
        not isinstance(root, dict)
        or not isinstance(root.get("uri"), str)
        or not isinstance(root.get("cid"), str)
    ):
        return None
    return root["uri"], root["cid"]
