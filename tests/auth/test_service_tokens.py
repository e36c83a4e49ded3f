import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from appliance.auth import jwt
from appliance.auth.mint import service_token
from appliance.auth.service_tokens import ServiceTokens
from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import Refused, Unavailable
from appliance.protocol.keys import PrivateKey

ALICE = "did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"
BOB = "did:plc:bbbbbbbbbbbbbbbbbbbbbbbb"
US = "did:web:timeline.example.net"
TIMELINE = "app.bsky.feed.getTimeline"
MUTE = "app.bsky.graph.muteActor"
ORDERS = {
    "ES256K": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141,
    "ES256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
}


class Directory:
    """DID documents outside, counted, and gone when told."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}
        self.asked: list[tuple[str, str, bool]] = []
        self.down = False

    async def key_of(self, did: str, key_id: str, fresh: bool) -> str | None:
        self.asked.append((did, key_id, fresh))
        if self.down:
            raise Unavailable("the directory does not answer", retry_after_s=30)
        key = self.keys.get(did)
        await asyncio.sleep(0)
        return key


class World:
    """A verifier and those who call it."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.directory = Directory()
        self.alice = PrivateKey.generate("k256")
        self.bob = PrivateKey.generate("p256")
        self.directory.keys = {ALICE: self.alice.did_key, BOB: self.bob.did_key}
        settings = Settings(appview_hostname="timeline.example.net")
        self.tokens = ServiceTokens(self.directory, settings, self.clock)

    @property
    def now_s(self) -> int:
        return self.clock.now_us() // 1_000_000

    def claims(self, **changes: Any) -> dict[str, Any]:
        claims = {"iss": ALICE, "aud": US, "lxm": TIMELINE, "iat": self.now_s, "exp": self.now_s + 60}
        claims |= {"jti": "0123456789abcdef", **changes}
        return {name: value for name, value in claims.items() if value is not ...}

    def token(
        self, key: PrivateKey | None = None, header: dict[str, Any] | None = None, **changes: Any
    ) -> str:
        return self.raw(
            json.dumps({"typ": "JWT", "alg": "ES256K", **(header or {})}),
            json.dumps(self.claims(**changes)),
            key or self.alice,
        )

    def raw(self, header: str, payload: str, key: PrivateKey) -> str:
        signed = b".".join(_b64(part.encode()) for part in (header, payload))
        return jwt.join(signed, key.sign(signed))

    async def verify(self, token: str, nsid: str = TIMELINE, *, procedure: bool = False) -> str:
        return await self.tokens.verify(f"Bearer {token}", nsid, procedure=procedure)

    async def refusal(self, token: str, nsid: str = TIMELINE, *, procedure: bool = False) -> str:
        with pytest.raises(Refused) as caught:
            await self.verify(token, nsid, procedure=procedure)
        return caught.value.name


