"""What others say of what is shown, and what a member brings along: a whole appliance, from outside."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.devnet.network import Network
from appliance.protocol import labels
from tests.devnet.devnets import small
from tests.journeys.harness import Client, Process
from tests.journeys.harness import comes_true as comes_to_be

WITHIN_S = 60.0


async def comes_true(holds: Callable[[], Awaitable[bool]]) -> None:
    async def wrong() -> str:
        return "" if await holds() else "it does not hold"

    await comes_to_be(wrong, within_s=WITHIN_S)


def settings(net: Network, **more: str) -> dict[str, str]:
    info = net.info
    return {
        "JETSTREAM_URLS": info["jetstream_v2"],
        "PLC_URL": info["plc"],
        "HANDLE_RESOLVERS": ",".join(info["pds"]),
        "MEMBERS": "*",
        **more,
    }


@pytest.fixture
async def net() -> AsyncIterator[Network]:
    async with small(pds=1) as made:
        for name in ("member", "friend", "other"):
            made.create_account(f"{name}.test")
        made.follow(made.account("member.test").did, made.account("friend.test").did)
        yield made


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=30, trust_env=False) as client:
        yield client


async def signed_in(net: Network, process: Process, http: httpx.AsyncClient) -> Client:
    client = Client(process.origin, http)
    await client.sign_in("member.test", net.account("member.test").entry.password)
    return client


async def test_labels_are_shown_hide_and_are_taken_back(
    net: Network, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    ours, theirs = await net.add_labeler("ours"), await net.add_labeler("theirs")
    backlinks, index = await net.add_backlinks()
    friend, other = net.account("friend.test").did, net.account("other.test").did
    post = net.post(friend, "hello")
    net.like(other, post)
    record = {"subject": friend, "handle": "friend.test", "displayName": "Friend"}
    net.put(friend, "app.bsky.actor.profile", {"displayName": "Friend"}, "self")
    net.put(other, "app.bsky.graph.verification", record | {"createdAt": "2026-01-01T00:00:00Z"})
    before = ours.say(post, "old")
    more = {"LABELERS": ours.did, "VERIFIERS": other, "CONSTELLATION_URL": index}
    process = Process(tmp_path / "appliance", settings(net, **more))
    async with AsyncExitStack() as stack:
        await process.start()
        stack.push_async_callback(process.stop)
        client = await signed_in(net, process, http)

        async def feed(named: str = "") -> list[Any]:
            answer = await http.get(
                f"{process.origin}/xrpc/app.bsky.feed.getTimeline",
                headers={"authorization": f"Bearer {client._token}"}
                | ({"atproto-accept-labelers": named} if named else {}),
            )
            assert answer.status_code == 200
            body = answer.json()
            assert body["countsScope"] == "tracked"
            return [item["post"] for item in body["feed"]]

        async def shows(*values: str, named: str = "") -> bool:
            return [[each["val"] for each in view["labels"]] for view in await feed(named)] == [list(values)]

        # Said before we listened, and while we do.
        await comes_true(lambda: shows("old"))
        ours.say(post, "spam")
        await comes_true(lambda: shows("old", "spam"))

        # A labeler of the client's own choice is listened to once it is named.
        theirs.say(post, "rude")
        theirs.say(theirs.did, "self")
        await comes_true(lambda: shows("rude", named=theirs.did))
        assert await shows("old", "spam")

        ours.say(post, "!takedown")

        async def nothing() -> bool:
            return await feed() == []

        await comes_true(nothing)
        assert await shows("rude", named=theirs.did)
        ours.say(post, "!takedown", neg=True)
        await comes_true(lambda: shows("old", "spam"))

        passed_on = await client.call("com.atproto.label.queryLabels", uriPatterns=post, sources=ours.did)
        (old,) = [each for each in passed_on["labels"] if each["val"] == "old"]
        assert labels.holds(labels.parse(old | {"sig": before["sig"]}), ours.key.did_key)

        # Who vouches for the author, and how many likes there are elsewhere.
        async def vouched_for_and_counted() -> bool:
            (view,) = await feed()
            state = view["author"].get("verification", {})
            return (state.get("verifiedStatus"), view["likeCount"], view.get("countsFrom")) == (
                "valid",
                1,
                "constellation",
            )

        await comes_true(vouched_for_and_counted)
        assert post in backlinks.asked


@pytest.mark.long
async def test_a_member_moves_here_with_what_was_kept_elsewhere(
    net: Network, http: httpx.AsyncClient, tmp_path: Path
) -> None:
    friend, other = net.account("friend.test").did, net.account("other.test").did
    kept = net.strong_ref(net.post(friend, "worth keeping"))
    # A stranger's list with the friend on it: nobody followed brings it here.
    listed = net.put(
        other,
        "app.bsky.graph.list",
        {"purpose": "app.bsky.graph.defs#modlist", "name": "x", "createdAt": "2026-01-01T00:00:00Z"},
    )
    item = {"subject": friend, "list": listed, "createdAt": "2026-01-01T00:00:00Z"}
    net.put(other, "app.bsky.graph.listitem", item)
    old = Process(tmp_path / "old", settings(net, LABELER_STREAMS_MAX="0"))
    new = Process(tmp_path / "new", settings(net, LABELER_STREAMS_MAX="0"))
    async with AsyncExitStack() as stack:
        for process in (old, new):
            await process.start()
            stack.push_async_callback(process.stop)
        there, here = await signed_in(net, old, http), await signed_in(net, new, http)
        await there.call("app.bsky.actor.getProfile", actor=other)
        await there.call("app.bsky.graph.muteActor", {"actor": other})
        await there.call("app.bsky.graph.muteActorList", {"list": listed})
        await there.call("app.bsky.bookmark.createBookmark", kept)
        wanted = {"subject": friend, "activitySubscription": {"post": True, "reply": False}}
        await there.call("app.bsky.notification.putActivitySubscription", wanted)
        like = {"include": "follows", "list": True, "push": False}
        await there.call("app.bsky.notification.putPreferencesV2", {"like": like})

        async def all_there() -> bool:
            told = await there.call("app.bsky.notification.listActivitySubscriptions")
            kept_there = await there.call("app.bsky.bookmark.getBookmarks")
            lists = await there.call("app.bsky.graph.getListMutes")
            return bool(told["subscriptions"] and kept_there["bookmarks"] and lists["lists"])

        await comes_true(all_there)
        assert len((await here.call("app.bsky.feed.getTimeline"))["feed"]) == 1
        service = f"did:web:localhost%3A{old.port}#bsky_appview"
        report = await here.call("computer.aesthetic.appliance.importFromAppView", {"service": service})
        assert "cursor" not in report
        found = {each["kind"]: (each["added"], each.get("error")) for each in report["kinds"]}
        assert found == {
            "mutes": (1, None),
            "listMutes": (1, None),
            "listBlocks": (0, None),
            "bookmarks": (1, None),
            "activitySubscriptions": (1, None),
            "notificationPreferences": (1, None),
        }

        async def muted() -> bool:
            mutes = await here.call("app.bsky.graph.getMutes")
            return [each["did"] for each in mutes["mutes"]] == [other]

        await comes_true(muted)

        async def quiet() -> bool:
            (mine,) = (await here.call("app.bsky.graph.getListMutes"))["lists"] or [{}]
            feed = (await here.call("app.bsky.feed.getTimeline"))["feed"]
            return bool(mine.get("listItemCount") == 1 and feed == [])

        await comes_true(quiet)
        preferences = await here.call("app.bsky.notification.getPreferences")
        assert preferences["preferences"]["like"] == like

        code, out, err = await new.command("member", "import", "member.test", "--service", service, "--json")
        assert code == 0, err
        assert {each["kind"]: each["added"] for each in json.loads(out)["kinds"]} == dict.fromkeys(found, 0)
