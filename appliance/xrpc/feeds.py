"""Feeds of generators: those of others shown here, and ours told to others."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Protocol

import msgspec
import orjson

from appliance.auth import jwt
from appliance.auth.viewers import Viewer, Viewers
from appliance.config import Settings
from appliance.errors import BadInput, Refused
from appliance.feeds.generators import SERVICE_ID, SKELETON, Generators
from appliance.feeds.own import OwnFeeds
from appliance.outbound.client import Answer as Reply
from appliance.outbound.limits import SERVICE, Limits
from appliance.timeline import skeletons
from appliance.timeline.answering import Answer, Answering, paged, record_of
from appliance.timeline.hydration import State
from appliance.timeline.json_text import joined
from appliance.timeline.presenting import Presenter
from appliance.timeline.skeletons import Entry
from appliance.xrpc.methods import Access, Call, Method

GET_FEED = "app.bsky.feed.getFeed"
INTERACTIONS = "app.bsky.feed.sendInteractions"
# So long a member waits for posts that are not here yet.
WITHIN_S = 2.0
_PASSED_ON = (b"accept-language", b"x-bsky-topics")

Bring = Callable[[list[str], float], Awaitable[None]]


class Sessions(Protocol):
    """Members' sign-ins at their PDSs; ``auth.pds_sessions`` is one."""

    async def service_token(self, pds_session: int, audience: str, method: str) -> str: ...
    async def call(
        self,
        pds_session: int,
        method: str,
        nsid: str,
        *,
        limits: Limits,
        content: bytes,
        headers: dict[str, str],
    ) -> Reply: ...


