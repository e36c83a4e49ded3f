"""Somebody whom nobody here follows: found by handle, opened by XRPC and on the website."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from appliance.devnet.network import Network
from appliance.protocol import did_document
from tests.devnet.devnets import small
from tests.journeys.harness import Client, Process, comes_true

WITHIN_S = 5.0


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with small() as made:
        yield made


@pytest.fixture
async def process(net: Network, tmp_path: Path) -> AsyncIterator[Process]:
    info = net.info
    made = Process(
        tmp_path / "appliance",
        {
            "JETSTREAM_URLS": info["jetstream_v2"],
            "RELAY_URL": info["relay"],
            "PLC_URL": info["plc"],
            "HANDLE_RESOLVERS": ",".join(info["pds"]),
            "MEMBERS": "*",
        },
    )
    net.create_account("member.test")
    net.create_account("stranger.test", 1)
    net.create_account("second.test")
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False, follow_redirects=True) as client:
        yield client


async def test_handles_that_nobody_here_has_heard_of_resolve_for_anybody(
    net: Network, process: Process, http: httpx.AsyncClient
) -> None:
    client = Client(process.origin, http)
    found = await client.call("com.atproto.identity.resolveHandle", handle="stranger.test")
    assert found == {"did": net.account("stranger.test").did}
    url = f"{process.origin}/xrpc/com.atproto.identity.resolveHandle"
    for _ in range(2):
        answer = await http.get(url, params={"handle": "nobody.test"})
        assert (answer.status_code, answer.json()) == (
            400,
            {"error": "InvalidRequest", "message": "Unable to resolve handle"},
        )


async def test_a_strangers_thread_and_profile_open_for_a_member(
    net: Network, process: Process, http: httpx.AsyncClient
) -> None:
    stranger, second = net.account("stranger.test"), net.account("second.test")
    first = net.post(stranger.did, "a stranger begins")
    middle = net.reply(second.did, "another one answers", first)
    last = net.reply(stranger.did, "and is answered", middle)
    net.put(stranger.did, "app.bsky.actor.profile", {"displayName": "Stranger"}, "self")

    client = Client(process.origin, http)
    await client.sign_in("member.test", net.account("member.test").entry.password)
    by_handle = last.replace(stranger.did, "stranger.test")

    async def thread_is_whole() -> str:
        thread = (await client.call("app.bsky.feed.getPostThread", uri=by_handle))["thread"]
        shown = []
        while "post" in thread:
            shown.append(thread["post"]["uri"])
            thread = thread.get("parent", {})
        return "" if shown == [last, middle, first] else f"{len(shown)} posts"

    # What does not arrive while an answer waits is there at the next look.
    await comes_true(thread_is_whole, within_s=WITHIN_S)
    profile = await client.call("app.bsky.actor.getProfile", actor="second.test")
    assert profile["did"] == second.did
    feed = await client.call("app.bsky.feed.getAuthorFeed", actor="second.test")
    assert [row["post"]["uri"] for row in feed["feed"]] == [middle]


async def test_the_website_opens_them_too(net: Network, process: Process, http: httpx.AsyncClient) -> None:
    stranger, second = net.account("stranger.test"), net.account("second.test")
    first = net.post(stranger.did, "a stranger begins")
    last = net.reply(second.did, "another one answers", first)
    guest = await http.get(f"{process.origin}/post/{last}")
    assert guest.status_code == 404

    page = await http.get(f"{process.origin}/login")
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    fields |= {"identifier": "member.test", "password": net.account("member.test").entry.password}
    answer = await http.post(
        f"{process.origin}/api/auth/login", data=fields, headers={"Origin": process.origin}
    )
    assert answer.status_code == 200, answer.text[:500]

    opened = await http.get(f"{process.origin}/post/{last}")
    assert opened.status_code == 200
    assert "a stranger begins" in opened.text
    assert "another one answers" in opened.text

    async def profile_shows_the_post() -> str:
        found = await http.get(f"{process.origin}/profile/stranger.test")
        return "" if "a stranger begins" in found.text else f"{found.status_code}"

    await comes_true(profile_shows_the_post, within_s=WITHIN_S)
    assert (await http.get(f"{process.origin}/profile/nobody.test")).status_code == 404


async def test_our_did_document_is_there_for_browsers_of_other_sites(
    process: Process, http: httpx.AsyncClient
) -> None:
    answer = await http.get(f"{process.origin}/.well-known/did.json")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["access-control-allow-origin"] == "*"
    found = did_document.parse(answer.content, f"did:web:localhost%3A{process.port}")
    assert found.signing_key is not None
    assert {service.endpoint for service in found.services.values()} == {process.origin}
