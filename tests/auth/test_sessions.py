import asyncio
import base64
import hmac
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from appliance import telemetry
from appliance.auth.mint import service_token
from appliance.auth.sign_in import Credentials
from appliance.auth.xrpc_sessions import Begun
from appliance.errors import ApplianceError, BadInput, Refused, Unavailable
from appliance.outbound.limits import PDS_WRITE
from appliance.protocol.keys import PrivateKey
from tests.auth.house import ALICE, BOB, PASSWORD, House, Known
from tests.auth.small_pds import Asked, Reply

TIMELINE = "app.bsky.feed.getTimeline"


async def sign_in(house: House, identifier: str = "alice.test", password: str = PASSWORD) -> Begun:
    return await house.auth.xrpc_sessions.create(Credentials(identifier, password), "a test")


async def refusal(work: Any) -> ApplianceError:
    with pytest.raises(ApplianceError) as caught:
        await work
    return caught.value


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def answering(*reply: Any) -> Callable[[Asked], Any]:
    async def answer(asked: Asked) -> Reply:
        return reply

    return answer


def claims(token: str) -> dict[str, Any]:
    payload = token.split(".")[1]
    value: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return value


@pytest.mark.parametrize("identifier", ["alice.test", "@Alice.TEST", " alice.test ", ALICE])
async def test_a_handle_or_a_did_signs_in_at_its_own_pds(house: House, identifier: str) -> None:
    begun = await sign_in(house, identifier)

    assert (begun.did, begun.handle) == (ALICE, "alice.test")
    [asked] = house.pds.of("com.atproto.server.createSession")
    assert asked.json == {"identifier": ALICE, "password": PASSWORD}
    assert house.joined == [(ALICE, "alice.test", "")]
    assert max(house.book.ages) <= 600
    assert claims(begun.pair.access)["aud"] == "did:web:localhost%3A2580"
    viewer = await house.auth.viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE)
    assert viewer is not None
    assert (viewer.did, viewer.member, viewer.via) == (ALICE, True, "session")


@pytest.mark.invariant("secrets-stay-in")
async def test_the_tokens_of_the_pds_are_sealed_and_never_given_out(house: House) -> None:
    begun = await sign_in(house)
    assert "pds-" not in begun.pair.access + begun.pair.refresh + repr(begun)
    await house.database.close()
    stored = b"".join(path.read_bytes() for path in house.settings.data_path.glob("test.db*"))
    assert b"pds-access" not in stored
    assert b"pds-refresh" not in stored
    assert PASSWORD.encode() not in stored
    assert begun.pair.refresh.encode() not in stored
    assert str(claims(begun.pair.refresh)["jti"]).encode() not in stored


@pytest.mark.parametrize(
    ("identifier", "password", "error", "name"),
    [
        ("alice@example.net", PASSWORD, BadInput, "InvalidRequest"),
        ("not a handle", PASSWORD, BadInput, "InvalidRequest"),
        ("", PASSWORD, BadInput, "InvalidRequest"),
        ("alice", PASSWORD, BadInput, "InvalidRequest"),
        ("a" * 100_000, PASSWORD, BadInput, "InvalidRequest"),
        ("alice.test", "", BadInput, "InvalidRequest"),
        ("alice.test", "x" * 100_000, BadInput, "InvalidRequest"),
    ],
)
async def test_what_is_no_account_or_no_password_is_sent_to_nobody(
    house: House, identifier: str, password: str, error: type[ApplianceError], name: str
) -> None:
    found = await refusal(sign_in(house, identifier, password))
    assert type(found) is error
    assert found.name == name
    assert house.pds.asked == []


async def test_an_unknown_account_and_a_wrong_password_read_the_same(house: House) -> None:
    outcomes = [
        await refusal(sign_in(house, "nobody.test")),
        await refusal(sign_in(house, "did:plc:zzzzzzzzzzzzzzzzzzzzzzzz")),
        await refusal(sign_in(house, "alice.test", "wrong-wrong-wrong")),
    ]
    assert {(type(o), o.name, o.message) for o in outcomes} == {
        (Refused, "AuthenticationRequired", "Invalid identifier or password")
    }


