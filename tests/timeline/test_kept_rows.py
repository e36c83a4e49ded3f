"""What is kept from one answer to the next never hides a commit."""

import asyncio
import random
import threading
from pathlib import Path

import pytest

from appliance.errors import BadInput
from appliance.store import actors, post_reads, private, records, takedowns
from appliance.store.database import Database, Reader, Transaction
from appliance.timeline.answering import Answer
from appliance.timeline.shared import Shared
from appliance.timeline.views import Views
from tests.timeline.village import BLOCK, FOLLOW, LIKE, PROFILE, REPOST, Village, asker, did, uris, village

VERIFICATION = "app.bsky.graph.verification"
VERIFIERS = ("dot", "eve")
NAMES = ("ann", "bob", "cid", "dot", "eve")
LIST = "app.bsky.graph.list"
LIST_ITEM = "app.bsky.graph.listitem"
LIST_BLOCK = "app.bsky.graph.listblock"
THREAD_GATE = "app.bsky.feed.threadgate"
POST_GATE = "app.bsky.feed.postgate"
MODERATING = "app.bsky.graph.defs#modlist"
CURATING = "app.bsky.graph.defs#curatelist"
RULES = ("mentionRule", "followerRule", "followingRule")


async def seen(views: Views, who: str, posts: list[dict[str, str]]) -> list[bytes]:
    """What somebody reads in many places."""

    async def body(answer: Answer) -> bytes:
        return answer.body

    shown = [
        await body(await views.timeline(asker(who), limit=30)),
        await body(await views.profiles(asker(who), [did(name) for name in NAMES])),
        await body(await views.posts(asker(who), [ref["uri"] for ref in posts[-12:]])),
    ]
    for name in NAMES[:3]:
        try:
            shown.append(await body(await views.author_feed(asker(who), did(name))))
        except BadInput as refused:
            shown.append(str(refused).encode())
    for ref in posts[-2:]:
        try:
            shown.append(await body(await views.thread(asker(who), ref["uri"])))
        except BadInput as refused:
            shown.append(str(refused).encode())
    return shown


