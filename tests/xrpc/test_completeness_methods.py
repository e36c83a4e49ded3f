"""Our own methods over HTTP: valid by their schemas, each viewer's own only, certificates for everybody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from appliance.protocol import lexicons
from appliance.timeline.completeness import Stream
from appliance.xrpc import completeness
from appliance.xrpc.asgi import Front
from tests.timeline.test_completeness import REV, Place, found_wrong, in_doubt, waits
from tests.timeline.test_completeness import place as _place
from tests.timeline.village import did
from tests.xrpc.test_front import authenticate, refused

place = _place
OURS = "computer.aesthetic.appliance."


class Caller:
    """A client; its answers are checked against the schemas."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http

    async def raw(self, method: str, who: str = "ann", **params: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {who}"} if who else {}
        return await self.http.get(f"/xrpc/{OURS}{method}", params=params, headers=headers)

    async def get(self, method: str, who: str = "ann", **params: Any) -> Any:
        answer = await self.raw(method, who, **params)
        assert answer.status_code == 200, answer.text
        assert lexicons.validate_output(f"{OURS}{method}", answer.json()) is None
        return answer.json()


@pytest.fixture
async def caller(place: Place) -> AsyncIterator[Caller]:
    front = Front(completeness.methods(place.proving, place.people.clock), authenticate, default_labelers=())
    transport = httpx.ASGITransport(front)
    async with httpx.AsyncClient(transport=transport, base_url="http://us.test") as http:
        yield Caller(http)


async def test_each_state_is_told_with_what_belongs_to_it(place: Place, caller: Caller) -> None:
    await place.all_live("ann", "bob", "cat")
    loading = await caller.get("getCompleteness")
    await place.all_live("dan")
    whole = await caller.get("getCompleteness")
    await place.change("bob", in_doubt, 5_000_000)
    doubtful = await caller.get("getCompleteness")
    place.stream = Stream(7_000_000, 100.0)
    down = await caller.get("getCompleteness")

    assert (loading["state"], loading["accounts"]["catchingUp"]) == ("catching-up", 1)
    assert (whole["state"], whole["doubts"], whole["stream"]["live"]) == ("complete", [], True)
    assert "until" not in whole
    assert whole["records"] == 28
    assert (doubtful["state"], doubtful["until"]) == ("complete-until", "1970-01-01T00:00:05.000Z")
    assert [(one["from"], one["accounts"], one["dids"]) for one in doubtful["doubts"]] == [
        ("1970-01-01T00:00:05.000Z", 1, [did("bob")])
    ]
    assert (down["state"], down["notLiveSince"]) == ("not-live", "1970-01-01T00:00:07.000Z")
    assert down["stream"] == {"live": False, "lagMs": 100_000, "positionAt": down["stream"]["positionAt"]}


async def test_waiting_is_told_by_class_and_by_account(place: Place, caller: Caller) -> None:
    await place.all_live("ann", "bob", "cat")
    await place.change("dan", waits, "host: no answer")

    report = await caller.get("getCompleteness")
    (account,) = (await caller.get("listAccounts", only="incomplete"))["accounts"]

    assert (report["state"], report["waiting"][0]["reason"]) == ("waiting", "host")
    assert (account["state"], account["reason"], account["handle"]) == (
        "waiting",
        "host: no answer",
        "dan.test",
    )
    assert account["nextTryAt"] == report["waiting"][0]["nextTryAt"]
    assert "certificate" not in account


async def test_accounts_are_listed_page_by_page_with_their_certificates(place: Place, caller: Caller) -> None:
    await place.all_live("ann", "bob", "cat", "dan")
    await place.change("cat", found_wrong, None)

    first = await caller.get("listAccounts", limit=3)
    rest = await caller.get("listAccounts", limit=3, cursor=first["cursor"])

    found = {one["did"]: one for one in first["accounts"] + rest["accounts"]}
    assert set(found) == set(map(did, ("ann", "bob", "cat", "dan")))
    assert "cursor" not in rest
    assert found[did("bob")]["certificate"]["rev"] == REV
    assert found[did("bob")]["certificate"]["digest"] == (b"d" * 32).hex()
    assert found[did("cat")]["state"] == "catching-up"


async def test_late_arrivals_are_told_since_a_marker(place: Place, caller: Caller) -> None:
    """Catalogue 52."""
    now_us = place.people.clock.now_us()
    await place.people.post("bob", "on top", at_us=now_us)
    marker = (await caller.get("getCompleteness"))["marker"]
    late = await place.people.post("cat", "late", at_us=now_us, created="2020-01-01T00:00:00Z")

    told = await caller.get("listLateArrivals", since=marker)

    assert [(row["uri"], row["sortAt"]) for row in told["arrivals"]] == [
        (late["uri"], "2020-01-01T00:00:00.000Z")
    ]
    assert (told["marker"], told["more"]) == (marker + 1, False)
    assert (await caller.get("listLateArrivals", since=told["marker"]))["arrivals"] == []


async def test_everybody_learns_of_their_own_alone(place: Place, caller: Caller) -> None:
    for method, params in (
        ("getCompleteness", {}),
        ("listAccounts", {}),
        ("listLateArrivals", {"since": 0}),
    ):
        refused(await caller.raw(method, "", **params), 401, "AuthMissing")
        refused(await caller.raw(method, "guest-ann", **params), 403, "NotAMember")
    assert (await caller.get("getCompleteness", "bob"))["accounts"]["total"] == 1


@pytest.mark.parametrize(
    ("method", "params", "name"),
    [
        ("listAccounts", {"limit": 0}, "InvalidRequest"),
        ("listAccounts", {"limit": 501}, "InvalidRequest"),
        ("listAccounts", {"only": "some"}, "InvalidRequest"),
        ("listAccounts", {"cursor": "x"}, "BadCursor"),
        ("listLateArrivals", {}, "InvalidRequest"),
        ("listLateArrivals", {"since": -1}, "InvalidRequest"),
        ("listLateArrivals", {"since": "x"}, "InvalidRequest"),
        ("getCertificate", {}, "InvalidRequest"),
        ("getCertificate", {"actor": "not a name"}, "InvalidRequest"),
        ("getCertificate", {"actor": "nobody.test"}, "AccountNotTracked"),
    ],
)
async def test_what_is_asked_wrongly_is_refused_by_name(
    place: Place, caller: Caller, method: str, params: dict[str, Any], name: str
) -> None:
    refused(await caller.raw(method, **params), 400, name)


async def test_a_certificate_is_for_anybody(place: Place, caller: Caller) -> None:
    await place.all_live("bob")

    told = await caller.get("getCertificate", "", actor="bob.test")

    assert told["account"]["did"] == did("bob")
    assert told["account"]["certificate"]["count"] == 7
    assert told == await caller.get("getCertificate", "", actor=did("bob"))