@pytest.mark.parametrize("password", ["  spaces  ", "\x00nul", "pass🧑‍🧑‍🧒word", "tab\tand\nline"])
async def test_a_password_goes_out_unchanged(house: House, password: str) -> None:
    house.pds.add(ALICE, "alice.test", password)
    await sign_in(house, password=password)
    assert house.pds.of("com.atproto.server.createSession")[0].json["password"] == password


async def test_a_handle_that_its_account_does_not_use_signs_nobody_in(house: House) -> None:
    house.book.handles["stolen.test"] = ALICE
    found = await refusal(sign_in(house, "stolen.test"))
    assert found.name == "InvalidHandle"
    assert house.pds.asked == []
    await sign_in(house, ALICE)


async def test_an_account_without_a_confirmed_handle_signs_in_by_its_did(house: House) -> None:
    house.book.known[ALICE] = Known(ALICE, None, house.pds.origin)
    assert (await sign_in(house, ALICE)).handle is None


async def test_a_pds_that_answers_for_another_account_is_refused_and_the_session_ended(house: House) -> None:
    house.pds.instead["com.atproto.server.createSession"] = answering(200, house.pds.tokens(BOB))
    assert (await refusal(sign_in(house))).name == "InvalidDid"
    await until(lambda: len(house.pds.of("com.atproto.server.deleteSession")) == 1)
    assert await house.rows("session") == await house.rows("pds_session") == 0


@pytest.mark.parametrize(
    "origin",
    [
        "https://169.254.169.254",
        "https://10.0.0.1",
        "http://pds.example.net",
        "https://pds.internal",
        "ftp://x.net",
        "https://u:p@pds.example.net",
    ],
)
async def test_a_server_with_a_private_or_plain_address_never_sees_the_password(
    house: House, origin: str
) -> None:
    house.book.known[ALICE] = Known(ALICE, "alice.test", origin)
    assert isinstance(await refusal(sign_in(house)), Unavailable)
    assert house.pds.asked == []


async def test_a_redirect_is_not_followed_with_the_password(house: House) -> None:
    async with type(house.pds)(house.clock) as other:
        house.pds.instead["com.atproto.server.createSession"] = answering(
            307, {}, {"location": f"{other.origin}/xrpc/com.atproto.server.createSession"}
        )
        assert isinstance(await refusal(sign_in(house)), Unavailable)
        assert other.asked == []


@pytest.mark.parametrize(
    ("reply", "error", "name"),
    [
        ((401, {"error": "AuthenticationRequired"}), Refused, "AuthenticationRequired"),
        ((401, b"<html>"), Refused, "AuthenticationRequired"),
        ((401, {"error": "AuthFactorTokenRequired", "message": "x"}), Refused, "AuthFactorTokenRequired"),
        ((401, {"error": "AccountTakedown"}), Refused, "AccountTakedown"),
        ((500, {"error": "InternalServerError"}), Unavailable, "UpstreamFailure"),
        ((404, {}), Unavailable, "UpstreamFailure"),
        ((200, b"not json"), Unavailable, "UpstreamFailure"),
        ((200, {}), Unavailable, "UpstreamFailure"),
        ((200, b"[" * 100_000), Unavailable, "UpstreamFailure"),
        (
            (200, {"did": 1, "handle": [], "accessJwt": {}, "refreshJwt": None}),
            Unavailable,
            "UpstreamFailure",
        ),
        (
            (200, {"did": ALICE, "handle": "a.test", "accessJwt": "a\r\nb", "refreshJwt": "c"}),
            Unavailable,
            "UpstreamFailure",
        ),
        ((200, b'"' + b"x" * 1_000_000 + b'"'), Unavailable, "UpstreamFailure"),
    ],
)
async def test_each_answer_of_a_pds_has_its_own_outcome(
    house: House, reply: Any, error: type[ApplianceError], name: str
) -> None:
    house.pds.instead["com.atproto.server.createSession"] = answering(*reply)
    found = await refusal(sign_in(house))
    assert type(found) is error
    assert found.name == name
    assert await house.rows("pds_session") == 0


