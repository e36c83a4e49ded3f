"""Messages by RFC 8291, with its own example."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from appliance.errors import BadInput
from appliance.push.encryption import PLAIN_MAX, encrypt, encrypt_with
from appliance.push.subscriptions import parse
from tests.push.browser import Browser, based, decrypt, unbased

# https://www.rfc-editor.org/rfc/rfc8291#section-5
RECEIVER = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
SECRET = "BTBZMqHH6r4Tts7J_aSIgg"
SENDER = "yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"
SALT = "DGv6ra1nlYgDCS1FRnbzlw"
BODY = (
    "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w"
    "EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
)


def test_the_example_of_the_rfc_comes_out_byte_for_byte() -> None:
    sender = ec.derive_private_key(int.from_bytes(unbased(SENDER), "big"), ec.SECP256R1())
    plain = b"When I grow up, I want to be a watermelon"

    body = encrypt_with(plain, unbased(RECEIVER), unbased(SECRET), sender, unbased(SALT))

    assert based(body) == BODY


@pytest.mark.parametrize("length", [0, 1, 100, PLAIN_MAX])
def test_the_browser_reads_what_was_sent_and_no_two_messages_look_alike(length: int) -> None:
    browser = Browser("https://push.example/1")
    plain = b"x" * length

    one, two = (encrypt(plain, browser.point, browser.secret) for _ in range(2))

    assert decrypt(one, browser.key, browser.secret) == decrypt(two, browser.key, browser.secret) == plain
    assert one != two
    assert len(one) <= 4096


def test_what_is_too_long_or_has_no_key_is_refused() -> None:
    browser = Browser("https://push.example/1")
    with pytest.raises(BadInput):
        encrypt(b"x" * (PLAIN_MAX + 1), browser.point, browser.secret)
    for point in (b"", b"\x04" + b"\x01" * 64, browser.point[:-1], b"\x02" + browser.point[1:33]):
        with pytest.raises(BadInput):
            encrypt(b"x", point, browser.secret)


def test_a_subscription_is_taken_and_a_phone_s_token_is_none() -> None:
    browser = Browser("https://push.example/1")

    found = parse("web", browser.token)

    assert found is not None
    assert (found.endpoint, found.receiver, found.secret) == (browser.endpoint, browser.point, browser.secret)
    assert parse("ios", browser.token) is None
    assert parse("android", "cafe:babe") is None
    assert parse("web", "an-opaque-token") is None


@pytest.mark.parametrize(
    "token",
    [
        "{",
        "{}",
        '{"endpoint":7,"keys":{"p256dh":"","auth":""}}',
        '{"endpoint":"https://a","keys":{"p256dh":"??","auth":""}}',
        '{"endpoint":"https://a","keys":{"p256dh":"é","auth":""}}',
        '{"endpoint":"https://a","keys":{"p256dh":"' + RECEIVER + '","auth":"YQ"}}',
        '{"endpoint":"' + "x" * 3000 + '","keys":{"p256dh":"' + RECEIVER + '","auth":"' + SECRET + '"}}',
    ],
)
def test_a_subscription_that_can_not_work_is_refused(token: str) -> None:
    with pytest.raises(BadInput):
        parse("web", token)
