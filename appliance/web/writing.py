"""The pages' side of writes: what became of it, as a value."""

from __future__ import annotations

from collections.abc import Awaitable

from appliance.web.doors import Outcome
from appliance.writes.repos import Unconfirmed
from appliance.writes.writer import Writer


class Writing:
    """Writes for whoever holds a cookie. What surely was not done is raised, as ``Writer`` says."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def post(self, cookie: str, text: str, *, reply: str, langs: list[str], once: str) -> Outcome:
        """Post; the address is known once it is confirmed."""
        try:
            return Outcome(await self._writer.post(cookie, text, reply=reply, langs=langs, once=once))
        except Unconfirmed:
            return Outcome(confirmed=False)

    async def like(self, cookie: str, uri: str, cid: str, *, wanted: bool) -> Outcome:
        """Like, or take every like back."""
        if wanted:
            return await _outcome(self._writer.like(cookie, uri, cid))
        return await _outcome(self._writer.unlike(cookie, uri))

    async def repost(self, cookie: str, uri: str, cid: str, *, wanted: bool) -> Outcome:
        """Repost, or take every repost back."""
        if wanted:
            return await _outcome(self._writer.repost(cookie, uri, cid))
        return await _outcome(self._writer.unrepost(cookie, uri))

    async def follow(self, cookie: str, did: str, *, wanted: bool) -> Outcome:
        """Follow, or unfollow."""
        if wanted:
            return await _outcome(self._writer.follow(cookie, did))
        return await _outcome(self._writer.unfollow(cookie, did))

    async def delete(self, cookie: str, uri: str) -> Outcome:
        """Delete one of the member's own records."""
        return await _outcome(self._writer.delete(cookie, uri))


async def _outcome(write: Awaitable[None]) -> Outcome:
    try:
        await write
    except Unconfirmed:
        return Outcome(confirmed=False)
    return Outcome()