async def test_a_pds_that_limits_us_says_for_how_long(house: House) -> None:
    house.pds.instead["com.atproto.server.createSession"] = answering(429, {}, {"retry-after": "120"})
    found = await refusal(sign_in(house))
    assert isinstance(found, Unavailable)
    assert found.name == "RateLimitExceeded"
    assert found.retry_after_s == pytest.approx(120, abs=10)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        ("takendown", "AccountTakedown"),
        ("suspended", "AccountSuspended"),
        ("deactivated", "AccountDeactivated"),
        (None, "AccountInactive"),
    ],
)
async def test_an_account_that_is_not_active_does_not_come_in(
    house: House, status: str | None, name: str
) -> None:
    answer = house.pds.tokens(ALICE) | {"active": False, "status": status}
    house.pds.instead["com.atproto.server.createSession"] = answering(200, answer)
    assert (await refusal(sign_in(house))).name == name
    await until(lambda: len(house.pds.of("com.atproto.server.deleteSession")) == 1)


async def test_the_code_of_a_second_factor_goes_along(house: House) -> None:
    async def answer(asked: Asked) -> Reply:
        code = asked.json.get("authFactorToken")
        if code is None:
            return 401, {"error": "AuthFactorTokenRequired", "message": "sent"}
        if code != "ABCDE-12345":
            return 400, {"error": "InvalidToken", "message": "Token is invalid"}
        return 200, house.pds.tokens(ALICE)

    house.pds.instead["com.atproto.server.createSession"] = answer
    assert (await refusal(sign_in(house))).name == "AuthFactorTokenRequired"
    wrong = Credentials("alice.test", PASSWORD, code="WRONG")
    assert (await refusal(house.auth.xrpc_sessions.create(wrong))).message == "Token is invalid"
    right = Credentials("alice.test", PASSWORD, code="ABCDE-12345")
    assert (await house.auth.xrpc_sessions.create(right)).did == ALICE


async def test_who_is_not_admitted_leaves_no_session_anywhere(house: House) -> None:
    assert (await refusal(sign_in(house, "bob.test"))).name == "NotAdmitted"
    await until(lambda: len(house.pds.of("com.atproto.server.deleteSession")) == 1)
    assert await house.rows("session") == await house.rows("pds_session") == await house.rows("member") == 0
    assert house.pds.refresh == {}


async def test_an_account_that_was_taken_down_here_is_told_so(house: House) -> None:
    begun = await sign_in(house)
    cookie, _ = await house.auth.web_sessions.sign_in(ALICE, PASSWORD)
    await house.run("UPDATE actor SET takedown = 'spam' WHERE did = ?", ALICE)
    viewers = house.auth.viewers
    assert (await refusal(sign_in(house))).name == "AccountTakedown"
    assert (
        await refusal(viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE))
    ).name == "AccountTakedown"
    assert (
        await refusal(house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}"))
    ).name == "AccountTakedown"
    assert await house.auth.web_sessions.who(cookie) is None


async def test_wrong_tries_are_limited_for_each_address_and_the_owner_gets_in(house: House) -> None:
    async def try_(identifier: str, password: str, client: str) -> str:
        try:
            await house.auth.xrpc_sessions.create(Credentials(identifier, password, client=client))
        except ApplianceError as error:
            return error.name
        return "ok"

    for _ in range(5):
        assert await try_("alice.test", "wrong", "192.0.2.1") == "AuthenticationRequired"
    sent = len(house.pds.asked)
    assert await try_("alice.test", PASSWORD, "192.0.2.1") == "RateLimitExceeded"
    assert len(house.pds.asked) == sent
    assert await try_("alice.test", PASSWORD, "192.0.2.2") == "ok"

    names = [await try_(f"user{n}.test", "wrong", "192.0.2.3") for n in range(25)]
    assert names == ["AuthenticationRequired"] * 20 + ["RateLimitExceeded"] * 5

    await house.clock.advance(15 * 60 + 1)
    assert await try_("alice.test", PASSWORD, "192.0.2.1") == "ok"


