"""Whatever stands in a token, a header or an address: it is refused, and never our mistake."""

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.auth import jwt
from appliance.auth.admin_door import AdminDoor
from appliance.auth.budgets import of_address
from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import ApplianceError, BadInput, Refused
from appliance.outbound.addresses import Policy
from appliance.web.security import safe_return
from tests.auth.house import House

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from(
    ["alg", "typ", "kid", "crit", "jwk", "iss", "aud", "exp", "iat", "nbf", "lxm", "sub", "jti", "x"]
)


def part(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


PARTS = st.dictionaries(NAMES, VALUES).map(part) | st.binary(max_size=30).map(part) | st.text(max_size=20)


@settings(max_examples=300, deadline=None)
@given(st.lists(PARTS, min_size=1, max_size=4).map(".".join) | st.text(max_size=200))
def test_any_text_is_a_token_or_refused(text: str) -> None:
    try:
        token = jwt.parse(text)
    except Refused:
        return
    assert token.signed.decode() + "." + text.rpartition(".")[2] == text
    for name in ("exp", "iat", "nbf"):
        try:
            found = jwt.seconds(token.payload, name)
        except Refused:
            continue
        assert found is None or type(found) is int


async def test_no_token_and_no_header_brings_authentication_to_fall(house: House) -> None:
    found: list[str] = []

    @settings(max_examples=200, deadline=None)
    @given(
        st.sampled_from(["Bearer ", "bearer ", "DPoP ", "Basic ", ""]),
        st.lists(PARTS, min_size=1, max_size=4).map(".".join) | st.text(max_size=60),
    )
    def gather(scheme: str, text: str) -> None:
        found.append(scheme + text)

    gather()
    assert len(found) > 100
    for header in found:
        with pytest.raises(ApplianceError):
            await house.auth.viewers.authenticate(header, "app.bsky.feed.getTimeline")
        assert await house.auth.web_sessions.find(header) is None


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.from_regex(r"https?://[^/]{0,20}(/.{0,10})?", fullmatch=True))
def test_any_address_is_a_public_one_by_name_or_refused(text: str) -> None:
    try:
        target = Policy().target(text, "web")
    except BadInput:
        pass
    else:
        assert target.scheme in ("http", "https")
        assert "." in target.host
        assert target.host.isascii()
        assert not target.loopback
    assert isinstance(of_address(text), str)
    back = safe_return(text)
    assert back.startswith("/")
    assert not back.startswith(("//", "/\\"))


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300))
def test_no_text_opens_the_operators_door(text: str) -> None:
    door = AdminDoor(None, Settings(), ManualClock())  # type: ignore[arg-type]
    door.link()
    assert door.enter(text) is None