def _b64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def twin(token: str, algorithm: str = "ES256K") -> str:
    """The same token under the other signature that fits."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    s = ORDERS[algorithm] - int.from_bytes(raw[32:])
    return jwt.join(signed.encode(), raw[:32] + s.to_bytes(32))


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize("audience", [US, f"{US}#bsky_appview"])
async def test_a_pds_token_of_either_curve_and_either_spelling_of_us_is_its_issuer(
    world: World, audience: str
) -> None:
    for did, key in ((ALICE, world.alice), (BOB, world.bob)):
        token = service_token(
            key, issuer=did, audience=audience, method=TIMELINE, now_us=world.clock.now_us()
        )
        assert await world.verify(token) == did
        assert await world.tokens.verify(f"bearer {token}", TIMELINE) == did


async def test_no_header_and_other_schemes_are_missing_authentication(world: World) -> None:
    token = world.token()
    for header in (None, "", f"DPoP {token}", f"Basic {token}", "Bearer", "Bearer ", token):
        with pytest.raises(Refused) as caught:
            await world.tokens.verify(header, TIMELINE)
        assert caught.value.name == "AuthMissing"
    assert world.directory.asked == []


async def test_the_identity_is_the_issuer_and_never_the_subject(world: World) -> None:
    token = world.token(sub=BOB, scope="com.atproto.access", act={"sub": BOB})
    assert await world.verify(token) == ALICE


async def test_a_token_signed_by_somebody_else_is_refused(world: World) -> None:
    assert await world.refusal(world.token(world.bob)) == "BadJwtSignature"
    stranger = PrivateKey.generate("k256")
    assert await world.refusal(world.token(stranger)) == "BadJwtSignature"


async def test_the_algorithm_must_be_that_of_the_key(world: World) -> None:
    for algorithm in ("none", "HS256", "RS256", "es256k", "EdDSA", ""):
        assert await world.refusal(world.token(header={"alg": algorithm})) == "BadJwt"
    assert world.directory.asked == []
    assert await world.refusal(world.token(header={"alg": "ES256"})) == "BadJwtSignature"


@pytest.mark.parametrize("kind", ["at+jwt", "refresh+jwt", "dpop+jwt", "AT+JWT", "jose", "application/jwt"])
async def test_other_kinds_of_token_are_refused_by_their_type(world: World, kind: str) -> None:
    assert await world.refusal(world.token(header={"typ": kind})) == "BadJwtType"


async def test_the_type_may_be_absent_or_in_any_case(world: World) -> None:
    payload = json.dumps(world.claims())
    assert await world.verify(world.raw('{"alg":"ES256K"}', payload, world.alice)) == ALICE
    assert await world.verify(world.token(header={"typ": "jwt"})) == ALICE


@pytest.mark.parametrize("name", ["crit", "jwk", "jku", "x5u", "x5c", "b64"])
async def test_headers_that_change_the_meaning_are_refused(world: World, name: str) -> None:
    values: tuple[Any, ...] = ([], {}, "https://evil.example.net/jwks", False, None)
    for value in values:
        assert await world.refusal(world.token(header={name: value})) == "BadJwt"


async def test_only_the_key_for_repositories_may_be_named(world: World) -> None:
    assert await world.verify(world.token(header={"kid": "#atproto"})) == ALICE
    assert await world.verify(world.token(header={"kid": f"{ALICE}#atproto"})) == ALICE
    for kid in ("#atproto_label", "#other", f"{BOB}#atproto", "", 1, None, ["#atproto"]):
        assert await world.refusal(world.token(header={"kid": kid})) == "BadJwt"


@pytest.mark.parametrize(
    "audience",
    [
        ...,
        None,
        "",
        [US],
        {"did": US},
        1,
        "did:web:other.example.net",
        f"{US}/",
        f"{US} ",
        f"{US}.evil.net",
        US.upper(),
        "did:web:Timeline.example.net",
        f"{US}#bsky_fg",
        f"{US}#bsky_notif",
        f"{US}#BSKY_APPVIEW",
        f"{US}#",
        "*",
        "did:web:timeline.example",
        "https://timeline.example.net",
    ],
)
async def test_the_audience_is_one_of_two_exact_strings(world: World, audience: Any) -> None:
    assert await world.refusal(world.token(aud=audience)) == "BadJwtAudience"
    assert world.directory.asked == []


@pytest.mark.parametrize(
    "method",
    [..., None, "", "app.bsky.actor.getProfile", "*", "app.bsky.feed.*", f"{TIMELINE} ", [TIMELINE], 1],
)
async def test_the_method_must_be_named_exactly(world: World, method: Any) -> None:
    assert await world.refusal(world.token(lxm=method)) == "BadJwtLexiconMethod"
    assert world.directory.asked == []


async def test_a_token_for_reading_a_profile_does_not_mute(world: World) -> None:
    token = world.token(lxm="app.bsky.actor.getProfile")
    assert await world.refusal(token, MUTE, procedure=True) == "BadJwtLexiconMethod"


@pytest.mark.parametrize(
    "text",
    [
        '"9999999999"',
        "1e12",
        "1.5",
        "NaN",
        "Infinity",
        "true",
        "-1",
        "1" + "0" * 30,
        "1" * 5000,
        "null",
        "[]",
    ],
)
async def test_an_end_that_is_no_integer_is_refused(world: World, text: str) -> None:
    payload = json.dumps(world.claims(exp=...))[:-1] + f', "exp": {text}}}'
    assert await world.refusal(world.raw('{"alg":"ES256K"}', payload, world.alice)) == "BadJwt"
    assert world.directory.asked == []


async def test_the_end_is_required_and_lies_in_the_next_hour(world: World) -> None:
    assert await world.refusal(world.token(exp=...)) == "BadJwt"
    assert await world.refusal(world.token(exp=world.now_s)) == "JwtExpired"
    assert await world.refusal(world.token(exp=world.now_s - 1)) == "JwtExpired"
    assert await world.refusal(world.token(exp=0)) == "JwtExpired"
    assert await world.refusal(world.token(exp=world.now_s + 3661)) == "BadJwt"
    assert await world.refusal(world.token(exp=world.now_s + 365 * 86400)) == "BadJwt"
    assert await world.verify(world.token(exp=world.now_s + 3660)) == ALICE


@pytest.mark.parametrize("name", ["iat", "nbf"])
async def test_a_token_from_the_future_is_refused_beyond_a_minute_of_skew(world: World, name: str) -> None:
    def token(value: Any) -> str:
        claims: dict[str, Any] = {name: value}
        return world.token(**claims)

    assert await world.verify(token(world.now_s + 60)) == ALICE
    assert await world.verify(token(...)) == ALICE
    bad: tuple[Any, ...] = (world.now_s + 61, world.now_s + 3600, "now", True, 1.5, None)
    for value in bad:
        assert await world.refusal(token(value)) == "BadJwt"


async def test_a_name_twice_in_header_or_payload_is_refused(world: World) -> None:
    good = json.dumps(world.claims())
    for first, second in ((US, "did:web:other"), ("did:web:other", US)):
        payload = json.dumps(world.claims(aud=first))[:-1] + f', "aud": "{second}"}}'
        assert await world.refusal(world.raw('{"alg":"ES256K"}', payload, world.alice)) == "BadJwt"
    header = '{"alg":"ES256K","alg":"ES256K"}'
    assert await world.refusal(world.raw(header, good, world.alice)) == "BadJwt"
    nested = good[:-1] + ', "act": {"a": 1, "a": 2}}'
    assert await world.refusal(world.raw('{"alg":"ES256K"}', nested, world.alice)) == "BadJwt"


def _mangled(token: str) -> list[str]:
    header, payload, signature = token.split(".")
    deep = _b64(b"[" * 5000).decode()
    return [
        f"{header}=.{payload}.{signature}",
        f"{header}.{payload} .{signature}",
        f"{header}.{payload}.{signature}\n",
        f"{header}.{payload}.+{signature[1:]}",
        f"{header}.{payload[:9]}%{payload[10:]}.{signature}",
        f"{header}.{payload}.{signature[:-1]}é",
        f"{header}.{payload}",
        f"{header}.{payload}.{signature}.{signature}",
        f"{header}..{signature}",
        f".{payload}.{signature}",
        f"{header}.{payload}.",
        f"{header}.{_b64(b'[1]').decode()}.{signature}",
        f"{header}.{_b64(b'null').decode()}.{signature}",
        f"{_b64(b'[]').decode()}.{payload}.{signature}",
        f"{header}.{deep}.{signature}",
        f"{header}.{_b64(bytes([0xFF, 0xFE]) + '{}'.encode('utf-16-le')).decode()}.{signature}",
        f"{header}.{_b64(b'{' + b' ' * 5 + b'}x').decode()}.{signature}",
        f"{_b64(b'{}').decode()}.{payload}.{signature}",
        f"{_b64(json.dumps({'alg': 1}).encode()).decode()}.{payload}.{signature}",
        f"{_b64(json.dumps({'alg': 'ES256K', 'typ': 1}).encode()).decode()}.{payload}.{signature}",
        f"{header}.{payload * 60}.{signature}",
        "not a token",
        "a.b.c",
    ]


@pytest.mark.parametrize("at", range(len(_mangled("a.b.c"))))
async def test_anything_but_three_clean_parts_is_refused_without_a_look_up(world: World, at: int) -> None:
    assert await world.refusal(_mangled(world.token())[at]) == "BadJwt"
    assert world.directory.asked == []


async def test_a_signature_of_another_length_is_refused(world: World) -> None:
    signed, _, _ = world.token().rpartition(".")
    for length in (1, 63, 65, 72):
        assert await world.refusal(jwt.join(signed.encode(), bytes(length))) == "BadJwtSignature"
    assert await world.refusal(jwt.join(signed.encode(), bytes(64))) == "BadJwtSignature"
    assert await world.refusal(jwt.join(signed.encode(), b"\xff" * 64)) == "BadJwtSignature"


@pytest.mark.parametrize(
    "issuer",
    [
        ...,
        None,
        "",
        1,
        [ALICE],
        "alice.example.net",
        f"{ALICE}#atproto_labeler",
        f"{ALICE}#other",
        f"{ALICE}#",
        "did:plc:AAAAAAAAAAAAAAAAAAAAAAAA",
        "did:plc:short",
        "did:plc:aaaaaaaaaaaaaaaaaaaaaaa1",
        "did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme",
        "did:web:host.example.net%3A8080",
        "did:web:host.example.net:path",
        "did:web:localhost%3A2580",
        "did:web:127.0.0.1/x",
        "did:web:",
        f"did:web:{'a' * 64}.net",
        f"did:web:{'a.' * 200}net",
        f"{ALICE}\n",
        "DID:PLC:aaaaaaaaaaaaaaaaaaaaaaaa",
    ],
)
async def test_only_an_account_can_issue(world: World, issuer: Any) -> None:
    assert await world.refusal(world.token(iss=issuer)) == "BadJwtIss"
    assert world.directory.asked == []


async def test_an_account_that_nobody_knows_is_not_authenticated(world: World) -> None:
    for did in ("did:plc:zzzzzzzzzzzzzzzzzzzzzzzz", "did:web:nobody.example.net"):
        assert await world.refusal(world.token(iss=did)) == "AuthenticationRequired"
    asked = len(world.directory.asked)
    assert await world.refusal(world.token(iss="did:web:nobody.example.net")) == "AuthenticationRequired"
    assert len(world.directory.asked) == asked


async def test_a_procedure_takes_a_token_once_whatever_its_signature_looks_like(world: World) -> None:
    token = world.token(lxm=MUTE)
    assert await world.verify(token, MUTE, procedure=True) == ALICE
    assert await world.refusal(token, MUTE, procedure=True) == "BadJwt"
    assert await world.refusal(twin(token), MUTE, procedure=True) == "BadJwt"
    assert await world.verify(world.token(lxm=MUTE, jti="another"), MUTE, procedure=True) == ALICE


async def test_a_bad_copy_does_not_use_a_token_up(world: World) -> None:
    token = world.token(lxm=MUTE)
    signed, _, _ = token.rpartition(".")
    assert (
        await world.refusal(jwt.join(signed.encode(), bytes(64)), MUTE, procedure=True) == "BadJwtSignature"
    )
    assert await world.verify(token, MUTE, procedure=True) == ALICE


async def test_a_query_takes_a_token_as_often_as_it_comes(world: World) -> None:
    token = world.token()
    for _ in range(5):
        assert await world.verify(token) == ALICE


async def test_signatures_with_a_high_s_are_good(world: World) -> None:
    assert await world.verify(twin(world.token())) == ALICE
    p256 = world.token(world.bob, {"alg": "ES256"}, iss=BOB)
    assert await world.verify(p256) == BOB
    assert await world.verify(twin(p256, "ES256")) == BOB


async def test_of_a_hundred_at_once_one_gets_through(world: World) -> None:
    token = world.token(lxm=MUTE)
    outcomes = await asyncio.gather(
        *(world.verify(token, MUTE, procedure=True) for _ in range(100)), return_exceptions=True
    )
    assert outcomes.count(ALICE) == 1
    assert sum(isinstance(outcome, Refused) for outcome in outcomes) == 99


async def test_a_rotated_key_is_found_by_one_look_up_and_the_old_one_is_out(world: World) -> None:
    old_token = world.token()
    await world.verify(old_token)
    new = PrivateKey.generate("p256")
    world.directory.keys[ALICE] = new.did_key
    world.directory.asked.clear()

    assert await world.verify(world.token(new, {"alg": "ES256"})) == ALICE
    assert await world.verify(world.token(new, {"alg": "ES256"})) == ALICE
    assert world.directory.asked == [(ALICE, "#atproto", True)]
    assert await world.refusal(old_token) == "BadJwtSignature"
    assert len(world.directory.asked) == 1


async def test_a_thousand_bad_signatures_cost_one_look_up_a_minute(world: World) -> None:
    await world.verify(world.token())
    world.directory.asked.clear()
    forged = world.token(PrivateKey.generate("k256"))
    for _ in range(100):
        assert await world.refusal(forged) == "BadJwtSignature"
        await world.clock.advance(0.1)
    assert len(await asyncio.gather(*(world.refusal(forged) for _ in range(100)))) == 100
    assert len(world.directory.asked) == 1
    assert await world.verify(world.token()) == ALICE

    await world.clock.advance(60)
    forged = world.token(PrivateKey.generate("k256"))
    await asyncio.gather(*(world.refusal(forged) for _ in range(50)))
    assert len(world.directory.asked) == 2


async def test_many_unknown_callers_at_once_share_one_look_up(world: World) -> None:
    await asyncio.gather(*(world.verify(world.token()) for _ in range(50)))
    assert len(world.directory.asked) == 1


async def test_one_caller_who_leaves_does_not_take_the_key_from_the_others(world: World) -> None:
    first = asyncio.create_task(world.verify(world.token()))
    second = asyncio.create_task(world.verify(world.token()))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == ALICE


async def test_keys_are_fresh_for_an_hour_and_usable_for_a_day(world: World) -> None:
    await world.verify(world.token())
    await world.clock.advance(3599)
    await world.verify(world.token())
    assert len(world.directory.asked) == 1

    await world.clock.advance(2)
    await world.verify(world.token())
    await _until(lambda: len(world.directory.asked) == 2)

    world.directory.down = True
    await world.clock.advance(23 * 3600)
    assert await world.verify(world.token()) == ALICE
    await world.clock.advance(24 * 3600)
    with pytest.raises(Unavailable):
        await world.verify(world.token())


async def test_an_unreachable_directory_is_no_refusal(world: World) -> None:
    await world.verify(world.token())
    world.directory.down = True
    assert await world.verify(world.token()) == ALICE
    with pytest.raises(Unavailable):
        await world.verify(world.token(world.bob, {"alg": "ES256"}, iss=BOB))
    for _ in range(3):
        with pytest.raises(Unavailable):
            await world.verify(world.token(PrivateKey.generate("k256")))


async def test_a_document_that_changed_is_looked_up_before_the_next_use(world: World) -> None:
    old_token = world.token()
    await world.verify(old_token)
    world.directory.keys[ALICE] = PrivateKey.generate("k256").did_key
    world.tokens.forget(ALICE)
    assert await world.refusal(old_token) == "BadJwtSignature"


async def test_a_document_with_a_broken_key_is_a_bad_signature(world: World) -> None:
    for key in (
        "did:key:zQ3sh",
        "did:key:zDn",
        "did:key:z6MkhaXgBZDvotDkL5257faiztiGiC2QtKLGpbnnEGta2doK",
        "x",
    ):
        world.directory.keys[ALICE] = key
        world.tokens.forget(ALICE)
        await world.clock.advance(61)
        assert await world.refusal(world.token()) == "BadJwtSignature"


async def _until(condition: Callable[[], bool]) -> None:
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0)
    pytest.fail("it did not happen")