async def test_an_account_tried_from_everywhere_is_slowed_and_not_locked(house: House) -> None:
    for n in range(20):
        attempt = Credentials("alice.test", "wrong", client=f"192.0.2.{n}")
        await refusal(house.auth.xrpc_sessions.create(attempt))
    owner = asyncio.create_task(
        house.auth.xrpc_sessions.create(Credentials("alice.test", PASSWORD, client="198.51.100.7"))
    )
    sent = len(house.pds.asked)
    await asyncio.sleep(0)
    assert len(house.pds.asked) == sent
    await house.clock.advance(3)
    assert (await owner).did == ALICE


@pytest.fixture
def log_lines() -> Iterator[io.StringIO]:
    """What the process would write, everything switched on."""
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    lines = io.StringIO()
    telemetry.configure("debug", "json", lines)
    yield lines
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.invariant("secrets-stay-in")
async def test_a_canary_password_is_in_no_log_and_no_error(house: House, log_lines: io.StringIO) -> None:
    canary = "k4n4-r13n-v0g3-lx7z"
    replies: list[Any] = [
        answering(401, {"error": "AuthenticationRequired", "message": f"not {canary}"}),
        answering(500, {"error": canary, "message": canary}),
        answering(200, canary.encode()),
        answering(200, json.dumps({"did": canary, "handle": 1}).encode()),
        answering(307, {}, {"location": f"https://evil.example.net/{canary}"}),
        answering(200, {"did": ALICE, "handle": "h", "accessJwt": canary, "refreshJwt": canary}),
    ]
    for reply in replies:
        house.pds.instead["com.atproto.server.createSession"] = reply
        try:
            await sign_in(house, password=canary)
        except ApplianceError as error:
            seen: BaseException | None = error
            while seen is not None:
                assert canary not in repr(seen)
                seen = seen.__cause__ or (None if seen.__suppress_context__ else seen.__context__)
    assert house.pds.asked[0].json["password"] == canary
    assert canary not in repr(Credentials("alice.test", canary))
    assert "signed_in" in log_lines.getvalue()
    assert canary not in log_lines.getvalue()


async def test_an_expired_access_token_is_answered_as_a_pds_does(house: House) -> None:
    begun = await sign_in(house)
    header = f"Bearer {begun.pair.access}"
    await house.clock.advance(2 * 3600 - 1)
    assert await house.auth.viewers.authenticate(header, TIMELINE)
    await house.clock.advance(1)
    found = await refusal(house.auth.viewers.authenticate(header, TIMELINE))
    assert type(found) is BadInput
    assert found.name == "ExpiredToken"


async def test_refreshing_gives_a_new_pair_and_the_old_one_ends(house: House) -> None:
    first = await sign_in(house)
    await house.clock.advance(7200)
    second = await house.auth.xrpc_sessions.refresh(f"Bearer {first.pair.refresh}")
    assert (second.did, second.handle) == (ALICE, "alice.test")
    assert await house.auth.viewers.authenticate(f"Bearer {second.pair.access}", TIMELINE)
    third = await house.auth.xrpc_sessions.refresh(f"Bearer {second.pair.refresh}")
    assert len({first.pair.refresh, second.pair.refresh, third.pair.refresh}) == 3
    assert await house.rows("session") == 1


async def test_a_lost_answer_is_given_again_and_names_the_same_successor(house: House) -> None:
    first = await sign_in(house)
    header = f"Bearer {first.pair.refresh}"
    lost = await house.auth.xrpc_sessions.refresh(header)
    await house.clock.advance(300)
    again = await house.auth.xrpc_sessions.refresh(header)
    assert again.pair.refresh == lost.pair.refresh
    assert await house.auth.xrpc_sessions.refresh(f"Bearer {again.pair.refresh}")


async def test_many_refreshes_at_once_rotate_once(house: House) -> None:
    first = await sign_in(house)
    header = f"Bearer {first.pair.refresh}"
    answers = await asyncio.gather(*(house.auth.xrpc_sessions.refresh(header) for _ in range(50)))
    assert len({answer.pair.refresh for answer in answers}) == 1


