"""Notifications as clients call for them: by the lexicons, for members only, refusals with a name."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from appliance.protocol import lexicons
from tests.push.browser import Browser
from tests.xrpc.counter import Counter

N = "app.bsky.notification."
SERVICE = "did:web:localhost%3A2580"


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        made = Counter(tmp_path)
        await made.open(stack)
        yield made
        await made.auth.close()


async def test_the_calls_of_a_client_s_start_are_answered_by_the_lexicon(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    for name in ("listNotifications", "getUnreadCount", "getPreferences"):
        answer = await counter.get(N + name, token)
        assert answer.status_code == 200, answer.text
        assert lexicons.validate_output(N + name, answer.json()) is None
        refused = await counter.get(N + name)
        assert (refused.status_code, refused.json()["error"]) == (401, "AuthMissing")


async def test_what_is_put_is_there_afterwards(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    like, verified = {"include": "follows", "list": False, "push": True}, {"list": True, "push": False}

    answer = await counter.post(N + "putPreferencesV2", {"like": like, "verified": verified}, token)
    assert lexicons.validate_output(N + "putPreferencesV2", answer.json()) is None
    quote = {"include": "all", "list": True, "push": False}
    more = {"chat": {"include": "accepted", "push": False}, "quote": quote}
    await counter.post(N + "putPreferencesV2", more, token)
    shown = (await counter.get(N + "getPreferences", token)).json()["preferences"]
    assert (shown["like"], shown["verified"], shown["quote"]) == (like, verified, quote)
    assert shown["chat"] == {"include": "all", "push": True}

    assert (await counter.post(N + "putPreferences", {"priority": True}, token)).status_code == 200
    seen = {"seenAt": "2026-01-02T03:04:05+01:00"}
    assert (await counter.post(N + "updateSeen", seen, token)).status_code == 200
    told = (await counter.get(N + "listNotifications", token)).json()
    assert told.pop("countsScope") == "tracked"
    assert told == {"notifications": [], "priority": True, "seenAt": "2026-01-02T02:04:05.000Z"}


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("putPreferences", {}),
        ("putPreferences", {"priority": "yes"}),
        ("putPreferencesV2", {"like": {"include": "all"}}),
        ("putPreferencesV2", {"verified": True}),
        ("updateSeen", {}),
        ("updateSeen", {"seenAt": "yesterday"}),
        ("updateSeen", {"seenAt": 7}),
        ("registerPush", {"serviceDid": SERVICE, "platform": "web", "token": "{}", "appId": "x"}),
        ("registerPush", {"serviceDid": "x", "platform": "web", "token": "t", "appId": "x"}),
        ("unregisterPush", {"serviceDid": SERVICE, "platform": "web", "token": "{", "appId": "x"}),
    ],
)
async def test_bad_input_is_refused_by_name(counter: Counter, name: str, body: dict[str, Any]) -> None:
    token = (await counter.signed_in())["accessJwt"]
    answer = await counter.post(N + name, body, token)
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequest")


@pytest.mark.parametrize(
    "parameters",
    [
        {"limit": 0},
        {"limit": 101},
        {"limit": "x"},
        {"seenAt": "2026-01-01T00:00:00Z"},
        {"seenAt": "x"},
        {"cursor": "bad"},
        {"cursor": "1__x"},
    ],
)
async def test_a_bad_parameter_is_refused_by_name(counter: Counter, parameters: dict[str, Any]) -> None:
    token = (await counter.signed_in())["accessJwt"]
    answer = await counter.get(N + "listNotifications", token, **parameters)
    assert (answer.status_code, answer.json()["error"]) == (400, "InvalidRequest")


async def test_a_browser_is_registered_and_taken_off_and_a_phone_is_thanked(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    browser = Browser("https://push.example.net/abc")
    body = {"serviceDid": SERVICE, "platform": "web", "token": browser.token, "appId": "our.website"}

    async def stored() -> list[Any]:
        return await counter.database.read(
            lambda r: r.all("SELECT endpoint, receiver, secret, about FROM push_subscription")
        )

    for _ in range(2):
        assert (await counter.post(N + "registerPush", body, token)).status_code == 200
        assert await stored() == [(browser.endpoint, browser.point, browser.secret, "our.website")]
    inside = Browser("http://10.0.0.1/")
    refused = await counter.post(N + "registerPush", {**body, "token": inside.token}, token)
    assert (refused.status_code, refused.json()["error"]) == (400, "InvalidRequest")

    phone = {**body, "platform": "ios", "token": "0123abcd"}
    assert (await counter.post(N + "registerPush", phone, token)).status_code == 200
    assert (await counter.post(N + "unregisterPush", phone, token)).status_code == 200
    assert len(await stored()) == 1
    assert (await counter.post(N + "unregisterPush", body, token)).status_code == 200
    assert await stored() == []
    assert (await counter.post(N + "registerPush", body)).status_code == 401
