"""Looking at timelines again and again: at each look the order is exact, and what is gone stays gone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable, Mapping
from typing import Any

import httpx

from appliance.devnet.truth import POST
from tests.journeys.harness import PAGE, PAGES_MAX, Client, Row, check_order, row


class Looks:
    """One member's eyes. ``count`` are the complete looks, ``gone`` the records seen, and then seen to vanish
    because their repository deleted them.

    ``steady`` are accounts whom the member follows all the time: what one of them deleted, and what was
    hidden here after that, has no reason to be ever shown again.
    """

    def __init__(self, client: Client, http: httpx.AsyncClient, steady: Iterable[str]) -> None:
        self.count = 0
        self.gone: set[str] = set()
        self._client = client
        self._http = http
        self._steady = {*steady, client.did}
        self._seen: dict[str, str] = {}

    def begins_anew(self, did: str) -> None:
        """What that account had before goes with a snapshot, not with deletions: nothing is said of it."""
        self._steady.discard(did)
        self.gone = {uri for uri in self.gone if author(uri) != did}

    def any_of(self, chance: random.Random) -> str | None:
        """A record that was seen, of somebody who is followed all the time."""
        seen = sorted(uri for uri in self._seen if author(uri) in self._steady)
        return chance.choice(seen) if seen else None

    async def look(self, pds: Iterable[str], pages: int = PAGES_MAX) -> None:
        """Read so far down the timeline. Raises AssertionError for what no reader may ever see."""
        rows = await self._rows(pages)
        if rows is None:
            return
        check_order(rows)
        shown = {each.uri: each.sort_at for each in rows}
        back = set(shown) & self.gone
        assert not back, f"shown to {self._client.did} again after it was deleted: {sorted(back)[:3]}"
        # What lies below the last row may still be there.
        lowest = rows[-1].sort_at if rows and pages < PAGES_MAX else ""
        # Who was hidden as a whole shows all again when they are back, until the deletion is read as well;
        # and a repost may be hidden by what became of the post's author.
        there = {author(each.uri) for each in rows if each.uri == each.subject}
        for uri, sort_at in self._seen.items():
            hidden = uri not in shown and sort_at > lowest and author(uri) in self._steady & there
            hidden = hidden and f"/{POST}/" in uri
            # It may have begun anew while its server was asked.
            if hidden and await is_deleted(self._http, pds, uri) and author(uri) in self._steady:
                self.gone.add(uri)
        self._seen = {uri: at for uri, at in (self._seen | shown).items() if uri not in self.gone}
        self.count += 1

    async def _rows(self, pages: int) -> list[Row] | None:
        """None when the process died or was not yet there."""
        rows: list[Row] = []
        cursor = None
        for _ in range(pages):
            params: dict[str, Any] = {"limit": PAGE} | ({"cursor": cursor} if cursor else {})
            page = await answered(self._client, "app.bsky.feed.getTimeline", **params)
            if page is None:
                return None
            rows += [row(item) for item in page["feed"]]
            cursor = page.get("cursor")
            if cursor is None:
                return rows
        assert pages < PAGES_MAX, "the timeline has no end"
        return rows


async def answered(client: Client, nsid: str, body: Mapping[str, Any] | None = None, **params: Any) -> Any:
    """What the appliance says; None while it can't: it has just been killed, or the member's server asks to
    wait, which is passed on."""
    try:
        return await client.call(nsid, body, **params)
    except httpx.TransportError:
        return None
    except AssertionError as error:
        if any(f": {status} " in str(error) for status in (429, 500, 502, 503, 504)):
            return None
        raise


def author(uri: str) -> str:
    """Whose repository the record is in."""
    return uri.removeprefix("at://").partition("/")[0]


async def is_deleted(http: httpx.AsyncClient, pds: Iterable[str], uri: str) -> bool:
    """Does the repository's server say that there is no such record? An account that is away says nothing."""
    did, collection, rkey = uri.removeprefix("at://").split("/")
    params = {"repo": did, "collection": collection, "rkey": rkey}
    for origin in pds:
        answer = await http.get(f"{origin}/xrpc/com.atproto.repo.getRecord", params=params)
        if answer.status_code == 200:
            return False
        if answer.json().get("error") == "RecordNotFound":
            return True
    return False


async def look_around(looks: list[Looks], pds: Iterable[str], pause_s: float = 0.1) -> None:
    """Look until cancelled, one member after the other: at the newest rows, where things happen."""
    while True:
        for each in looks:
            await each.look(pds, pages=2)
            await asyncio.sleep(pause_s)
