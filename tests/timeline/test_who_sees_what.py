from pathlib import Path
from typing import Any
from urllib.parse import quote as percent

import pytest

from appliance.errors import BadInput
from appliance.timeline.asker import Asker
from appliance.timeline.labelers import Labeler
from tests.timeline.village import LABELER, POST, PROFILE, Village, asker, checked, did, uris, village

BLOCKED = "app.bsky.feed.defs#blockedPost"


async def everything(place: Village, who: str | None, posts: list[dict[str, str]]) -> bytes:
    """All that somebody can read of these posts and their authors, in one."""
    views, viewer = place.views, asker(who)
    answers = [await views.posts(viewer, [ref["uri"] for ref in posts])]
    if who is not None:
        answers.append(await views.timeline(viewer))
    for ref in posts:
        try:
            answers.append(await views.thread(viewer, ref["uri"]))
            answers[-1].parsed()
        except BadInput:
            answers.pop()
        answers.append(await views.likes(viewer, ref["uri"]))
        answers.append(await views.reposters(viewer, ref["uri"]))
    return b"".join(answer.body for answer in answers)


@pytest.mark.invariant("blocked-is-unseen")
@pytest.mark.parametrize(("blocker", "blocked"), [("ann", "bob"), ("bob", "ann")])
async def test_what_a_blocked_account_writes_is_not_shown(tmp_path: Path, blocker: str, blocked: str) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        own = await place.post("ann", "my own words")
        bobs = await place.post("bob", "SECRET one")
        await place.repost("cid", bobs)
        await place.reply("bob", own)
        quote = await place.post("cid", "look", embed={"$type": "app.bsky.embed.record", "record": bobs})
        answer = await place.reply("cid", bobs)
        await place.like("bob", own)
        block = await place.block(blocker, blocked)

        shown = await everything(place, "ann", [own, bobs, quote, answer])

        assert b"SECRET" not in shown
        assert b"bob replies" not in shown
        assert b"bob.test" not in shown
        assert uris(await place.home("ann")) == [quote["uri"], own["uri"]]
        assert (await place.thread("ann", bobs))["$type"] == BLOCKED
        embed = (await place.home("ann"))["feed"][0]["post"]["embed"]["record"]
        assert embed["$type"] == "app.bsky.embed.record#viewBlocked"
        name = "BlockedActor" if blocker == "ann" else "BlockedByActor"
        with pytest.raises(BadInput) as caught:
            await place.feed("ann", "bob")
        assert caught.value.name == name

        await place.delete(block)
        assert b"SECRET" in await everything(place, "ann", [own, bobs, quote, answer])


