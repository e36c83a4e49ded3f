import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.timeline.village import POST, Village, asker, checked, did, uris, village

SAME = "2026-01-01T00:00:00.000Z"


async def walk(place: Village, limit: int, seen: Any = None) -> list[str]:
    """The whole home timeline of ann. ``seen`` is called after each page."""
    found: list[str] = []
    cursor = None
    while True:
        page = await place.home("ann", cursor=cursor, limit=limit)
        found += uris(page)
        cursor = page.get("cursor")
        if cursor is None:
            return found
        assert page["feed"]
        if seen is not None:
            await seen()


@pytest.mark.defect("D10")
async def test_200_posts_of_one_moment_come_each_once_in_pages_of_7(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        written = set()
        for number in range(200):
            ref = await place.post("bob" if number % 2 else "cid", f"number {number}", created=SAME)
            written.add(ref["uri"])

        found = await walk(place, 7)

        assert len(found) == 200
        assert set(found) == written
        assert found == uris(await place.home("ann", limit=100)) + uris(
            await place.home("ann", limit=100, cursor=(await place.home("ann", limit=100))["cursor"])
        )


async def test_records_that_agree_to_the_last_byte_come_each_once(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        names = [f"n{number}" for number in "abcdefghij"]
        await place.join("ann", *names)
        await place.follow("ann", *names)
        written = {
            (await place.post(name, "the same words", created=SAME))["uri"]
            for name in names
            for _ in range(3)
        }

        for limit in (1, 2, 7):
            found = await walk(place, limit)
            assert len(found) == 30
            assert set(found) == written


@pytest.mark.defect("D9")
@pytest.mark.parametrize("limit", [1, 4, 50])
async def test_the_order_is_the_same_whatever_the_page_size(tmp_path: Path, limit: int) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        dice = random.Random(1)
        for number in range(60):
            ref = await place.post(
                dice.choice(["ann", "bob", "cid"]),
                f"{number}",
                created=f"2025-12-31T00:00:0{dice.randrange(10)}.000Z",
            )
            if dice.random() < 0.2:
                await place.repost("cid", ref)

        found = await walk(place, limit)
        page = await place.home("ann", limit=100)

        assert found == uris(page)
        shown = [(i.get("reason") or i["post"])["indexedAt"] for i in page["feed"]]
        assert shown == sorted(shown, reverse=True)


@settings(max_examples=12)
@given(st.integers(0, 2**32), st.integers(1, 9))
async def test_rows_that_stay_come_once_while_others_come_and_go(
    tmp_path_factory: pytest.TempPathFactory, seed: int, limit: int
) -> None:
    async with village(tmp_path_factory.mktemp("paging")) as place:
        dice = random.Random(seed)
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        moments = [f"2025-12-31T00:00:{second:02}.000Z" for second in range(8)]
        posts = [
            await place.post(dice.choice(["bob", "cid"]), f"{number}", created=dice.choice(moments))
            for number in range(40)
        ]
        dying = dice.sample(posts, 12)
        steady = [ref["uri"] for ref in posts if ref not in dying]
        count = 0

        async def meanwhile() -> None:
            nonlocal count
            count += 1
            await place.post(
                "bob", f"late {count}", created=dice.choice([*moments, "2026-01-01T00:00:00.000Z"])
            )
            if dying:
                await place.delete(dying.pop())

        found = await walk(place, limit, meanwhile)

        assert [uri for uri in found if found.count(uri) > 1] == []
        assert [uri for uri in steady if uri not in found] == []


async def test_a_post_that_is_edited_between_pages_stays_where_it_is(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        posts = [await place.post("bob", f"{number}", created=SAME) for number in range(20)]
        before = await walk(place, 100)
        first = await place.home("ann", limit=5)
        border = next(ref for ref in posts if ref["uri"] == uris(first)[-1])
        rkey = border["uri"].rsplit("/", 1)[1]

        await place.write("bob", POST, {"text": "edited"}, rkey=rkey, operation="update", created=SAME)
        rest = await place.home("ann", limit=100, cursor=first["cursor"])

        assert uris(first) + uris(rest) == before
        edited = next(i for i in (await place.home("ann"))["feed"] if i["post"]["uri"] == border["uri"])
        assert edited["post"]["record"]["text"] == "edited"


async def test_pages_are_refilled_when_much_of_them_is_hidden(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "mut")
        await place.follow("ann", "bob", "mut")
        kept = [(await place.post("bob", f"bob {number}"))["uri"] for number in range(6)]
        for number in range(40):
            await place.post("mut", f"noise {number}")
        await place.mute("ann", "mut")

        page = await place.home("ann", limit=10)
        found = await walk(place, 10)

        assert uris(page) == kept[::-1]
        assert found == kept[::-1]


async def test_a_viewer_who_follows_himself_sees_each_own_post_once(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        own = [(await place.post("ann", f"{number}"))["uri"] for number in range(3)]
        await place.follow("ann", "ann")

        assert uris(await place.home("ann")) == own[::-1]


async def test_own_posts_fill_a_timeline_without_a_cap(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        await place.post("bob")
        for number in range(30):
            await place.post("ann", f"{number}")

        assert len((await place.home("ann", limit=30))["feed"]) == 30


async def test_lists_of_people_page_to_their_end(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        names = [f"f{letter}" for letter in "abcdefghijklmn"]
        await place.join("ann", *names)
        ref = await place.post("ann")
        for name in names:
            await place.follow(name, "ann")
            await place.follow("ann", name)
            await place.like(name, ref)
            await place.repost(name, ref)
        views = place.views

        async def all_of(key: str, nsid: str, ask: Any) -> list[str]:
            found: list[str] = []
            cursor = None
            while True:
                page = checked(nsid, await ask(cursor))
                found += [(each.get("actor") or each)["did"] for each in page[key]]
                cursor = page.get("cursor")
                if cursor is None:
                    return found

        who, subject = asker(None), did("ann")
        newest_first = [did(name) for name in reversed(names)]
        for key, nsid, ask in (
            (
                "follows",
                "app.bsky.graph.getFollows",
                lambda c: views.follows(who, subject, cursor=c, limit=3),
            ),
            (
                "followers",
                "app.bsky.graph.getFollowers",
                lambda c: views.followers(who, subject, cursor=c, limit=3),
            ),
            ("likes", "app.bsky.feed.getLikes", lambda c: views.likes(who, ref["uri"], cursor=c, limit=3)),
            (
                "repostedBy",
                "app.bsky.feed.getRepostedBy",
                lambda c: views.reposters(who, ref["uri"], cursor=c, limit=3),
            ),
        ):
            assert await all_of(key, nsid, ask) == newest_first
