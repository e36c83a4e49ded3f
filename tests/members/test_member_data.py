"""What is kept about a member is told whole, without secrets, and erased whole."""

import json
import re
from pathlib import Path

import pytest

from appliance.errors import NotFound
from appliance.members import admission, commands
from appliance.store import (
    actors,
    drafts,
    feed_keys,
    member_data,
    members,
    private,
    reading,
    records,
    reports,
    written,
)
from appliance.store.database import Reader, Transaction
from appliance.store.migrations import schema_text
from tests.timeline.village import did, village

PRIVATE = re.compile(r"-- owner: [^\n]*· private[^\n]*\n(?:--[^\n]*\n)*CREATE TABLE (\w+)")


def test_each_private_table_is_told_or_the_houses() -> None:
    tables = set(PRIVATE.findall(schema_text()))

    assert len(tables) > 8
    assert tables == member_data.OF_MEMBERS.keys() | member_data.OF_THE_HOUSE


async def test_a_member_takes_everything_along_and_leaves_nothing(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        post = await place.post("bob")

        def fill(tx: Transaction) -> None:
            for name in ("ann", "bob"):
                who, other = actors.ensure(tx, did(name)), actors.ensure(tx, did("zed"))
                kept = records.mention(tx, post["uri"])
                a_list = records.mention(tx, f"at://{did('bob')}/app.bsky.graph.list/3k")
                assert kept is not None
                assert a_list is not None
                members.add(tx, who, "operator", 0)
                private.mute(tx, who, other, private.ONLY_REPOSTS, 1)
                private.mute_list(tx, who, a_list, 1)
                private.mute_thread(tx, who, kept, 1)
                private.subscribe(tx, who, other, "3k", post=True, reply=False)
                private.bookmark(tx, who, kept, post["cid"], 1)
                reading.choose(tx, who, "", hide=reading.REPOSTS, oldest_first=True)
                reading.filter_account(tx, who, other, reading.QUOTES)
                tx.run("INSERT INTO late_row (viewer, item) VALUES (?, ?)", (who, kept))
                feed_keys.add(tx, who, f"SECRET{name}", "", 1)
                drafts.create(tx, who, "3kdraft", b'{"posts":[{"text":"un\\u00e9"}]}', 1, 9)
                reports.add(tx, who, "spam", "no", did("zed"), "", 1)
                written.begin(tx, who, "post SECRET", [("create", "app.bsky.feed.post", "3k")], 1)
                tx.run(
                    "INSERT INTO notification_state (viewer, seen_ms, preferences)"
                    " VALUES (?, 7, '{\"like\":1}')",
                    (who,),
                )
                tx.run(
                    "INSERT INTO labeler_subscription (viewer, did, seen_us) VALUES (?, 'did:x', 1)", (who,)
                )
                tx.run(
                    "INSERT INTO push_subscription (viewer, endpoint, receiver, secret, created_us)"
                    " VALUES (?, ?, CAST('SECRET' AS BLOB), CAST('SECRET' AS BLOB), 1)",
                    (who, f"https://push.test/SECRET{name}"),
                )
                tx.run(
                    "INSERT INTO pds_session (actor, pds, sealed, created_us, refreshed_us)"
                    " VALUES (?, 'https://pds.test', CAST('SECRET' AS BLOB), 1, 1)",
                    (who,),
                )
                tx.run(
                    "INSERT INTO session (kind, token, rotated_us, actor, pds_session, created_us, seen_us,"
                    " expires_us) SELECT 'web', ?, 1, ?, max(id), 1, 1, 9 FROM pds_session",
                    (f"SECRET{name}".encode(), who),
                )

        await place.database.write(fill)
        told = await commands.export(place.database, place.clock, "ann.test")

        assert told["did"] == did("ann")
        assert all(len(rows) == 1 for rows in told["tables"].values())
        assert told["tables"]["mute"] == [{"did": did("zed"), "only": 1, "created_us": 1}]
        assert told["tables"]["bookmark"][0]["uri"] == post["uri"]
        assert told["tables"]["draft"][0]["draft"] == {"posts": [{"text": "uné"}]}
        assert told["tables"]["notification_state"][0]["preferences"] == {"like": 1}
        assert "SECRET" not in json.dumps(told)

        def leave(tx: Transaction) -> bool:
            return admission.leave(tx, actors.ensure(tx, did("ann")), 5)

        assert await place.database.write(leave)

        def left(reader: Reader, name: str) -> set[int]:
            actor = actors.find_id(reader, did(name))
            assert actor is not None
            return {len(rows) for rows in member_data.told(reader, actor).values()}

        assert await place.database.read(lambda reader: left(reader, "ann")) == {0}
        assert await place.database.read(lambda reader: left(reader, "bob")) == {1}
        counted = await place.database.read(lambda reader: reader.value("SELECT bookmarks FROM post_count"))
        assert counted == 1
        with pytest.raises(NotFound):
            await commands.export(place.database, place.clock, did("ann"))