async def test_blocks_between_others_show_as_blocked_posts(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        root = await place.post("bob", "root")
        reply = await place.reply("cid", root)
        quote = await place.post("cid", "look", embed={"$type": "app.bsky.embed.record", "record": root})
        await place.block("bob", "cid")

        items = {item["post"]["uri"]: item for item in (await place.home("ann"))["feed"]}

        assert items[reply["uri"]]["reply"]["parent"]["$type"] == BLOCKED
        assert items[reply["uri"]]["reply"]["root"]["$type"] == BLOCKED
        assert items[quote["uri"]]["post"]["embed"]["record"]["$type"] == "app.bsky.embed.record#viewBlocked"
        assert (await place.thread("ann", root))["replies"] == []
        assert (await place.thread("ann", reply))["parent"]["$type"] == BLOCKED


async def test_answers_to_a_blocked_account_are_left_out_two_levels_up(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid", "eve")
        await place.follow("ann", "bob", "cid")
        root = await place.post("eve", "root")
        child = await place.reply("bob", root)
        grandchild = await place.reply("cid", child, root)
        third = await place.reply("bob", grandchild, root)
        await place.block("ann", "eve")

        assert uris(await place.home("ann")) == [third["uri"]]


async def test_muted_accounts_are_absent_from_home_and_present_at_home(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        bobs = await place.post("bob")
        await place.repost("cid", bobs)
        cids = await place.post("cid")
        await place.mute("ann", "bob")

        assert uris(await place.home("ann")) == [cids["uri"]]
        feed = await place.feed("ann", "bob")
        assert uris(feed) == [bobs["uri"]]
        assert feed["feed"][0]["post"]["author"]["viewer"]["muted"] is True
        assert uris(await place.feed("ann", "cid")) == [cids["uri"]]
        assert len(uris(await place.feed(None, "cid"))) == 2


@pytest.mark.defect("D17")
@pytest.mark.parametrize("status", ["deactivated", "suspended", "takendown", "deleted"])
async def test_an_inactive_account_is_nobody(tmp_path: Path, status: str) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        await place.follow("bob", "ann")
        root = await place.post("ann")
        reply = await place.reply("bob", root)
        await place.status("bob", status)

        assert uris(await place.home("ann")) == [root["uri"]]
        assert (await place.thread("ann", root))["replies"] == []
        assert (await place.views.followers(asker(None), did("ann"))).parsed()["followers"] == []
        assert (await place.views.posts(asker(None), [reply["uri"]])).parsed() == {"posts": []}
        with pytest.raises(BadInput) as caught:
            await place.views.profile(asker("ann"), did("bob"))
        assert caught.value.name == {
            "deactivated": "AccountDeactivated",
            "deleted": "InvalidRequest",
        }.get(status, "AccountTakedown")

        await place.status("bob", None)
        assert reply["uri"] in uris(await place.home("ann"))


async def test_takedowns_hide_from_all_but_the_operator(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        kept = await place.post("bob", "kept")
        gone = await place.post("bob", "gone")
        rkey = gone["uri"].rsplit("/", 1)[1]
        await place.mark("UPDATE record SET takedown = 'x' WHERE rkey = ?", rkey)

        assert uris(await place.home("ann")) == [kept["uri"]]
        assert uris(await place.feed("bob", "bob")) == [kept["uri"]]
        operator = (await place.views.author_feed(asker(None, operator=True), did("bob"))).parsed()
        assert uris(operator) == [gone["uri"], kept["uri"]]
        # What the operator saw stays his.
        assert uris(await place.feed(None, "bob")) == [kept["uri"]]

        await place.mark("UPDATE actor SET takedown = 'x' WHERE did = ?", did("bob"))
        assert uris(await place.home("ann")) == []
        seen = (await place.views.profile(asker(None, operator=True), did("bob"))).parsed()
        assert seen["handle"] == "bob.test"


async def test_labels_count_from_those_labelers_that_the_caller_names(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "lab")
        post = await place.post("ann", labels=_self("mine"))
        await place.label(post["uri"], "spam")
        await place.label(post["uri"], "other", source=did("lab"))
        await place.label(post["uri"], "old", expires="2020-01-01T00:00:00.000Z")
        await place.label(did("ann"), "person")

        async def values(*named: Labeler, default: bool = False) -> Any:
            who = Asker(labelers=None if default else named)
            answer = await place.views.posts(who, [post["uri"]])
            (view,) = checked("app.bsky.feed.getPosts", answer)["posts"]
            labels = [label["val"] for label in view["labels"]]
            return labels, [label["val"] for label in view["author"]["labels"]], answer.labelers

        assert await values(default=True) == (["spam", "mine"], ["person"], f"{LABELER};redact")
        assert await values() == (["mine"], [], "")
        assert await values(Labeler(did("lab"), False)) == (["other", "mine"], [], did("lab"))
        assert await values(Labeler("did:plc:" + "z" * 24, True)) == (["mine"], [], "")


async def test_a_takedown_label_hides_only_where_its_labeler_may_redact(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        posts = [await place.post("ann"), await place.post("bob")]
        await place.label(posts[0]["uri"], "!takedown")
        await place.label(did("bob"), "!suspend")

        async def seen(*named: Labeler) -> int:
            answer = await place.views.posts(Asker(labelers=named), [ref["uri"] for ref in posts])
            return len(answer.parsed()["posts"])

        assert await seen(Labeler(LABELER, True)) == 0
        assert await seen(Labeler(LABELER, False)) == 2
        with pytest.raises(BadInput) as caught:
            await place.views.profile(Asker(), did("bob"))
        assert caught.value.name == "AccountTakedown"


async def test_a_change_shows_in_the_very_next_answer(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        ref = await place.post("bob", "before")
        rkey = ref["uri"].rsplit("/", 1)[1]

        async def view() -> Any:
            (item,) = (await place.home("ann"))["feed"]
            return item["post"]

        assert (await view())["record"]["text"] == "before"
        await place.like("ann", ref)
        post = await view()
        assert post["likeCount"] == 1
        assert "like" in post["viewer"]
        await place.write("bob", POST, {"text": "after"}, rkey=rkey, operation="update")
        assert (await view())["record"]["text"] == "after"
        await place.write("bob", PROFILE, {"displayName": "Robert"}, rkey="self", operation="update")
        assert (await view())["author"]["displayName"] == "Robert"
        await place.mark("UPDATE actor SET handle = 'robert.test' WHERE did = ?", did("bob"))
        assert (await view())["author"]["handle"] == "robert.test"
        await place.mark("UPDATE actor SET handle = NULL WHERE did = ?", did("bob"))
        assert (await view())["author"]["handle"] == "handle.invalid"
        await place.follow("bob", "ann")
        assert "followedBy" in (await view())["author"]["viewer"]
        await place.delete(ref)
        assert (await place.home("ann"))["feed"] == []


async def test_a_record_goes_out_as_it_came_in(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        odd = {
            "text": 'quo"te \\ \u2028 é 😀',
            "langs": ["de"],
            "app.example/extra": {"n": 2**53 - 1, "x": [None, True]},
        }
        ref = await place.write("ann", POST, odd)

        (view,) = (await place.views.posts(asker(None), [ref["uri"]])).parsed()["posts"]

        assert {name: view["record"][name] for name in odd} == odd


async def test_a_stranger_with_a_token_reads_as_a_viewer_without_anything(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        ref = await place.post("ann")
        stranger = Asker(did="did:plc:" + "s" * 24)

        (view,) = (await place.views.posts(stranger, [ref["uri"]])).parsed()["posts"]

        assert view["viewer"] == {"bookmarked": False, "threadMuted": False, "embeddingDisabled": False}
        assert (await place.views.timeline(stranger)).parsed() == {"feed": []}
        assert (await place.views.timeline(stranger)).rev is None


async def test_the_answer_tells_how_far_the_viewers_own_writes_are_in(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        ref = await place.post("ann")

        answer = await place.views.timeline(asker("ann"))

        assert answer.rev == ref["uri"].rsplit("/", 1)[1]
        assert (await place.views.posts(asker("ann"), [ref["uri"]])).rev is None


async def test_an_author_feed_shows_what_its_filter_says(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        cid = "bafkreib775i6mcrzfbzyc3vertgvt774qxi2o2w3mpir7lkjawvjp6fqki"
        blob = {"$type": "blob", "ref": {"$link": cid}}
        image = {"image": {**blob, "mimeType": "image/jpeg", "size": 9}, "alt": ""}
        video = {"$type": "app.bsky.embed.video", "video": {**blob, "mimeType": "video/mp4", "size": 9}}
        other = await place.post("bob", "bobs")
        text = await place.post("ann", "text")
        picture = await place.post(
            "ann", "picture", embed={"$type": "app.bsky.embed.images", "images": [image]}
        )
        film = await place.post("ann", "film", embed=video)
        own = await place.reply("ann", text)
        foreign = await place.reply("ann", other)
        await place.repost("ann", other)

        async def shown(name: str) -> list[str]:
            return uris(await place.feed(None, "ann", only=name))[::-1]

        plain = [text["uri"], picture["uri"], film["uri"]]
        assert await shown("posts_with_replies") == [*plain, own["uri"], foreign["uri"], other["uri"]]
        assert await shown("some_later_filter") == await shown("posts_with_replies")
        assert await shown("posts_no_replies") == [*plain, other["uri"]]
        assert await shown("posts_and_author_threads") == [*plain, own["uri"], other["uri"]]
        assert await shown("posts_with_media") == [picture["uri"]]
        assert await shown("posts_with_video") == [film["uri"]]
        view = next(
            i["post"]["embed"]
            for i in (await place.feed(None, "ann"))["feed"]
            if i["post"]["uri"] == film["uri"]
        )
        assert view["playlist"] == (
            f"{place.settings.origin}/vid/{percent(did('ann'), safe='')}/{cid}/playlist.m3u8"
        )


async def test_the_pinned_post_comes_first_on_the_first_page_only(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann")
        posts = [await place.post("ann", f"{number}") for number in range(6)]
        pinned = posts[1]
        await place.write("ann", PROFILE, {"pinnedPost": pinned}, rkey="self", operation="update")

        first = await place.feed("ann", "ann", pins=True, limit=3)
        rest = await place.feed("ann", "ann", pins=True, limit=10, cursor=first["cursor"])

        assert uris(first) == [pinned["uri"], *[ref["uri"] for ref in posts[:2:-1]]]
        assert first["feed"][0]["reason"] == {"$type": "app.bsky.feed.defs#reasonPin"}
        assert first["feed"][0]["post"]["viewer"]["pinned"] is True
        assert uris(rest) == [ref["uri"] for ref in posts[2::-1]]
        assert uris(await place.feed("ann", "ann")) == [ref["uri"] for ref in posts[::-1]]


def _self(*values: str) -> dict[str, Any]:
    return {"$type": "com.atproto.label.defs#selfLabels", "values": [{"val": value} for value in values]}