async def test_a_refresh_token_used_again_later_ends_the_session(house: House) -> None:
    first = await sign_in(house)
    second = await house.auth.xrpc_sessions.refresh(f"Bearer {first.pair.refresh}")
    await house.clock.advance(601)
    assert (
        await refusal(house.auth.xrpc_sessions.refresh(f"Bearer {first.pair.refresh}"))
    ).name == "ExpiredToken"
    for header in (second.pair.access, second.pair.refresh):
        work = house.auth.xrpc_sessions.refresh if header == second.pair.refresh else None
        call = (
            work(f"Bearer {header}")
            if work
            else house.auth.viewers.authenticate(f"Bearer {header}", TIMELINE)
        )
        assert (await refusal(call)).name == "ExpiredToken"
    assert await house.rows("pds_session") == 0


async def test_a_refresh_token_ends_after_ninety_days(house: House) -> None:
    begun = await sign_in(house)
    await house.clock.advance(90 * 86_400)
    assert (
        await refusal(house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}"))
    ).name == "ExpiredToken"


async def test_refresh_and_access_tokens_do_not_stand_in_for_each_other(house: House) -> None:
    begun = await sign_in(house)
    access, refresh = f"Bearer {begun.pair.access}", f"Bearer {begun.pair.refresh}"
    assert (await refusal(house.auth.viewers.authenticate(refresh, TIMELINE))).name == "BadJwtType"
    assert (await refusal(house.auth.xrpc_sessions.refresh(access))).name == "InvalidToken"
    assert (await refusal(house.auth.xrpc_sessions.delete(access))).name == "InvalidToken"
    assert (await refusal(house.auth.xrpc_sessions.refresh(None))).name == "AuthMissing"


def forged(token: str, key: bytes = b"guess", **changes: Any) -> str:
    header, _, _ = token.split(".")
    changed = base64.urlsafe_b64encode(json.dumps(claims(token) | changes).encode()).rstrip(b"=").decode()
    signed = f"{header}.{changed}".encode()
    return (
        f"{header}.{changed}."
        + base64.urlsafe_b64encode(hmac.digest(key, signed, "sha256")).rstrip(b"=").decode()
    )


async def test_forged_and_foreign_tokens_are_refused(house: House) -> None:
    begun = await sign_in(house)
    authenticate = house.auth.viewers.authenticate
    for token, name in (
        (forged(begun.pair.access, sub=BOB), "ExpiredToken"),
        (forged(begun.pair.access, aud="did:web:pds.example.net"), "BadJwtType"),
        (begun.pair.access[:-4] + "AAAA", "ExpiredToken"),
        ("pds-access-1", "BadJwt"),
    ):
        assert (await refusal(authenticate(f"Bearer {token}", TIMELINE))).name == name
    key = PrivateKey.generate("k256")
    house.book.keys[ALICE] = key.did_key
    served = service_token(
        key, issuer=ALICE, audience="did:web:localhost%3A2580", method=TIMELINE, now_us=house.clock.now_us()
    )
    viewer = await authenticate(f"Bearer {served}", TIMELINE)
    assert viewer is not None
    assert (viewer.did, viewer.via, viewer.session) == (ALICE, "service", None)


async def test_nobody_asks_without_a_header_and_a_bad_one_is_never_nobody(house: House) -> None:
    authenticate = house.auth.viewers.authenticate
    assert await authenticate(None, TIMELINE) is None
    for header in ("", "Bearer", "Bearer x", "Basic YWRtaW46eA=="):
        assert isinstance(await refusal(authenticate(header, TIMELINE)), Refused)


async def test_a_stranger_is_known_by_did_and_nothing_is_kept(house: House) -> None:
    key = PrivateKey.generate("k256")
    for n in range(50):
        did = f"did:web:stranger{n}.example.net"
        house.book.keys[did] = key.did_key
        token = service_token(
            key, issuer=did, audience="did:web:localhost%3A2580", method=TIMELINE, now_us=house.clock.now_us()
        )
        viewer = await house.auth.viewers.authenticate(f"Bearer {token}", TIMELINE)
        assert viewer is not None
        assert (viewer.did, viewer.actor, viewer.member) == (did, None, False)
    assert await house.rows("actor") == 0


