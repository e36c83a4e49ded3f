"""Limits on callers of our XRPC: whose bucket it is, and what whoever is refused is told."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.auth.budgets import Budgets
from appliance.timeline.answering import Answering
from appliance.timeline.search_views import SearchViews
from appliance.xrpc import export, search
from tests.auth.house import ALICE
from tests.writes.desk import POST
from tests.xrpc.counter import Counter

THERE = {"X-Forwarded-For": "198.51.100.7"}
PROFILE = "/xrpc/app.bsky.actor.getProfile?actor=" + ALICE


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        counter = Counter(
            tmp_path,
            rate_limits="on",
            limit_member="60/minute 3",
            limit_guest="60/minute 3",
            limit_bad_tokens="60/minute 2",
            limit_writes="60/minute 1",
        )
        await counter.open(stack)
        counter.app._budgets = Budgets(counter.settings, counter.clock)
        yield counter
        await counter.auth.close()


def refused(answer: httpx.Response) -> None:
    assert answer.status_code == 429
    assert answer.json()["error"] == "RateLimitExceeded"
    assert answer.headers["retry-after"] == "1"
    assert answer.headers["ratelimit-remaining"] == "0"
    assert answer.headers["ratelimit-policy"]
    assert answer.headers["access-control-allow-origin"] == "*"
    exposed = answer.headers["access-control-expose-headers"]
    assert all(name in exposed for name in ("retry-after", "ratelimit-reset"))


async def ask(counter: Counter, token: str = "", **headers: str) -> httpx.Response:
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return await counter.http.get(PROFILE, headers=headers)


async def test_a_member_is_counted_by_account_whatever_the_address(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    for n in range(3):
        answer = await ask(counter, token, **{"X-Forwarded-For": f"198.51.100.{n + 1}"})
        assert answer.status_code == 200
        assert answer.headers["ratelimit-remaining"] == str(2 - n)
    refused(await ask(counter, token, **THERE))
    assert (await ask(counter, **THERE)).status_code == 200
    await counter.clock.advance(1)
    assert (await ask(counter, token, **THERE)).status_code == 200


async def test_who_names_no_account_is_counted_by_address(counter: Counter) -> None:
    for _ in range(3):
        assert (await ask(counter, **THERE)).status_code == 200
    refused(await ask(counter, **THERE))
    assert (await ask(counter, **{"X-Forwarded-For": "198.51.100.8"})).status_code == 200
    # T101: what a caller writes into the list himself is not the address that the proxy saw.
    refused(await ask(counter, **{"X-Forwarded-For": "203.0.113.9, 198.51.100.7"}))


async def test_t122_a_forged_token_leaves_the_bucket_of_whom_it_names_alone(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    head, body, _ = token.split(".")
    forged = f"{head}.{body}.{'A' * 43}"
    for _ in range(2):
        assert (await ask(counter, forged, **THERE)).status_code in (400, 401)
    await counter.clock.advance(10)
    assert (await ask(counter, token)).headers["ratelimit-remaining"] == "2"


async def test_beyond_the_limit_of_bad_tokens_none_is_looked_at(counter: Counter) -> None:
    asked = 0

    async def look(*_: Any, **__: Any) -> str:
        nonlocal asked
        asked += 1
        raise AssertionError

    for _ in range(2):
        assert (await ask(counter, "a.b.c", **THERE)).status_code == 401
    counter.auth.viewers._service_tokens.verify_token = look  # type: ignore[method-assign]
    refused(await ask(counter, "a.b.c", **THERE))
    assert asked == 0


async def test_writes_of_one_account_are_limited(counter: Counter) -> None:
    token = (await counter.signed_in())["accessJwt"]
    record = {"$type": POST, "text": "x", "createdAt": "2026-01-01T00:00:00Z"}
    body = {"repo": ALICE, "collection": POST, "record": record}
    assert (await counter.post("com.atproto.repo.createRecord", body, token)).status_code == 200
    refused(await counter.post("com.atproto.repo.createRecord", body, token))
    assert len(counter.pds.records) == 1


async def test_a_search_and_an_export_are_taken_from_budgets_of_their_own(counter: Counter) -> None:
    methods = {
        method.nsid: method.counts
        for method in [
            *search.methods(
                SearchViews(Answering(counter.database, counter.settings, counter.clock), "tracked")
            ),
            *export.methods(counter.database, counter.clock),
        ]
    }
    assert set(methods.values()) == {"search", "exports"}
