"""Posts whose parent or quoted post is gone, and accounts that are blocked or muted for a while."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from appliance.store import actors
from tests.timeline.village import did, uris, village


async def test_a_reply_and_a_quote_of_a_deleted_post_stay_and_say_that_it_is_not_found(
    tmp_path: Path,
) -> None:
    """97."""
    async with village(tmp_path) as place:
        await place.join("ann", "bob", "cid")
        await place.follow("ann", "bob", "cid")
        doomed = await place.post("cid", "soon gone")
        reply = await place.reply("bob", doomed)
        quote = await place.post("bob", "look", embed={"$type": "app.bsky.embed.record", "record": doomed})
        assert len(uris(await place.home("ann"))) == 3

        await place.delete(doomed)

        rows = {row["post"]["uri"]: row for row in (await place.home("ann"))["feed"]}
        assert set(rows) == {reply["uri"], quote["uri"]}
        assert rows[reply["uri"]]["reply"]["parent"]["$type"] == "app.bsky.feed.defs#notFoundPost"
        embed = rows[quote["uri"]]["post"]["embed"]["record"]
        assert embed["$type"] == "app.bsky.embed.record#viewNotFound"


async def test_what_was_written_during_a_block_or_a_mute_is_there_when_it_ends(tmp_path: Path) -> None:
    """96. Both are judged at reading: no row is left out at writing."""
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        await place.follow("ann", "bob")
        before = await place.post("bob", "before")
        block = await place.block("ann", "bob")
        during_block = await place.post("bob", "during the block")
        assert uris(await place.home("ann")) == []
        await place.delete(block)
        assert uris(await place.home("ann")) == [during_block["uri"], before["uri"]]

        ids = [await place.database.read(partial(actors.find_id, did=did(who))) for who in ("ann", "bob")]
        await place.mark("INSERT INTO mute (viewer, subject, created_us) VALUES (?, ?, 1)", *ids)
        during_mute = await place.post("bob", "during the mute")
        assert uris(await place.home("ann")) == []
        await place.mark("DELETE FROM mute")

        assert uris(await place.home("ann")) == [during_mute["uri"], during_block["uri"], before["uri"]]
