"""Calls under tokens from OAuth: proofs, nonces, renewal, giving back (AUTH §9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from appliance.auth import dpop
from appliance.auth.oauth_client import OAuthClient
from appliance.auth.secrets import KEY_FILE, open_secrets
from appliance.errors import ApplianceError, Refused, Unavailable
from appliance.outbound.client import Answer
from appliance.outbound.limits import PDS_UPLOAD, PDS_WRITE
from appliance.protocol.keys import PrivateKey
from appliance.store import generation
from tests.auth.house import ALICE, BOB, Known
from tests.auth.oauth_house import OAuthHouse, jwt_of
from tests.auth.small_pds import Asked, Reply

CREATE = "com.atproto.repo.createRecord"


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[OAuthHouse]:
    async with AsyncExitStack() as stack:
        house = OAuthHouse(tmp_path)
        await house.open(stack)
        yield house
        await house.auth.close()


async def number(house: OAuthHouse) -> int:
    return (await house.sign_in())[1].welcome.pds_session


async def write(house: OAuthHouse, session: int, rkey: str = "1") -> Answer:
    body = b'{"repo":"%b","collection":"app.bsky.feed.like","rkey":"%b","record":{}}' % (
        ALICE.encode(),
        rkey.encode(),
    )
    return await house.auth.pds_sessions.call(session, "POST", CREATE, limits=PDS_WRITE, content=body)


def renewals(house: OAuthHouse) -> int:
    forms = house.server.forms("token")
    return sum(form["grant_type"] == "refresh_token" for form in forms)


async def refusal(work: Any) -> ApplianceError:
    with pytest.raises(ApplianceError) as caught:
        await work
    return caught.value


async def until(condition: Any) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.001)


async def test_a_call_carries_a_proof_and_a_new_nonce_costs_one_more_try(house: OAuthHouse) -> None:
    session = await number(house)
    assert (await write(house, session)).status == 200
    house.server.nonce = "nonce-2"
    assert (await write(house, session, "2")).status == 200

    # Nonces are the server's, and here it is one: the sign-in has brought the first.
    asked = house.server.of(CREATE)
    assert [jwt_of(one.headers["dpop"])[1]["nonce"] for one in asked] == ["nonce-1", "nonce-1", "nonce-2"]
    assert all(one.headers["authorization"].startswith("DPoP at-") for one in asked)
    assert len(house.server.records) == 2


async def test_a_body_that_streams_goes_out_once_behind_a_small_call(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(300)
    house.server.nonce = "nonce-2"

    async def pieces() -> AsyncIterator[bytes]:
        yield b"abc"

    answer = await house.auth.pds_sessions.call(
        session, "POST", "com.atproto.repo.uploadBlob", limits=PDS_UPLOAD, content=pieces()
    )

    assert answer.status == 200
    assert len(house.server.of("com.atproto.repo.uploadBlob")) == 1
    assert len(house.server.of("com.atproto.server.getSession")) == 2


async def test_t43_many_at_the_end_of_a_token_cause_one_renewal(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(3 * 3600)
    answers = await asyncio.gather(*(write(house, session, str(n)) for n in range(50)))

    assert [answer.status for answer in answers] == [200] * 50
    assert renewals(house) == 1


async def test_a_token_is_renewed_before_it_ends(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(3600 - 65)
    assert (await write(house, session)).status == 200
    assert renewals(house) == 1
    assert [one.headers["authorization"] for one in house.server.of(CREATE)] == [
        f"DPoP {list(house.server.tokens_out)[-1]}"
    ]


async def test_t44_a_renewal_whose_caller_leaves_is_kept(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(3 * 3600)
    gate, asked = asyncio.Event(), asyncio.Event()

    async def slow(one: Asked) -> Reply:
        asked.set()
        await gate.wait()
        return house.server._form("oauth/token", one)

    house.server.overlay["oauth/token"] = slow
    caller = asyncio.create_task(write(house, session))
    await asked.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    closing = asyncio.create_task(house.auth.close())
    gate.set()
    await closing
    house.server.overlay.clear()

    assert (await write(house, session, "2")).status == 200
    assert renewals(house) == 1


async def test_t44_killed_between_answer_and_commit_it_asks_once_more_and_then_for_a_new_sign_in(
    house: OAuthHouse,
) -> None:
    session = await number(house)
    sealed = await house.database.read(lambda r: r.value("SELECT sealed FROM pds_session"))
    await house.auth.pds_sessions.renew(session)
    # What a start after the kill finds: the pair of before.
    await house.run("UPDATE pds_session SET sealed = ?", sealed)
    await house.auth.close()
    house.auth = house.build()
    await house.clock.advance(3 * 3600)

    for _ in range(3):
        error = await refusal(write(house, session))
        assert (type(error), error.name) == (Refused, "ExpiredToken")
    # The first before the kill; after it one without a nonce, and that one again with it. Then no more.
    assert renewals(house) == 3
    assert await house.database.read(lambda r: r.value("SELECT dead FROM pds_session")) == "expired"


async def test_t45_only_invalid_grant_ends_a_sign_in(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(3 * 3600)
    for reply in (
        (500, {}),
        (503, {"error": "x"}),
        (400, {"error": "invalid_client"}),
        (400, b"not json"),
    ):

        async def failing(_: Asked, reply: Any = reply) -> Reply:
            return reply  # type: ignore[no-any-return]

        house.server.overlay["oauth/token"] = failing
        assert isinstance(await refusal(write(house, session)), Unavailable)
        # Not again at once: whoever comes now is told to wait.
        tried = len(house.server.of("/oauth/token"))
        assert isinstance(await refusal(write(house, session)), Unavailable)
        assert len(house.server.of("/oauth/token")) <= tried + 1
        await house.clock.advance(10)
    house.server.overlay.clear()
    # The old token was good still.
    assert (await write(house, session)).status == 200

    await house.clock.advance(3 * 3600)
    house.server.grants.clear()
    assert isinstance(await refusal(write(house, session)), Refused)


async def test_t45_an_answer_that_was_lost_costs_the_sign_in_and_no_more(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(3 * 3600)

    async def broken(one: Asked) -> Reply:
        house.server._form("oauth/token", one)
        return 200, b'{"access_token": '

    house.server.overlay["oauth/token"] = broken
    # The token is used up, and the answer that holds its successor is of no use.
    assert isinstance(await refusal(write(house, session)), Unavailable)
    house.server.overlay.clear()
    await house.clock.advance(10)
    assert isinstance(await refusal(write(house, session)), Refused)
    again = await number(house)
    assert (await write(house, again)).status == 200


async def test_t46_after_a_move_the_token_goes_to_neither_server(house: OAuthHouse) -> None:
    session = await number(house)
    async with OAuthHouse(house.settings.data_path).pds as elsewhere:
        elsewhere.opened()  # type: ignore[attr-defined]
        house.book.known[ALICE] = Known(ALICE, "alice.test", elsewhere.origin)
        await house.clock.advance(3 * 3600)
        error = await refusal(write(house, session))
        assert elsewhere.of("/oauth/token") == []

    assert (type(error), error.name) == (Refused, "AccountMoved")
    assert renewals(house) == 0
    assert (await refusal(write(house, session))).name == "ExpiredToken"


async def test_while_nobody_says_where_the_account_lives_the_sign_in_stays(house: OAuthHouse) -> None:
    session = await number(house)
    await house.clock.advance(3 * 3600)
    house.book.down = True
    assert isinstance(await refusal(write(house, session)), Unavailable)
    house.book.down = False
    assert (await write(house, session)).status == 200


async def test_t47_a_pds_that_refuses_every_token_causes_one_renewal(house: OAuthHouse) -> None:
    session = await number(house)

    async def never(_: Asked) -> Reply:
        return 401, {"error": "invalid_token"}, {"dpop-nonce": house.server.nonce}

    house.server.instead[CREATE] = never
    for _ in range(5):
        assert (await write(house, session)).status == 401
    assert renewals(house) == 1


async def test_t48_a_redirect_of_the_pds_is_an_answer_and_takes_no_token_anywhere(house: OAuthHouse) -> None:
    session = await number(house)
    async with OAuthHouse(house.settings.data_path).pds as elsewhere:

        async def away(_: Asked) -> Reply:
            return 307, {}, {"location": f"{elsewhere.origin}/xrpc/{CREATE}"}

        house.server.instead[CREATE] = away
        assert (await write(house, session)).status == 307
        assert elsewhere.asked == []


async def test_t49_no_two_sign_ins_share_a_key_and_no_two_proofs_an_id(house: OAuthHouse) -> None:
    house.welcome.add(BOB)
    sessions = [await number(house)]
    away = await house.leave("bob.test")
    await house.come_back(house.server.agreed(away.url, did=BOB))
    await write(house, sessions[0])
    thumbs = {grant[2] for grant in house.server.grants.values()}
    assert len(thumbs) == 2

    proofs = dpop.Proofs(house.clock)
    key = PrivateKey.generate("p256")
    bodies = [jwt_of(proofs.proof(key, "GET", "https://a.dev/xrpc/x?y=1#z", "t"))[1] for _ in range(2000)]
    assert len({body["jti"] for body in bodies}) == 2000
    assert all(len(body["jti"]) >= 22 for body in bodies)  # 128 bits and more
    assert {body["htu"] for body in bodies} == {"https://a.dev/xrpc/x"}
    assert all("ath" in body for body in bodies)


async def test_t51_a_withdrawn_key_ends_its_sign_ins_and_a_new_one_on_top_does_not(house: OAuthHouse) -> None:
    session = await number(house)
    path = house.settings.data_path / KEY_FILE
    old = path.read_text()
    path.write_text("ab" * 32 + "\n" + old)
    client = OAuthClient(house.settings, open_secrets(house.settings), house.clock)
    assert len(client.jwks()["keys"]) == 2
    assert house.auth.oauth.client.newest_key in client.key_ids - {client.newest_key}

    house.auth = house.build()
    await house.auth._retire()
    await house.clock.advance(3 * 3600)
    assert (await write(house, session)).status == 200  # renewed, with the key of then
    newer = await number(house)
    path.write_text("ab" * 32 + "\n")
    house.auth = house.build()
    await house.auth._retire()
    error = await refusal(write(house, session))
    assert (type(error), error.name) == (Refused, "ExpiredToken")
    assert "withdrawn" in error.message
    assert (await write(house, newer, "2")).status == 200


async def test_t52_sealed_tokens_of_one_row_do_not_open_in_another(house: OAuthHouse) -> None:
    one, other = await number(house), await number(house)
    sealed = await house.database.read(
        lambda r: r.value("SELECT sealed FROM pds_session WHERE id = ?", (one,))
    )
    for bad in (sealed, sealed[:-1], b"\x02" + sealed[1:], b""):
        await house.run("UPDATE pds_session SET sealed = ? WHERE id = ?", bad, other)
        assert isinstance(await refusal(write(house, other)), Refused)
    assert (await write(house, one)).status == 200


async def test_t53_a_copy_that_was_put_back_shows_no_old_refresh_token(house: OAuthHouse) -> None:
    session = await number(house)
    await house.database.write(lambda tx: generation.doubt(tx, house.clock.now_us()))
    await house.clock.advance(3 * 3600)

    error = await refusal(write(house, session))
    assert isinstance(error, Refused)
    assert "restored" in error.message
    assert renewals(house) == 0


async def test_t57_signing_out_ends_it_here_at_once_and_at_the_server_if_it_listens(
    house: OAuthHouse,
) -> None:
    cookie, returned = await house.sign_in()
    refresh = list(house.server.grants)
    await house.auth.web_sessions.sign_out(cookie)
    assert await house.auth.web_sessions.who(cookie) is None
    await until(lambda: house.server.revoked)
    assert house.server.revoked == refresh

    cookie, returned = await house.sign_in()
    gate = asyncio.Event()

    async def silent(_: Asked) -> Reply:
        await gate.wait()
        return 500, {}

    house.server.overlay["oauth/revoke"] = silent
    await house.auth.web_sessions.sign_out(cookie)
    assert await house.rows("pds_session") == 0
    assert isinstance(await refusal(write(house, returned.welcome.pds_session)), Refused)
    gate.set()


async def test_all_other_sessions_of_a_member_end_together(house: OAuthHouse) -> None:
    cookies = [(await house.sign_in())[0] for _ in range(3)]
    web = house.auth.web_sessions
    here = await web.get(cookies[0])
    assert await web.end_others(here.actor, here.id) == 2

    assert [await web.who(cookie) is not None for cookie in cookies] == [True, False, False]
    assert [one.id for one in await web.listing(here.actor)] == [here.id]