@pytest.mark.parametrize("status", ["takendown", "suspended", "deactivated", "deleted"])
async def test_a_token_of_an_account_out_of_service_is_refused_by_name(house: House, status: str) -> None:
    await sign_in(house)
    key = PrivateKey.generate("p256")
    house.book.keys[ALICE] = key.did_key
    await house.run("UPDATE actor SET status = ? WHERE did = ?", status, ALICE)
    await house.clock.advance(6)
    token = service_token(
        key, issuer=ALICE, audience="did:web:localhost%3A2580", method=TIMELINE, now_us=house.clock.now_us()
    )
    found = await refusal(house.auth.viewers.authenticate(f"Bearer {token}", TIMELINE))
    assert found.name.startswith("Account")


async def test_logging_out_ends_the_session_here_whatever_the_pds_does(house: House) -> None:
    begun = await sign_in(house)

    async def hang(asked: Asked) -> Reply:
        await asyncio.sleep(60)
        return 200, {}

    house.pds.instead["com.atproto.server.deleteSession"] = hang
    await house.auth.xrpc_sessions.delete(f"Bearer {begun.pair.refresh}")
    assert await house.rows("session") == await house.rows("pds_session") == 0
    for work in (
        house.auth.viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE),
        house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}"),
    ):
        assert (await refusal(work)).name == "ExpiredToken"
    await until(lambda: len(house.pds.of("com.atproto.server.deleteSession")) == 1)
    assert house.pds.of("com.atproto.server.deleteSession")[0].bearer == "pds-refresh-1"


async def test_an_end_is_heard_of_at_once_by_who_was_just_here(house: House) -> None:
    begun = await sign_in(house)
    header = f"Bearer {begun.pair.access}"
    viewer = await house.auth.viewers.authenticate(header, TIMELINE)
    assert viewer is not None
    assert viewer.session is not None
    for _ in range(3):
        await house.clock.advance(2)
        assert await house.auth.viewers.authenticate(header, TIMELINE)
    await house.run("UPDATE actor SET takedown = 'spam' WHERE did = ?", ALICE)
    await house.clock.advance(5)
    assert (await refusal(house.auth.viewers.authenticate(header, TIMELINE))).name == "AccountTakedown"
    await house.run("UPDATE actor SET takedown = NULL")
    await house.clock.advance(5)
    assert await house.auth.viewers.authenticate(header, TIMELINE)
    assert await house.auth.web_sessions.end(viewer.session.actor, viewer.session.id)
    assert (await refusal(house.auth.viewers.authenticate(header, TIMELINE))).name == "ExpiredToken"


async def test_a_second_start_knows_its_sessions(house: House) -> None:
    begun = await sign_in(house)
    auth = house.build()
    assert await auth.viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE)
    assert await auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}")


async def test_a_lost_key_costs_a_new_sign_in_and_nothing_else(house: House) -> None:
    begun = await sign_in(house)
    cookie, _ = await house.auth.web_sessions.sign_in(ALICE, PASSWORD)
    (house.settings.data_path / "session.key").unlink()
    auth = house.build()
    assert (
        await refusal(auth.viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE))
    ).name == "ExpiredToken"
    assert (await refusal(auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}"))).name == "InvalidToken"
    session = await auth.web_sessions.get(cookie)
    work = auth.pds_sessions.call(session.pds_session, "GET", "x.y.z", limits=PDS_WRITE)
    assert (await refusal(work)).name == "ExpiredToken"
    assert (await auth.xrpc_sessions.create(Credentials("alice.test", PASSWORD))).did == ALICE


async def pds_session(house: House) -> int:
    begun = await sign_in(house)
    viewer = await house.auth.viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE)
    assert viewer is not None
    assert viewer.session is not None
    return viewer.session.pds_session


async def test_fifty_calls_with_an_expired_token_renew_it_once(house: House) -> None:
    session = await pds_session(house)
    await house.clock.advance(7200)
    answers = await asyncio.gather(
        *(
            house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
            for _ in range(50)
        )
    )
    assert {answer.status for answer in answers} == {200}
    assert len(house.pds.of("com.atproto.server.refreshSession")) == 1


