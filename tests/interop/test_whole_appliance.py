"""The official client against a whole appliance on a devnet, each a process of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest

from tests.interop import npm
from tests.journeys.harness import Client, Process, World, comes_true, running


class Place(NamedTuple):
    """Where everything is, and the member who looks."""

    world: World
    appliance: Process
    http: httpx.AsyncClient
    member: dict[str, str]
    friend: dict[str, str]

    async def control(self, method: str, *args: Any, **kwargs: Any) -> Any:
        command = {"method": method, "args": args, "kwargs": kwargs}
        answer = await self.http.post(f"{self.world.info['control']}/call", json=command)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    async def truth(self) -> list[set[str]]:
        """For each row that must be shown, the records that may stand for it."""
        params = {"did": self.member["did"]}
        answer = await self.http.get(f"{self.world.info['control']}/timeline", params=params)
        return [{row["uri"], *row["instead"]} for row in answer.json()["rows"]]

    async def wrong(self, shown: list[str]) -> str:
        """What is missing or too much in a timeline; empty when it is the truth."""
        rows = await self.truth()
        allowed = set().union(*rows)
        missing = [row for row in rows if not row & set(shown)]
        extra = [uri for uri in shown if uri not in allowed]
        twice = len(shown) - len(set(shown))
        return f"{missing=} {extra=} {twice=}" if missing or extra or twice else ""

    def options(self, **more: Any) -> dict[str, Any]:
        return {
            "service": self.appliance.origin,
            "identifier": self.member["handle"],
            "password": self.member["password"],
            "limit": 25,
            "friend": {"did": self.friend["did"], "handle": self.friend["handle"]},
            **more,
        }


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        world = World(tmp_path / "world", accounts=10)
        await world.start(rate=0)
        stack.push_async_callback(world.stop)
        appliance = await stack.enter_async_context(running(tmp_path / "appliance", world.settings()))
        http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=20))
        place = Place(world, appliance, http, world.info["members"][0], {})
        friend = await place.control("create_account", "friend.test")
        # The first event tells the appliance where the stream stands.
        await place.control("post", friend["did"], "we know each other")
        yield place._replace(friend=friend)


async def filled(place: Place) -> Client:
    """The member's timeline has come in whole."""
    client = Client(place.appliance.origin, place.http)
    await client.sign_in(place.member["handle"], place.member["password"])

    async def check() -> str:
        return await place.wrong([row.uri for row in await client.timeline()])

    # Followed for a while and then no more, the friend is known here and not in the timeline.
    follow = await place.control("follow", place.member["did"], place.friend["did"])
    await comes_true(check, within_s=60)
    await place.control("delete", follow)
    await comes_true(check, within_s=20)
    return client


async def test_signing_in_reading_to_the_end_and_writing(place: Place) -> None:
    client = await filled(place)
    rows = [row.uri for row in await client.timeline()]
    author = next(uri.split("/")[2] for uri in rows if uri.split("/")[2] != place.member["did"])
    subject = await place.control("post", author, "like me")

    async def arrived() -> str:
        return "" if subject in [row.uri for row in await client.timeline()] else "not there yet"

    await comes_true(arrived, within_s=20)
    ref = await place.control("strong_ref", subject)
    told = await npm.run("journey.mjs", place.options(subject=ref))

    assert list(told)[-1] == "signed-out"
    assert told["timeline"]["uris"] == [subject, *rows]
    assert not await place.wrong(told["timeline"]["uris"])
    for step, names in (("posted", ["uri"]), ("reacted", ["like", "repost", "reply"]), ("followed", ["uri"])):
        assert all(told[step][name].startswith(f"at://{place.member['did']}/") for name in names)

    async def settled() -> str:
        return await place.wrong([row.uri for row in await client.timeline()])

    await comes_true(settled, within_s=20)


async def test_the_way_through_ones_own_server(place: Place) -> None:
    await filled(place)
    port = place.appliance.origin.rpartition(":")[2]
    options = place.options(pds=place.member["pds"], did=f"did:web:localhost%3A{port}")
    told = await npm.run("proxied.mjs", options)

    assert not await place.wrong(told["timeline"]["uris"])
    assert told["muted"] == {"muted": True, "unmuted": False}
    assert told["refused"] == {"status": 501, "error": "MethodNotImplemented"}
    assert told["foreign"] == {"status": 401, "error": "BadJwtType"}
