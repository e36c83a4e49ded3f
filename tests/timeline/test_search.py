"""Searches find what is here, by every operator, and no query breaks them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import BadInput
from appliance.protocol import words
from appliance.store import migrations, search_reads, takedowns
from appliance.timeline.search_query import Filters, wanted
from appliance.timeline.search_views import SearchViews
from tests.timeline.village import PROFILE, Village, asker, checked, did, village

PACK = "app.bsky.graph.starterpack"


@asynccontextmanager
async def searching(path: Path) -> AsyncIterator[tuple[Village, SearchViews]]:
    async with village(path) as place:
        yield place, SearchViews(place.views.answering, "network")


async def found(
    views: SearchViews, query: str, who: str | None = "ann", top: bool = False, **filters: Any
) -> list[str]:
    """The texts of the posts, over pages of three."""
    texts: list[str] = []
    cursor = None
    while True:
        answer = await views.posts(asker(who), query, Filters(**filters), top=top, cursor=cursor, limit=3)
        page = checked("app.bsky.feed.searchPosts", answer)
        assert page["searched"] == "network"
        texts += [post["record"]["text"] for post in page["posts"]]
        cursor = page.get("cursor")
        if cursor is None:
            return texts
        assert page["posts"]


async def test_words_phrases_and_negation_find_posts_newest_first(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob")
        for text in ("the red fox", "a fox so red", "Red Fox?", "the dog", "foxes"):
            await place.post("bob", text)

        assert await found(views, "red fox") == ["Red Fox?", "a fox so red", "the red fox"]
        assert await found(views, '"red fox"') == ["Red Fox?", "the red fox"]
        assert await found(views, "fox -so") == ["Red Fox?", "the red fox"]
        assert await found(views, "-fox") == ["foxes", "the dog"]
        assert await found(views, "dog OR foxes") == ["foxes", "the dog"]
        assert await found(views, 'fox -"red fox"') == ["a fox so red"]
        assert await found(views, "?!") == []
        assert await found(views, "absent") == []


@pytest.mark.parametrize(
    ("text", "query", "misses"),
    [
        ("Ærøskøbing über Straße", "STRASSE uber", "strand"),
        ("crème brûlée", "creme brulee", "crema"),
        ("今日は東京タワーへ行った", "東京タワー", "京東"),
        ("한국어를 배워요", "한국어", "어국"),
        ("วันนี้อากาศดี", "อากาศ", "กาอา"),
        ("नमस्ते दुनिया", "नमस्ते", "दुन"),
        ("good 🦊 morning 👩‍👩‍👧", "🦊", "🐶"),
        ("family 👩‍👩‍👧", "👩‍👩‍👧", "👧👩"),
        ("don't stop", "don't", "do"),
        ("\U00010400\U00010401 deseret", "\U00010428\U00010429", "\U00010429\U00010428"),
    ],
)
async def test_any_script_can_be_searched(tmp_path: Path, text: str, query: str, misses: str) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann")
        await place.post("ann", text)
        await place.post("ann", "something else")

        assert await found(views, query) == [text]
        assert await found(views, misses) == []


async def test_each_operator_limits_what_is_found(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob", "cid")
        link = {"$type": "app.bsky.richtext.facet#link", "uri": "https://www.blog.example.org/a/?b=1#top"}
        mention = {"$type": "app.bsky.richtext.facet#mention", "did": did("ann")}
        tag = {"$type": "app.bsky.richtext.facet#tag", "tag": "Füchse"}
        at = {"byteStart": 0, "byteEnd": 1}
        one = await place.post("bob", "x plain", created="2020-05-01T12:00:00Z")
        await place.post("bob", "x link", facets=[{"index": at, "features": [link]}])
        await place.post("cid", "x mention", facets=[{"index": at, "features": [mention]}])
        await place.post("cid", "x tag", facets=[{"index": at, "features": [tag]}], langs=["pt-BR"])
        await place.post("ann", "x own", tags=["other"])
        await place.post("cid", "x reply", reply={"root": one, "parent": one})
        await place.post("cid", "x quote", embed={"$type": "app.bsky.embed.record", "record": one})

        assert await found(views, "x from:bob.test") == ["x link", "x plain"]
        assert await found(views, f"x from:{did('bob')}") == ["x link", "x plain"]
        assert await found(views, "x from:me") == ["x own"]
        assert await found(views, "x from:@ann.test") == ["x own"]
        assert await found(views, "x from:nobody.test") == []
        assert await found(views, "from:bob.test -link") == ["x plain"]
        assert await found(views, "to:me") == await found(views, "mentions:ann.test") == ["x mention"]
        assert await found(views, "#füchse") == await found(views, "tag:FUCHSE") == ["x tag"]
        assert await found(views, "lang:pt") == await found(views, "lang:pt-br") == ["x tag"]
        assert await found(views, "domain:example.org") == ["x link"]
        assert await found(views, "domain:blog.example.org") == ["x link"]
        assert await found(views, "domain:other.example.org") == []
        assert await found(views, "url:http://blog.example.org/a?b=1") == ["x link"]
        assert await found(views, "url:https://blog.example.org/b") == []
        assert await found(views, "https://blog.example.org/a?b=1") == ["x link"]
        assert await found(views, "x until:2020-05-02") == ["x plain"]
        assert await found(views, "x until:2020-05-01T12:00:00Z") == []
        assert await found(views, "x since:2020-05-01T12:00:00.000Z until:2020-05-01T12:00:01Z") == [
            "x plain"
        ]
        assert len(await found(views, "x since:2020-05-02")) == 6
        assert await found(views, "x -from:cid.test -from:me") == ["x link", "x plain"]

        assert await found(views, "", authors=[did("bob")], urls=[link["uri"]]) == ["x link"]
        assert await found(views, "x", tags_all=["Füchse", "other"]) == []
        assert await found(views, "x", tags=["Füchse", "other"]) == ["x own", "x tag"]
        assert await found(views, "x", replies=True) == await found(views, "", parent=one["uri"])
        assert await found(views, "", root=one["uri"]) == ["x reply"]
        assert await found(views, "", embeds=[one["uri"]]) == ["x quote"]
        assert await found(views, "from:cid.test", without_embeds=[one["uri"]], replies=False) == [
            "x tag",
            "x mention",
        ]
        assert await found(views, "", root="at://did:plc:nobody/app.bsky.feed.post/3") == []
        with pytest.raises(BadInput) as refused:
            await found(views, "x", since="yesterday")
        assert refused.value.name == "BadQueryString"
        assert await found(views, "x since:yesterday") == []


async def test_scopes_are_the_viewers_own(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob", "cid", "dot")
        await place.follow("ann", "bob")
        await place.post("ann", "x mine")
        await place.post("bob", "x bob's")
        far = await place.post("cid", "x cid's")
        await place.post("cid", "x unseen")
        await place.repost("bob", far)

        assert await found(views, "x in:following") == ["x bob's"]
        assert await found(views, "x", following=True) == ["x bob's"]
        assert await found(views, "x in:timeline") == ["x cid's", "x bob's", "x mine"]
        assert await found(views, "x in:following", who="dot") == []
        assert await found(views, "x in:following", who=None) == []
        search_reads.AUTHORS_MAX, kept = 0, search_reads.AUTHORS_MAX
        try:
            assert await found(views, "x in:following") == ["x bob's"]
        finally:
            search_reads.AUTHORS_MAX = kept


async def test_blocked_authors_are_left_out_and_ones_own_posts_never(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob", "cid")
        await place.post("bob", "x bob")
        await place.post("cid", "x cid")
        await place.post("ann", "x ann")
        await place.block("ann", "bob")
        await place.block("cid", "ann")

        assert await found(views, "x") == ["x ann"]
        assert len(await found(views, "x", who="bob")) == 2
        assert len(await found(views, "x", who=None)) == 3
        assert [a["handle"] for a in (await people(views, "test"))] == ["ann.test"]
        exact = await views.typeahead(asker("ann"), "bob.test", limit=5)
        assert [a["handle"] for a in exact.parsed()["actors"]] == ["bob.test"]
        assert (await views.typeahead(asker("ann"), "bo", limit=5)).parsed()["actors"] == []


def handles(found: list[Any]) -> list[str]:
    return [each["handle"] for each in found]


async def people(views: SearchViews, query: str, who: str | None = "ann", limit: int = 2) -> list[Any]:
    each: list[Any] = []
    cursor = None
    while True:
        answer = await views.people(asker(who), query, cursor=cursor, limit=limit)
        page = checked("app.bsky.actor.searchActors", answer)
        each += page["actors"]
        cursor = page.get("cursor")
        if cursor is None:
            return each


async def test_people_are_found_by_handle_name_and_description(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob", "cid", "dot", "eve")
        await place.write(
            "cid", PROFILE, {"displayName": "Zoë Äpfel", "description": "paints foxes"}, rkey="self"
        )
        await place.follow("ann", "dot")
        await place.follow("bob", "eve")
        await place.follow("cid", "eve")

        assert handles(await people(views, "zoe")) == handles(await people(views, "apf")) == ["cid.test"]
        assert handles(await people(views, "painting OR foxes")) == []
        assert handles(await people(views, "foxes")) == ["cid.test"]
        assert handles(await people(views, "test"))[0] == "eve.test"
        assert len(await people(views, "test", limit=1)) == 5
        typed = await views.typeahead(asker("ann"), "test", limit=3)
        shown = checked("app.bsky.actor.searchActorsTypeahead", typed)["actors"]
        assert handles(shown)[:2] == ["dot.test", "eve.test"]
        assert (await views.typeahead(asker("ann"), "foxes", limit=3)).parsed()["actors"] == []
        assert (await views.typeahead(asker("ann"), "", limit=3)).parsed()["actors"] == []


async def test_what_changes_is_found_by_what_it_is_now_and_what_goes_by_nothing(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob")
        post = await place.post("bob", "first words", rkey="3k")
        await place.post("bob", "second thoughts", rkey="3k", operation="update")
        assert await found(views, "first") == []
        assert await found(views, "second") == ["second thoughts"]
        await place.delete(post)
        assert await found(views, "second") == []
        await place.post("bob", "third", rkey="3k")
        assert await found(views, "third") == ["third"]

        await place.write("bob", PROFILE, {"displayName": "Robert"}, rkey="self", operation="update")
        assert len(await people(views, "robert")) == 1
        assert len(await people(views, "bob")) == 1  # by the handle
        await place.named("bob", "bert.test")
        assert await people(views, "bob") == []
        await place.named("ann", "bert.test")
        assert [a["did"] for a in await people(views, "bert")] == [did("ann")]
        await place.delete({"uri": f"at://{did('bob')}/{PROFILE}/self"})
        assert await people(views, "robert") == []

        def words_left(reader: Any) -> list[Any]:
            return [
                *reader.all("SELECT record FROM searched"),
                *reader.all(
                    "SELECT rowid FROM search WHERE search MATCH 'words : \"second\" OR words : first'"
                ),
                *reader.all("SELECT rowid FROM person_search WHERE person_search MATCH 'robert OR bob'"),
            ]

        assert len(await place.database.read(words_left)) == 1


async def test_takedowns_and_inactive_accounts_are_not_found(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob", "cid")
        await place.post("bob", "x bob")
        await place.post("cid", "x cid")
        await place.status("bob", "deactivated")
        assert await found(views, "x") == ["x cid"]
        assert [a["handle"] for a in await people(views, "test")] == ["cid.test", "ann.test"]

        def take_down(tx: Any) -> None:
            takedowns.mark_record(tx, tx.value("SELECT max(record) FROM searched"), "why")

        await place.database.write(take_down)
        assert await found(views, "x") == []


async def test_top_ranks_by_what_people_did(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob")
        posts = [await place.post("bob", f"x {number}") for number in range(7)]
        await place.like("ann", posts[2])
        await place.repost("ann", posts[4])

        assert await found(views, "x", top=True) == ["x 4", "x 2", "x 6", "x 5", "x 3", "x 1", "x 0"]
        with pytest.raises(BadInput):
            await views.posts(asker("ann"), "x", Filters(), top=True, cursor="5", limit=3)


async def test_starter_packs_are_found_by_the_words_in_them(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob")
        for name in ("Foxes of Finland", "Dogs", "More foxes"):
            await place.write(
                "bob",
                PACK,
                {
                    "name": name,
                    "description": "who to follow",
                    "list": f"at://{did('bob')}/app.bsky.graph.list/3",
                },
            )

        one = checked(
            "app.bsky.graph.searchStarterPacks",
            await views.packs(asker("ann"), "fox", cursor=None, limit=1),
        )
        assert [pack["record"]["name"] for pack in one["starterPacks"]] == ["More foxes"]
        rest = await views.packs(asker("ann"), "fox", cursor=one["cursor"], limit=1)
        assert [pack["record"]["name"] for pack in rest.parsed()["starterPacks"]] == ["Foxes of Finland"]
        two = checked(
            "app.bsky.graph.searchStarterPacksV2",
            await views.packs(asker("ann"), "follow", cursor=None, limit=5, whole=True),
        )
        assert (len(two["starterPacks"]), two["hitsTotal"]) == (3, 3)
        assert await found(views, "foxes") == []


async def test_hits_are_counted_on_the_first_page_and_posts_of_one_moment_all_come(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann")
        for number in range(10):
            await place.post("ann", f"x {number}", created="1969-01-01T00:00:00Z")

        first = await views.posts(asker("ann"), "x", Filters(), top=False, cursor=None, limit=4)
        assert first.parsed()["hitsTotal"] == 10
        assert sorted(await found(views, "x")) == [f"x {number}" for number in range(10)]


async def test_rows_that_stay_are_shown_once_while_others_come_and_go(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann")
        kept = [f"x {n}" for n in range(12)]
        for text in kept:
            await place.post("ann", text)
        for limit in (1, 2, 7, 50):
            gone = await place.post("ann", "x going", created="2025-01-01T00:00:00Z")
            texts, cursor, pages = [], None, 0
            while True:
                answer = await views.posts(
                    asker("ann"), "x", Filters(), top=False, cursor=cursor, limit=limit
                )
                texts += [post["record"]["text"] for post in answer.parsed()["posts"]]
                pages += 1
                cursor = answer.parsed().get("cursor")
                if cursor is None:
                    break
                await place.delete(await place.post("ann", "x passing"))
                if pages == 1:
                    await place.delete(gone)
            assert [text for text in texts if text in kept] == kept[::-1]


async def test_no_query_breaks_a_search(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann")
        await place.post("ann", "x")
        hostile = [
            *('"', '""', "AND", "OR", "x OR", "NOT x", "x NEAR(x y)", "words:x", "{words}:x", "x*", "^x"),
            *("-", "--x", "(x", "x)", "\0x", "'; DROP", "from:", "from:-", "since:9999-99-99", "facts : fp"),
            *('-"', "in:nowhere", "url:http://[", "domain:[::", "lang:" + "e" * 500, "x" * 20_000, "#", "##"),
            *("until:0000-00-00", "since:-1", "@", "until:9999-12-31", "url:x", "tag:#", '-from:""', "me"),
        ]
        for query in hostile:
            await found(views, query)
            await people(views, query)
            await views.typeahead(asker("ann"), query, limit=5)
            await views.packs(asker("ann"), query, cursor=None, limit=5)
        with pytest.raises(BadInput) as refused:
            await found(views, "x " * 60)
        assert refused.value.name == "BadQueryString"

        @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
        @given(
            st.lists(
                st.sampled_from(
                    ["x", '"', "-", "OR", "from:", "in:timeline", "(", ")", "*", " ", "é", "日", "🦊"]
                )
            )
        )
        def any_query(parts: list[str]) -> None:
            query = "".join(parts)[:300]

            def look(reader: Any) -> None:
                asked = wanted(reader, 1, query, Filters())
                if asked is not None:
                    search_reads.count(reader, asked)

            try:
                asyncio.run_coroutine_threadsafe(place.database.read(look), loop).result(30)
            except BadInput as error:
                if error.name != "BadQueryString":
                    raise

        loop = asyncio.get_running_loop()
        await asyncio.to_thread(any_query)


async def test_an_upgrade_finds_the_words_of_what_is_here(tmp_path: Path) -> None:
    async with searching(tmp_path) as (place, views):
        await place.join("ann", "bob")
        await place.post("ann", "héllo 日本")
        await place.post("bob", "old", created="1960-01-01T00:00:00Z")
        await place.write("bob", PACK, {"name": "Foxes", "list": f"at://{did('bob')}/app.bsky.graph.list/3"})
        script = migrations.steps()[2]
        filling = script[script.index("-- Filled from what is here") :]

        def again(tx: Any) -> None:
            for table in ("search", "person_search"):
                tx.run(f"INSERT INTO {table} ({table}) VALUES ('delete-all')")
            for table in ("searched", "person"):
                tx.run(f"DELETE FROM {table}")
            migrations._teach(tx._connection)
            for statement in migrations.statements(filling[: filling.index("\n\n")]):
                tx.run(statement)

        await place.database.write(again)
        assert await found(views, "hello") == ["héllo 日本"]
        assert await found(views, "本") == ["héllo 日本"]
        assert await found(views, "until:1970-01-02 from:bob.test") == ["old"]
        assert len(await people(views, "test")) == 2
        assert (
            len((await views.packs(asker("ann"), "fox", cursor=None, limit=5)).parsed()["starterPacks"]) == 1
        )
        await place.post("ann", "and new")
        assert await found(views, "from:ann.test") == ["and new", "héllo 日本"]


def test_folding_knows_no_case_accents_or_signs() -> None:
    assert words.fold("  Ünïcode—Test, (ok) ") == "unicode test ok"
    assert words.fold("") == words.fold("…") == ""
    assert words.languages("日本語") == ["zh"]
    assert words.languages("これは日本") == ["ja"]