class FeedCalls:
    """The calls. ``bring(addresses, within_s)`` fetches posts for a member."""

    def __init__(
        self,
        answering: Answering,
        generators: Generators,
        own: OwnFeeds,
        viewers: Viewers,
        sessions: Sessions,
        settings: Settings,
        bring: Bring,
    ) -> None:
        self._answering = answering
        self._generators = generators
        self._own = own
        self._viewers = viewers
        self._sessions = sessions
        self._settings = settings
        self._bring = bring

    def methods(self) -> list[Method]:
        """All of them."""
        optional, required, public = Access.OPTIONAL, Access.REQUIRED, Access.PUBLIC
        return [
            Method("app.bsky.feed.getFeedGenerator", optional, self._get_generator),
            Method(GET_FEED, optional, self._get_feed, authenticate=self._reader),
            Method("app.bsky.feed.describeFeedGenerator", public, self._describe),
            Method(SKELETON, optional, self._get_skeleton, authenticate=self._asked_as_generator(SKELETON)),
            Method(
                INTERACTIONS,
                required,
                self._send_interactions,
                procedure=True,
                authenticate=self._asked_as_generator(INTERACTIONS, procedure=True),
            ),
        ]

    # ------------------------------------------------------------ who asks

    async def _reader(self, authorization: str | None, parameters: dict[str, Any]) -> Viewer | None:
        """The viewer of getFeed: a PDS makes the token for the generator, whose name it must then bear."""
        method, audiences = GET_FEED, None
        if authorization is not None:
            token = jwt.parse(jwt.bearer(authorization))
            if token.payload.get("lxm") == SKELETON:
                did = await self._service_of(parameters["feed"])
                method, audiences = SKELETON, frozenset({did, f"{did}#{SERVICE_ID}"})
        return await self._viewers.authenticate(authorization, method, audiences=audiences)

    def _asked_as_generator(
        self, method: str, *, procedure: bool = False
    ) -> Callable[[str | None, dict[str, Any]], Awaitable[Viewer | None]]:
        audiences = self._settings.feed_audiences | self._settings.service_audiences

        async def authenticate(authorization: str | None, _: dict[str, Any]) -> Viewer | None:
            return await self._viewers.authenticate(
                authorization, method, procedure=procedure, audiences=audiences
            )

        return authenticate

    async def _service_of(self, uri: str) -> str:
        """The DID of the generator that a feed's record names. Raises BadInput."""

        did = await self._answering.database.read(lambda reader: skeletons.service_of(reader, uri))
        if not did:
            raise BadInput("could not find feed")
        return did

    # ------------------------------------------------------------ feeds of others

    async def _get_generator(self, call: Call) -> Answer:
        uri = call.parameters["feed"]

        def members(state: State) -> bytes:
            found = record_of(state, uri)
            if found is not None:
                state.load_things([found])
                state.finish()
            view = None if found is None else Presenter(state).things.generator(found)
            if found is None or view is None or not state.sayings[found].service:
                raise BadInput("could not find feed")
            return b'"view":%b,"isOnline":true,"isValid":true' % view

        answer = await self._answering.answer(call.asker, members)
        did = answer.parsed()["view"]["did"]
        if did != self._settings.service_did:
            await self._generators.endpoint(did)
        return answer

    async def _get_feed(self, call: Call) -> Answer:
        p, asker = call.parameters, call.asker
        uri, cursor, limit = p["feed"], p.get("cursor"), p["limit"]
        did = await self._service_of(uri)
        language = req_id = ""
        entries: list[Entry]
        following: str | None
        if did == self._settings.service_did:
            entries, following = await self._own.entries(asker, uri, cursor=cursor, limit=limit)
        else:
            headers = {name.decode(): call.headers[name] for name in _PASSED_ON if name in call.headers}
            headers |= await self._proof(call, did)
            skeleton = await self._generators.skeleton(did, uri, cursor=cursor, limit=limit, headers=headers)
            entries, following = skeleton.entries, skeleton.cursor
            language, req_id = skeleton.language, skeleton.req_id
        if asker.member:
            absent = await self._answering.database.read(lambda r: skeletons.missing(r, entries))
            if absent:
                await self._bring(absent, WITHIN_S)

        def members(state: State) -> bytes:
            views = skeletons.show(state, entries, req_id)
            return paged(b'"feed":' + joined(views), following)

        answer = await self._answering.answer(asker, members)
        return msgspec.structs.replace(answer, language=language)

    async def _proof(self, call: Call, did: str) -> dict[str, str]:
        """What shows the generator who reads. A token that is addressed to us stays here."""
        viewer = call.caller
        if not isinstance(viewer, Viewer):
            return {}
        if viewer.session is not None:
            token = await self._sessions.service_token(viewer.session.pds_session, did, SKELETON)
            return {"authorization": f"Bearer {token}"}
        given = call.headers[b"authorization"]
        return {"authorization": given} if _method_of(given) == SKELETON else {}

    # ------------------------------------------------------------ our own

    async def _describe(self, _: Call) -> Answer:
        return await self._own.describe()

    async def _get_skeleton(self, call: Call) -> Answer:
        p, asker = call.parameters, call.asker
        answer = await self._own.skeleton(asker, p["feed"], cursor=p.get("cursor"), limit=p["limit"])
        if asker.did is not None and not asker.member:
            self._viewers.forget(asker.did)
        return answer

    async def _send_interactions(self, call: Call) -> Answer:
        """To the generator, by way of the member's PDS. Those about our own feeds are taken and not kept."""
        uri = call.body.get("feed", "")
        viewer = call.caller
        did = await self._service_of(uri) if uri else self._settings.service_did
        if did == self._settings.service_did:
            return Answer(b"{}")
        if not isinstance(viewer, Viewer) or viewer.session is None:
            raise BadInput("Send this to the feed's own generator, by atproto-proxy")
        await self._generators.endpoint(did)
        reply = await self._sessions.call(
            viewer.session.pds_session,
            "POST",
            INTERACTIONS,
            limits=SERVICE,
            content=orjson.dumps(call.body),
            headers={"content-type": "application/json", "atproto-proxy": f"{did}#{SERVICE_ID}"},
        )
        if reply.status == 401 or not reply.ok:
            raise BadInput("The feed's generator does not take this", name=reply.error_name() or None)
        return Answer(b"{}")


def _method_of(authorization: str) -> str:
    try:
        method = jwt.parse(jwt.bearer(authorization)).payload.get("lxm")
    except Refused:
        return ""
    return method if isinstance(method, str) else ""
