"""Signing in by OAuth at servers that keep to the rules and at ones that lie (AUTH §9.2)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.auth import oauth_client, oauth_scopes
from appliance.auth.oauth_sign_in import FLOW_US, Away
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Refused, Unavailable
from tests.auth.house import ALICE, BOB, Known
from tests.auth.oauth_house import PUBLIC, OAuthHouse, jwt_of
from tests.auth.small_pds import Asked, Reply


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[OAuthHouse]:
    async with AsyncExitStack() as stack:
        house = OAuthHouse(tmp_path)
        await house.open(stack)
        yield house
        await house.auth.close()


async def refusal(work: Any) -> ApplianceError:
    with pytest.raises(ApplianceError) as caught:
        await work
    return caught.value


async def nobody_in(house: OAuthHouse) -> bool:
    return await house.rows("session") + await house.rows("pds_session") + await house.rows("oauth_flow") == 0


@pytest.mark.parametrize("typed", ["alice.test", "@Alice.TEST", ALICE, "SERVER"])
async def test_a_handle_a_did_or_a_server_leads_there_and_back(house: OAuthHouse, typed: str) -> None:
    cookie, returned = await house.sign_in(typed.removeprefix("@").replace("SERVER", house.pds.origin))

    assert (returned.welcome.did, returned.welcome.handle, returned.missing) == (ALICE, "alice.test", [])
    member = await house.auth.web_sessions.who(cookie)
    assert member is not None
    assert member.did == ALICE
    # The first time with no nonce, the second with the server's; each with proof and assertion anew.
    first, second = house.server.forms("par")
    assert first["client_assertion"] != second["client_assertion"]
    assert second["scope"] == oauth_scopes.GRANULAR
    assert second["redirect_uri"] == f"{PUBLIC}/oauth/callback"
    assert ("login_hint" in second) == (typed != "SERVER")
    assert await house.rows("oauth_flow") == 0


async def test_no_token_key_or_code_lies_in_the_database_in_clear(house: OAuthHouse) -> None:
    away = await house.leave()
    back = house.server.agreed(away.url)
    verifiers = [form["code_challenge"] for form in house.server.forms("par")]
    file = house.settings.data_path / "test.db"
    before = file.read_bytes() + file.with_name("test.db-wal").read_bytes()
    await house.come_back(back)
    [form] = house.server.forms("token")
    after = file.read_bytes() + file.with_name("test.db-wal").read_bytes()

    secrets = [*house.server.grants, *house.server.tokens_out, form["code"], form["code_verifier"]]
    assert len(secrets) == 4
    for secret in [*secrets, dict(back)["state"], *verifiers]:
        assert secret.encode() not in before + after


@pytest.mark.parametrize("iss", ["-", "https://other.our-own.dev", "SLASH"])
async def test_t31_an_answer_that_does_not_name_the_asked_server_is_refused_unused(
    house: OAuthHouse, iss: str
) -> None:
    away = await house.leave()
    lie = iss.replace("SLASH", f"{house.pds.origin}/")
    error = await refusal(house.come_back(house.server.agreed(away.url, iss=lie)))

    assert error.name == "MixUp"
    assert house.server.forms("token") == []
    assert await nobody_in(house)


async def test_t32_a_state_counts_once_in_time_and_in_its_own_browser(house: OAuthHouse) -> None:
    back = house.server.agreed((await house.leave()).url)
    assert (await refusal(house.come_back(back, browser="another"))).name == "StaleFlow"
    # It has been shown: even its own browser comes too late.
    assert (await refusal(house.come_back(back))).name == "StaleFlow"

    old = house.server.agreed((await house.leave()).url)
    await house.clock.advance(FLOW_US / 1e6 + 1)
    assert (await refusal(house.come_back(old))).name == "StaleFlow"

    fresh = house.server.agreed((await house.leave()).url)
    for odd in (
        [*fresh, ("state", dict(fresh)["state"])],
        [*fresh, ("response", "x.y.z")],
        [(name, "s" * 5000 if name == "state" else value) for name, value in fresh],
    ):
        assert isinstance(await refusal(house.come_back(odd)), BadInput)
    unknown = [(name, "unknown" if name == "state" else value) for name, value in fresh]
    assert (await refusal(house.come_back(unknown))).name == "StaleFlow"
    assert (await refusal(house.come_back(fresh, browser=""))).name == "StaleFlow"
    assert house.server.forms("token") == []
    assert await nobody_in(house)


async def test_t33_two_who_come_back_at_once_make_one_token_request(house: OAuthHouse) -> None:
    back = house.server.agreed((await house.leave()).url)
    done = await asyncio.gather(*(house.come_back(back) for _ in range(2)), return_exceptions=True)

    assert sorted(isinstance(one, Refused) for one in done) == [False, True]
    assert len(house.server.forms("token")) == 1


async def test_t34_a_server_that_speaks_for_an_account_of_another_server_is_refused(
    house: OAuthHouse,
) -> None:
    async with OAuthHouse(house.settings.data_path).pds as elsewhere:
        elsewhere.opened()  # type: ignore[attr-defined]
        house.book.known[BOB] = Known(BOB, "bob.test", elsewhere.origin)
        house.welcome.add(BOB)
        away = await house.leave(house.pds.origin)
        error = await refusal(house.come_back(house.server.agreed(away.url, did=BOB)))
        await house.auth.close()

    assert error.name == "InvalidDid"
    assert len(house.server.revoked) == 1
    assert await nobody_in(house)


async def test_t35_another_account_than_the_one_that_began_is_refused(house: OAuthHouse) -> None:
    house.welcome.add(BOB)
    away = await house.leave("alice.test")
    error = await refusal(house.come_back(house.server.agreed(away.url, did=BOB)))
    await house.auth.close()

    assert error.name == "InvalidDid"
    assert len(house.server.revoked) == 1
    assert await nobody_in(house)


async def test_t36_where_the_account_lives_is_read_anew_at_the_end(house: OAuthHouse) -> None:
    away = await house.leave()
    async with OAuthHouse(house.settings.data_path).pds as elsewhere:
        elsewhere.opened()  # type: ignore[attr-defined]
        house.book.known[ALICE] = Known(ALICE, "alice.test", elsewhere.origin)
        house.book.ages.clear()
        error = await refusal(house.come_back(house.server.agreed(away.url)))

    assert error.name == "InvalidDid"
    assert house.book.ages == [-1.0, 0]  # forgotten, then asked for
    assert await nobody_in(house)


RESOURCE_LIES: dict[str, Reply] = {
    "redirect": (302, {}, {"location": "/elsewhere"}),
    "created": (201, ...),
    "html": (200, ..., {"content-type": "text/html"}),
    "two servers": (200, {"authorization_servers": ["SELF", "SELF"]}),
    "no server": (200, {"authorization_servers": []}),
    "http": (200, {"authorization_servers": ["http://server.our-own.dev"]}),
    "path": (200, {"authorization_servers": ["SELF/path"]}),
    "slash": (200, {"authorization_servers": ["SELF/"]}),
    "userinfo": (200, {"authorization_servers": ["http://u@localhost:1"]}),
    "of another": (200, {"resource": "https://other.our-own.dev"}),
    "large": (200, {"filler": "x" * 1_000_000}),
    "deep": (200, b"[" * 20_000),
    "no object": (200, b'"text"'),
}


@pytest.mark.parametrize("lie", RESOURCE_LIES)
async def test_t37_a_document_of_the_pds_that_is_not_right_ends_it(house: OAuthHouse, lie: str) -> None:
    status, said, *more = RESOURCE_LIES[lie]
    body: Any = said
    if said is ... or isinstance(said, dict):
        patch = {} if said is ... else said
        body = {**house.server.resource, **patch}
        servers = [url.replace("SELF", house.pds.origin) for url in body["authorization_servers"]]
        body["authorization_servers"] = servers

    async def answer(_: Asked) -> Reply:
        return status, body, *more

    house.server.overlay[".well-known/oauth-protected-resource"] = answer
    error = await refusal(house.leave())

    assert error.name == "OAuthUnsupported"
    assert "does not work this way" in error.message
    assert house.server.forms("par") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("issuer", "https://other.our-own.dev"),
        ("pushed_authorization_request_endpoint", None),
        ("require_pushed_authorization_requests", False),
        ("token_endpoint_auth_signing_alg_values_supported", ["ES256", "none"]),
        ("token_endpoint_auth_signing_alg_values_supported", ["RS256"]),
        ("token_endpoint_auth_methods_supported", ["none"]),
        ("code_challenge_methods_supported", ["plain"]),
        ("authorization_response_iss_parameter_supported", False),
        ("client_id_metadata_document_supported", False),
        ("require_request_uri_registration", False),
        ("response_types_supported", ["token"]),
        ("grant_types_supported", ["authorization_code"]),
        ("scopes_supported", ["openid"]),
        ("dpop_signing_alg_values_supported", ["ES384"]),
        ("token_endpoint", "https://10.0.0.1/token"),
        ("token_endpoint", "https://db.internal/token"),
        ("revocation_endpoint", "http://server.our-own.dev/revoke"),
        ("authorization_endpoint", "javascript:alert(1)"),
        ("authorization_endpoint", "https://169.254.169.254/latest"),
    ],
)
async def test_t38_a_server_that_does_not_keep_to_the_rules_is_not_used(
    house: OAuthHouse, name: str, value: Any
) -> None:
    house.server.metadata[name] = value
    error = await refusal(house.leave())

    assert error.name == "OAuthUnsupported"
    assert house.server.forms("par") == []


@pytest.mark.parametrize("nonce", ["same", "n" * 10_000, "two, nonces", ""])
async def test_t39_a_nonce_is_tried_once_and_only_when_it_is_another_one(
    house: OAuthHouse, nonce: str
) -> None:
    tries: list[Asked] = []

    async def wants_another(asked: Asked) -> Reply:
        tries.append(asked)
        told = f"nonce-{len(tries)}" if nonce == "same" else nonce
        return 400, {"error": "use_dpop_nonce"}, {"dpop-nonce": told}

    house.server.overlay["oauth/par"] = wants_another
    assert isinstance(await refusal(house.leave()), Unavailable)

    assert len(tries) == (2 if nonce == "same" else 1)
    proofs = [jwt_of(asked.headers["dpop"])[1] for asked in tries]
    assert len({proof["jti"] for proof in proofs}) == len(tries)
    assert [proof.get("nonce") for proof in proofs] == [None, "nonce-1"][: len(tries)]


@pytest.mark.parametrize(
    "lie",
    [
        {"token_type": "Bearer"},
        {"sub": ...},
        {"sub": "alice"},
        {"id_token": "a.b.c"},
        {"scope": "transition:generic"},
        {"expires_in": -5},
        {"expires_in": "3600"},
        {"expires_in": True},
        {"access_token": ""},
        {"refresh_token": ...},
        {"access_token": "a\nb"},
    ],
)
async def test_t40_a_token_answer_that_is_not_right_lets_nobody_in(
    house: OAuthHouse, lie: dict[str, Any]
) -> None:
    away = await house.leave()
    house.server.token_lies = lie
    assert isinstance(await refusal(house.come_back(house.server.agreed(away.url))), Unavailable)
    assert await nobody_in(house)


async def test_t40_a_token_without_an_end_is_taken_for_a_short_one(house: OAuthHouse) -> None:
    house.server.token_lies = {"expires_in": ...}
    _, returned = await house.sign_in()
    house.server.token_lies = {}
    await house.clock.advance(299)
    await house.auth.pds_sessions.check(returned.welcome.pds_session)

    assert [form["grant_type"] for form in house.server.forms("token")] == [
        "authorization_code",
        "refresh_token",
    ]


async def test_t41_whoever_allows_less_is_in_and_told_what_does_not_work(house: OAuthHouse) -> None:
    house.server.token_lies = {"scope": "atproto repo:app.bsky.feed.post"}
    _, returned = await house.sign_in()

    assert "liking" in returned.missing
    assert "posting" not in returned.missing


async def test_t42_a_server_that_knows_no_fine_scopes_is_asked_once_for_the_wide_one(
    house: OAuthHouse,
) -> None:
    house.server.refused_scopes = {"blob:image/*"}
    away = await house.leave()
    assert away.broad
    finished = await house.come_back(house.server.agreed(away.url))
    assert not isinstance(finished, Away)
    assert finished[1].missing == []
    forms = [form["scope"] for form in house.server.forms("par")][-2:]
    assert forms == [oauth_scopes.GRANULAR, oauth_scopes.TRANSITIONAL]

    house.server.refused_scopes = {"blob:image/*", "transition:generic"}
    assert (await refusal(house.leave())).name == "SignInDeclined"


async def test_t42_a_server_that_drops_fine_scopes_in_silence_is_asked_once_more(house: OAuthHouse) -> None:
    house.server.drops_scopes = True
    away = await house.leave()
    again = await house.come_back(house.server.agreed(away.url))
    assert isinstance(again, Away)
    assert again.broad
    finished = await house.come_back(house.server.agreed(again.url))
    await house.auth.close()

    assert not isinstance(finished, Away)
    # The tokens of the first round were given back.
    assert len(house.server.revoked) == 1
    assert await house.rows("pds_session") == 1


async def test_t56_what_a_server_says_of_a_failure_is_cut_and_has_no_odd_signs(house: OAuthHouse) -> None:
    away = await house.leave()
    said = "<b>no</b>\u202e\n" + "x" * 2_000
    back = [*house.server.agreed(away.url, code="-", error="access_denied", error_description=said)]
    error = await refusal(house.come_back(back))

    assert "did not agree" in error.message
    assert "<b>no</b>xxx" in error.message
    assert len(error.message) < 400
    assert "\u202e" not in error.message


@pytest.mark.parametrize("skew_s", [-120, 120])
async def test_t58_a_clock_that_is_off_is_named_as_the_reason(house: OAuthHouse, skew_s: int) -> None:
    from email.utils import formatdate

    async def too_old(_: Asked) -> Reply:
        date = formatdate(house.clock.now_us() / 1e6 - skew_s, usegmt=True)
        return 400, {"error": "invalid_dpop_proof"}, {"date": date}

    house.server.overlay["oauth/par"] = too_old
    error = await refusal(house.leave())

    assert error.name == "ClockSkew"
    assert "120 s" in error.message
    assert ("ahead" in error.message) == (skew_s > 0)


def test_t50_documents_that_tell_a_secret_or_that_no_server_takes_are_found_at_the_start(
    house: OAuthHouse,
) -> None:
    client = house.auth.oauth.client
    metadata, jwks = client.metadata(), client.jwks()
    oauth_client.check_published(metadata, jwks, PUBLIC)

    [key] = jwks["keys"]
    for bad in (
        {"client_id": "https://timeline.our-own.dev:8443/client.json"},
        {"client_id": "http://timeline.our-own.dev/client.json"},
        {"client_id": PUBLIC},
        {"scope": "atproto atproto"},
        {"scope": "transition:generic"},
        {"redirect_uris": ["https://elsewhere.our-own.dev/callback"]},
    ):
        with pytest.raises(BadInput):
            oauth_client.check_published({**metadata, **bad}, jwks, PUBLIC)
    for keys in ([], [{**key, "d": "secret"}], [key, key], [{**key, "crv": "P-384"}]):
        with pytest.raises(BadInput):
            oauth_client.check_published(metadata, {"keys": keys}, PUBLIC)


@pytest.mark.parametrize(
    ("url", "usable"),
    [
        (PUBLIC, True),
        ("https://timeline.our-own.dev:8443", False),
        ("http://timeline.our-own.dev", False),
        ("https://203.0.113.7", False),
        ("https://localhost", False),
        ("https://box.local", False),
        ("", False),
    ],
)
def test_t59_without_a_public_https_name_there_is_no_oauth(house: OAuthHouse, url: str, usable: bool) -> None:
    settings = Settings(data_dir=house.settings.data_dir, public_url=url)
    keys = oauth_client.OAuthClient(settings, house_secrets(house), house.clock)
    assert keys.usable is usable
    off = msgspec.structs.replace(settings, oauth=False)
    assert not oauth_client.OAuthClient(off, house_secrets(house), house.clock).usable


def house_secrets(house: OAuthHouse) -> Any:
    from appliance.auth.secrets import open_secrets

    return open_secrets(house.settings)


async def test_whoever_may_not_be_here_gets_no_session_and_the_tokens_go_back(house: OAuthHouse) -> None:
    house.welcome.clear()
    away = await house.leave()
    error = await refusal(house.come_back(house.server.agreed(away.url)))
    await house.auth.close()

    assert error.name == "NotAdmitted"
    assert len(house.server.revoked) == 1
    assert await nobody_in(house)