class Life:
    """One random thing after the other, through the functions that do it in the appliance."""

    def __init__(self, place: Village, seed: int) -> None:
        self.place = place
        self.random = random.Random(seed)
        self.posts: list[dict[str, str]] = []
        self.others: list[dict[str, str]] = []
        self.lists: list[dict[str, str]] = []

    async def step(self) -> str:
        place, chance = self.place, self.random
        who, whom = chance.sample(NAMES, 2)
        post = chance.choice(self.posts) if self.posts else await self._post(who)
        what = chance.choice(sorted(name for name in dir(self) if name.startswith("do_")))
        await getattr(self, what)(place, who, whom, post)
        return f"{what} {who} {whom} {post['uri']}"

    async def _post(self, who: str, **more: object) -> dict[str, str]:
        self.posts.append(await self.place.post(who, f"words {len(self.posts)}", **more))
        return self.posts[-1]

    async def do_post(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        await self._post(who)

    async def do_reply(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        await self._post(who, reply={"root": post, "parent": post})

    async def do_quote(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        await self._post(who, embed={"$type": "app.bsky.embed.record", "record": post})

    async def do_edit(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        _, _, author, collection, rkey = post["uri"].split("/")
        name = next(name for name in NAMES if did(name) == author)
        record = {"text": f"edited {self.random.random()}"}
        await place.write(name, collection, record, rkey=rkey, operation="update")

    async def do_like(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        self.others.append(await place.write(who, LIKE, {"subject": post}))

    async def do_repost(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        self.others.append(await place.write(who, REPOST, {"subject": post}))

    async def do_follow(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        self.others.append(await place.write(who, FOLLOW, {"subject": did(whom)}))

    async def do_block(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        self.others.append(await place.write(who, BLOCK, {"subject": did(whom)}))
        await self.do_undo(place, who, whom, post)

    async def do_undo(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        if self.others:
            await place.delete(self.others.pop(self.random.randrange(len(self.others))))

    async def do_delete(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        if len(self.posts) > 3:
            self.posts.remove(post)
            await place.delete(post)

    async def do_profile(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        record = {"displayName": f"{who} {self.random.random()}"}
        await place.write(who, PROFILE, record, rkey="self", operation="update")

    async def do_vouch(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        record = {"subject": did(whom), "handle": f"{whom}.test", "displayName": f"{whom} 0.5"}
        self.others.append(await place.write(self.random.choice(VERIFIERS), VERIFICATION, record))
        if self.random.random() < 0.5:
            uri = self.others[-1]["uri"]

            def take_down(tx: Transaction) -> None:
                found = records.find(tx, uri)
                assert found is not None
                takedowns.mark_record(tx, found.id, self.random.choice(["x", None]))

            await seen(place.views, "ann", self.posts)
            await place.database.write(take_down)

    async def do_no_profile(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        await place.delete({"uri": f"at://{did(who)}/{PROFILE}/self"})

    async def do_status(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        await place.status(who, self.random.choice(["deactivated", None, None]))

    async def do_mute(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        mute = self.random.random() < 0.5

        def change(tx: Transaction) -> None:
            viewer, subject = actors.ensure(tx, did(who)), actors.ensure(tx, did(whom))
            if mute:
                private.mute(tx, viewer, subject, self.random.choice([0, 0, 1, 2, 3]), 0)
            else:
                private.unmute(tx, viewer, subject)
            thread = tx.value("SELECT id FROM record WHERE rkey = ?", (post["uri"].rpartition("/")[2],))
            if self.random.random() < 0.5:
                private.mute_thread(tx, viewer, thread, 0)
            else:
                private.unmute_thread(tx, viewer, thread)
            private.subscribe(tx, viewer, subject, "key", post=mute, reply=False)

        await place.database.write(change)

    async def _list(self, place: Village, who: str) -> dict[str, str]:
        if not self.lists or self.random.random() < 0.2:
            record = {"name": "some", "purpose": self.random.choice([MODERATING, MODERATING, CURATING])}
            self.lists.append(await place.write(who, LIST, record))
        return self.random.choice(self.lists)

    async def do_list_item(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        ref = await self._list(place, who)
        owner = next(name for name in NAMES if did(name) == ref["uri"].split("/")[2])
        self.others.append(await place.write(owner, LIST_ITEM, {"list": ref["uri"], "subject": did(whom)}))

    async def do_list_edit(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        ref = await self._list(place, who)
        _, _, author, collection, rkey = ref["uri"].split("/")
        owner = next(name for name in NAMES if did(name) == author)
        if self.random.random() < 0.3:
            self.lists.remove(ref)
            await place.delete(ref)
            return
        record = {
            "name": f"list {self.random.random()}",
            "purpose": self.random.choice([MODERATING, MODERATING, CURATING]),
        }
        await place.write(owner, collection, record, rkey=rkey, operation="update")

    async def do_list_block(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        ref = await self._list(place, who)
        self.others.append(await place.write(who, LIST_BLOCK, {"subject": ref["uri"]}))
        await self.do_undo(place, who, whom, post)

    async def do_list_mute(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        ref = await self._list(place, who)
        mute = self.random.random() < 0.6

        def change(tx: Transaction) -> None:
            viewer, record = actors.ensure(tx, did(who)), records.mention(tx, ref["uri"])
            assert record is not None
            if mute:
                private.mute_list(tx, viewer, record, 0)
            else:
                private.unmute_list(tx, viewer, record)

        await place.database.write(change)

    async def do_quote_list(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        await self._post(
            who, embed={"$type": "app.bsky.embed.record", "record": await self._list(place, who)}
        )

    async def do_gate(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        _, _, author, _, rkey = post["uri"].split("/")
        owner = next(name for name in NAMES if did(name) == author)
        rules: list[dict[str, str]] = [{"$type": f"{THREAD_GATE}#{self.random.choice(RULES)}"}]
        if self.random.random() < 0.4:
            rules.append({"$type": f"{THREAD_GATE}#listRule", "list": (await self._list(place, who))["uri"]})
        record: dict[str, object] = {"post": post["uri"], "allow": rules}
        self.others.append(await place.write(owner, THREAD_GATE, record, rkey=rkey, operation="update"))
        if self.random.random() < 0.5:
            record = {"post": post["uri"], "embeddingRules": [{"$type": f"{POST_GATE}#disableRule"}]}
            self.others.append(await place.write(owner, POST_GATE, record, rkey=rkey, operation="update"))

    async def do_bookmark(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        rkey = post["uri"].rpartition("/")[2]
        keep = self.random.random() < 0.6

        def change(tx: Transaction) -> None:
            viewer = actors.ensure(tx, did(who))
            record = tx.value("SELECT id FROM record WHERE rkey = ?", (rkey,))
            if keep:
                private.bookmark(tx, viewer, record, post["cid"], 0)
            else:
                private.remove_bookmark(tx, viewer, record)

        await place.database.write(change)

    async def do_take_down(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        rkey = post["uri"].rpartition("/")[2]
        reference = self.random.choice(["ticket", None, None])

        def change(tx: Transaction) -> None:
            takedowns.mark_record(tx, tx.value("SELECT id FROM record WHERE rkey = ?", (rkey,)), reference)
            takedowns.mark_actor(tx, actors.ensure(tx, did("eve")), reference)

        await place.database.write(change)

    async def do_rename(self, place: Village, who: str, whom: str, post: dict[str, str]) -> None:
        handle = f"{who}{self.random.randrange(100)}.test"
        await place.mark("UPDATE actor SET handle = ? WHERE did = ?", handle, did(who))


@pytest.mark.parametrize("seed", range(4))
async def test_after_each_commit_a_used_view_answers_as_one_that_never_answered_before(
    tmp_path: Path, seed: int
) -> None:
    async with village(tmp_path, verifiers=tuple(map(did, VERIFIERS))) as place:
        await place.join(*NAMES)
        await place.follow("ann", "bob", "cid", "dot")
        life, done = Life(place, seed), []
        for _ in range(150):
            done.append(await life.step())
            for who in ("ann", "bob"):
                kept = await seen(place.views, who, life.posts)
                fresh = await seen(Views(place.database, place.settings, place.clock), who, life.posts)
                assert kept == fresh, done[-5:]


async def test_a_file_that_somebody_else_changed_is_read_anew(tmp_path: Path) -> None:
    async with village(tmp_path, verifiers=tuple(map(did, VERIFIERS))) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        ref = await place.post("bob")
        assert uris(await place.home("ann")) == [ref["uri"]]
        other = await Database.open(tmp_path / "appliance.db", readers=1)
        try:
            await other.write(
                lambda tx: tx.run("UPDATE actor SET handle = 'new.test' WHERE did = ?", (did("bob"),))
            )
        finally:
            await other.close()
        page = await place.home("ann")
        assert page["feed"][0]["post"]["author"]["handle"] == "new.test"


async def test_more_changes_than_are_told_apart_are_told_as_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("appliance.store.changes.IDS_MAX", 0)
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        ref = await place.post("bob")
        for likes in range(3):
            page = await place.home("ann")
            assert page["feed"][0]["post"]["likeCount"] == likes
            await place.like(NAMES[likes], ref)


async def test_what_an_old_snapshot_showed_while_a_commit_came_is_not_kept_past_it(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        ref = await place.post("bob")
        rkey = ref["uri"].rpartition("/")[2]
        shared = Shared(place.settings, place.clock)
        begun, committed = threading.Event(), threading.Event()
        begun_at: list[object] = []

        def likes(reader: Reader, *, slowly: bool) -> int | None:
            record = reader.value("SELECT id FROM record WHERE rkey = ?", (rkey,))
            if slowly:
                begun_at.append(reader.snapshot()[0])
                begun.set()
                assert committed.wait(10)
            rows = shared.rows(reader)
            if record not in rows.records:
                rows.records[record] = post_reads.records(reader, [record])[0]
            if not slowly:
                begun_at.append(reader.snapshot()[0])
            return rows.records[record].likes

        old = asyncio.create_task(place.database.read(lambda reader: likes(reader, slowly=True)))
        await asyncio.to_thread(begun.wait, 10)
        await place.like("ann", ref)
        # The other reader, on the newer snapshot.
        assert await place.database.read(lambda reader: likes(reader, slowly=False)) == 1
        committed.set()
        assert await old is None
        # The first one again: it was put back last.
        assert await place.database.read(lambda reader: likes(reader, slowly=False)) == 1
        assert begun_at[0] == begun_at[2] != begun_at[1]


async def test_what_was_undone_is_not_seen_and_what_follows_is(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        await place.post("bob")

        def name(tx: Transaction, handle: str) -> None:
            tx.run("UPDATE actor SET handle = ? WHERE did = ?", (handle, did("bob")))

        def fail(tx: Transaction) -> None:
            name(tx, "undone.test")
            raise BadInput("no")

        def partly(tx: Transaction) -> None:
            name(tx, "kept.test")
            try:
                with tx.savepoint():
                    fail(tx)
            except BadInput:
                pass

        async def shown() -> str:
            page = await place.home("ann")
            handle: str = page["feed"][0]["post"]["author"]["handle"]
            return handle

        assert await shown() == "bob.test"
        with pytest.raises(BadInput):
            await place.database.write(fail)
        assert await shown() == "bob.test"
        together = (place.database.write(partly), place.database.write(fail))
        assert isinstance((await asyncio.gather(*together, return_exceptions=True))[1], BadInput)
        assert await shown() == "kept.test"
        await place.database.write(lambda tx: name(tx, "last.test"))
        assert await shown() == "last.test"