async def test_a_caller_who_leaves_does_not_lose_the_new_tokens(house: House) -> None:
    session = await pds_session(house)
    await house.clock.advance(7200)
    gate = asyncio.Event()

    async def slow(asked: Asked) -> Reply:
        await gate.wait()
        house.pds.refresh.pop(asked.bearer)
        return 200, house.pds.tokens(ALICE)

    house.pds.instead["com.atproto.server.refreshSession"] = slow
    caller = asyncio.create_task(
        house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
    )
    await until(lambda: len(house.pds.of("com.atproto.server.refreshSession")) == 1)
    caller.cancel()
    closing = asyncio.create_task(house.auth.close())
    gate.set()
    await closing
    answer = await house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
    assert answer.status == 200
    assert len(house.pds.of("com.atproto.server.refreshSession")) == 1


async def test_new_tokens_are_stored_before_anybody_uses_them(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = await pds_session(house)
    await house.clock.advance(7200)
    write, refused = house.database.write, 0

    async def full(work: Any, *, durable: bool = False) -> Any:
        nonlocal refused
        if refused < 3:
            refused += 1
            raise Unavailable("the disk is full", name="StorageFull")
        return await write(work, durable=durable)

    monkeypatch.setattr(house.database, "write", full)
    call = asyncio.create_task(
        house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
    )
    for tries in (1, 2, 3):
        await until(lambda tries=tries: refused == tries)  # type: ignore[misc]
        await asyncio.sleep(0.01)
        assert len(house.pds.of("com.example.ask")) == 1
        await house.clock.advance(1)
    assert (await call).status == 200
    assert len(house.pds.of("com.atproto.server.refreshSession")) == 1


async def test_a_refusal_for_ever_is_renewed_once_and_then_passed_on(house: House) -> None:
    session = await pds_session(house)
    house.pds.instead["com.example.ask"] = answering(401, {"error": "InvalidToken"})
    for _ in range(5):
        answer = await house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
        assert answer.status == 401
    assert len(house.pds.of("com.atproto.server.refreshSession")) == 1


@pytest.mark.parametrize(
    ("reply", "dead"),
    [
        ((400, {"error": "ExpiredToken"}), True),
        ((401, {"error": "AccountTakedown"}), True),
        ((500, {}), False),
        ((200, b"broken"), False),
    ],
)
async def test_only_a_definite_no_ends_a_sign_in(house: House, reply: Any, dead: bool) -> None:
    session = await pds_session(house)
    await house.clock.advance(7200)
    house.pds.instead["com.atproto.server.refreshSession"] = answering(*reply)
    work = house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
    assert isinstance(await refusal(work), Refused if dead else Unavailable)
    del house.pds.instead["com.atproto.server.refreshSession"]
    work = house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
    if dead:
        assert (await refusal(work)).name == "ExpiredToken"
    else:
        assert (await work).status == 200


async def test_a_dead_sign_in_ends_the_sessions_that_rest_on_it(house: House) -> None:
    begun = await sign_in(house)
    await house.run("UPDATE pds_session SET dead = 'expired', sealed = X''")
    for work in (
        house.auth.viewers.authenticate(f"Bearer {begun.pair.access}", TIMELINE),
        house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}"),
    ):
        assert (await refusal(work)).name == "ExpiredToken"


async def test_an_account_that_moved_has_to_sign_in_at_its_new_server(house: House) -> None:
    session = await pds_session(house)
    await house.run("UPDATE actor SET pds = 'https://new.example.net'")
    sent = len(house.pds.asked)
    work = house.auth.pds_sessions.call(session, "GET", "com.example.ask", limits=PDS_WRITE)
    assert "moved" in (await refusal(work)).message
    assert len(house.pds.asked) == sent


async def test_sealed_tokens_moved_to_another_row_do_not_open(house: House) -> None:
    house.welcome.add(BOB)
    mine = await pds_session(house)
    await sign_in(house, "bob.test")
    await house.run("UPDATE pds_session SET sealed = (SELECT sealed FROM pds_session WHERE id = ?)", mine)
    theirs = await house.database.read(lambda r: r.value("SELECT max(id) FROM pds_session"))
    work = house.auth.pds_sessions.call(theirs, "GET", "com.example.ask", limits=PDS_WRITE)
    assert isinstance(await refusal(work), Refused)
    assert (
        await house.auth.pds_sessions.call(mine, "GET", "com.example.ask", limits=PDS_WRITE)
    ).status == 200


