"""Who is banned stays out, by every door, until the operator lets them in again."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from appliance.auth.mint import service_token
from appliance.errors import ApplianceError, BadInput, NotFound, Refused
from appliance.members import commands
from appliance.members.feed_door import FeedDoor
from appliance.protocol.keys import PrivateKey
from appliance.store import acts, bans, member_data
from tests.auth.house import ALICE, PASSWORD
from tests.xrpc.counter import Counter

TIMELINE = "app.bsky.feed.getTimeline"


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        counter = Counter(tmp_path, admission="open")
        await counter.open(stack)
        yield counter
        await counter.auth.close()


async def test_t29_who_is_banned_is_out_everywhere_and_comes_back_only_by_the_operator(
    counter: Counter,
) -> None:
    key = PrivateKey.generate("k256")
    counter.book.keys[ALICE] = key.did_key

    def token() -> str:
        return service_token(
            key,
            issuer=ALICE,
            audience="did:web:localhost%3A2580",
            method=TIMELINE,
            now_us=counter.clock.now_us(),
        )

    pair = await counter.signed_in()
    assert (await counter.get(TIMELINE, pair["accessJwt"])).status_code == 200
    assert (await counter.get(TIMELINE, token())).status_code == 200
    database, clock, end = counter.database, counter.clock, counter.auth.pds_sessions.end_all
    with pytest.raises(BadInput):
        await commands.ban(database, None, clock, ALICE, "  ", end)  # type: ignore[arg-type]
    await commands.ban(database, None, clock, ALICE, "spam", end)  # type: ignore[arg-type]
    await counter.clock.advance(6)

    assert (await counter.get(TIMELINE, pair["accessJwt"])).status_code in (400, 401)
    refused = await counter.get(TIMELINE, token())
    assert (refused.status_code, refused.json()["error"]) == (401, "AccountTakedown")
    refresh = await counter.post("com.atproto.server.refreshSession", None, pair["refreshJwt"])
    assert refresh.json()["error"] == "ExpiredToken"
    assert await counter.auth.web_sessions.find(counter.cookie) is None
    for work in (
        counter.auth.web_sessions.sign_in(ALICE, PASSWORD),
        commands.add(database, Known(), counter.settings, clock, ALICE),  # type: ignore[arg-type]
    ):
        with pytest.raises(Refused, match="can't become a member"):
            await work
    with pytest.raises(ApplianceError):
        await FeedDoor(database, counter.settings, clock).admit(ALICE)
    actor = await database.read(lambda r: r.value("SELECT actor FROM ban"))
    told = await database.read(lambda r: member_data.told(r, actor))
    assert not any(told.values()), "nothing is kept of who was banned"
    # At their own server the sign-ins have ended as well.
    assert len(counter.pds.of("com.atproto.server.deleteSession")) >= 2
    assert [
        (act.name, act.before, act.after) for act in await database.read(lambda r: acts.latest(r, 9))
    ] == [("ban", "member", "spam")]

    await commands.unban(database, None, clock, ALICE)  # type: ignore[arg-type]
    with pytest.raises(NotFound):
        await commands.unban(database, None, clock, ALICE)  # type: ignore[arg-type]
    assert await database.read(bans.listing) == []
    await counter.clock.advance(6)
    assert (await counter.get(TIMELINE, token())).status_code == 200


class Known:
    """Everybody exists."""

    async def get(self, did: str) -> None:
        return None
