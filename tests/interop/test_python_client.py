"""The Python SDK, given only our address, a handle and an app password."""

from __future__ import annotations

import warnings

from tests.auth.house import ALICE
from tests.interop import python_models
from tests.interop.open_counter import APP_PASSWORD, CAROL, Counter

with warnings.catch_warnings():
    # Its generated models use a name of an older pydantic.
    warnings.simplefilter("ignore")
    from atproto import AsyncClient


async def test_it_signs_in_reads_writes_and_refreshes(counter: tuple[Counter, str]) -> None:
    house, origin = counter
    await house.follow_bob()
    for n in range(5):
        await house.post_of_bob(f"post {n}")
    await house.clock.advance(60)
    client, again = AsyncClient(base_url=f"{origin}/xrpc"), AsyncClient(base_url=f"{origin}/xrpc")
    try:
        await go_round(house, client, again)
    finally:
        await client.request.close()
        await again.request.close()


async def go_round(house: Counter, client: AsyncClient, again: AsyncClient) -> None:
    profile = await client.login("alice.test", APP_PASSWORD)
    assert (profile.did, profile.handle) == (ALICE, "alice.test")

    texts: list[str] = []
    cursor: str | None = None
    while True:
        page = await client.get_timeline(cursor=cursor, limit=4)
        texts += [item.post.record.text for item in page.feed]
        cursor = page.cursor
        if cursor is None:
            break
    assert sorted(texts) == ["hello", *[f"post {n}" for n in range(5)]]

    post = await client.send_post("from the other side")
    like = await client.like(post.uri, post.cid)
    repost = await client.repost(post.uri, post.cid)
    follow = await client.follow(CAROL)
    [seen] = (await client.get_posts([post.uri])).posts
    assert seen.viewer is not None
    assert (seen.viewer.like, seen.viewer.repost, seen.like_count) == (like.uri, repost.uri, 1)
    for uri in (like.uri, repost.uri):
        assert await (client.unlike(uri) if uri == like.uri else client.unrepost(uri))
    assert await client.unfollow(follow.uri)
    assert await client.delete_post(post.uri)
    assert house.pds.records == {}

    session = client.export_session_string()
    await again.login(session_string=session)
    assert (await again.com.atproto.server.get_session()).did == ALICE


def test_its_models_refuse_what_the_schema_does() -> None:
    # The answers of whole scenarios are held against them in tests/conformance.
    profile = {"did": ALICE, "handle": "alice.test"}
    assert python_models.refusal("app.bsky.actor.getProfile", profile) is None
    assert python_models.refusal("app.bsky.actor.getProfile", {"did": ALICE}) is not None
    assert (
        python_models.refusal("app.bsky.actor.getProfiles", {"profiles": [profile | {"did": 3}]}) is not None
    )
    assert python_models.refusal("app.bsky.actor.getNothing", {}) == "app.bsky.actor.getNothing: no model"