async def test_tokens_at_the_pds_are_renewed_for_who_only_reads(house: House) -> None:
    begun = await sign_in(house)
    await house.clock.advance(31 * 86_400)
    await house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}")
    await until(lambda: len(house.pds.of("com.atproto.server.refreshSession")) == 1)


async def test_a_cookie_is_its_member_until_signed_out(house: House) -> None:
    web = house.auth.web_sessions
    cookie, member = await web.sign_in("alice.test", PASSWORD, invite="code", about="Firefox")
    who = await web.who(cookie)
    assert who is not None
    assert (member.did, member.handle) == (who.did, who.handle) == (ALICE, "alice.test")
    assert house.joined[-1] == (ALICE, "alice.test", "code")
    for other in ("", "x", cookie + "x", cookie[:-1], "é" * 10, "x" * 10_000):
        assert await web.who(other) is None
    assert (await refusal(web.get("x"))).name == "AuthenticationRequired"
    await web.sign_out(cookie)
    assert await web.who(cookie) is None
    assert await house.rows("pds_session") == 0


async def test_a_cookie_is_renewed_daily_and_the_former_one_lives_a_minute(house: House) -> None:
    web = house.auth.web_sessions
    cookie, _ = await web.sign_in("alice.test", PASSWORD)
    assert await web.renew(cookie) is None
    await house.clock.advance(86_401)
    before = await web.who(cookie)
    assert before is not None
    assert before.due
    fresh = await web.renew(cookie)
    assert fresh is not None
    assert fresh != cookie
    assert await web.renew(cookie) is None
    old, new = await web.who(cookie), await web.who(fresh)
    assert old is not None
    assert new is not None
    assert (old.did, old.session) == (new.did, new.session)
    assert not new.due
    await house.clock.advance(61)
    assert await web.who(cookie) is None
    assert await web.who(fresh) is not None


async def test_a_browser_that_stays_away_for_a_month_has_to_sign_in(house: House) -> None:
    web = house.auth.web_sessions
    cookie, _ = await web.sign_in("alice.test", PASSWORD)
    for _ in range(12):
        await house.clock.advance(29 * 86_400 / 2)
        assert await web.who(cookie) is not None
    await house.clock.advance(30 * 86_400)
    assert await web.who(cookie) is None


async def test_no_browser_session_outlives_half_a_year(house: House) -> None:
    web = house.auth.web_sessions
    cookie, _ = await web.sign_in("alice.test", PASSWORD)
    for day in range(1, 200):
        await house.clock.advance(86_400)
        if await web.who(cookie) is None:
            assert day == 180
            return
    pytest.fail("it never ended")


async def test_sessions_are_listed_and_ended_by_their_owner_only(house: House) -> None:
    house.welcome.add(BOB)
    web = house.auth.web_sessions
    cookie, _ = await web.sign_in("alice.test", PASSWORD, about="Firefox")
    await sign_in(house)
    theirs, _ = await web.sign_in("bob.test", PASSWORD)
    mine = await web.get(cookie)
    bob = await web.get(theirs)
    listed = await web.listing(mine.actor)
    assert {(s.kind, s.about) for s in listed} == {("web", "Firefox"), ("xrpc", "a test")}
    assert not await web.end(bob.actor, mine.id)
    assert await web.end(mine.actor, mine.id)
    assert await web.who(cookie) is None
    assert await web.who(theirs) is not None


async def test_a_new_sign_in_gets_a_new_cookie(house: House) -> None:
    web = house.auth.web_sessions
    cookies = {(await web.sign_in("alice.test", PASSWORD))[0] for _ in range(3)}
    assert len(cookies) == 3
    assert all(len(cookie) >= 43 for cookie in cookies)


async def test_what_has_expired_is_swept(house: House) -> None:
    from appliance.auth.web_sessions import sweep

    await house.auth.web_sessions.sign_in("alice.test", PASSWORD)
    begun = await sign_in(house)
    await house.clock.advance(31 * 86_400)
    assert await sweep(house.database, house.clock) == 1
    assert await house.rows("pds_session") == 1
    assert await house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}")
