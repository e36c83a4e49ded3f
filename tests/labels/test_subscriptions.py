"""Who is listened to: the operator's labelers, and those that members' clients ask for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import orjson

from appliance.labels.labelers import Labelers
from appliance.labels.subscriptions import KEPT_S, PER_MEMBER_MAX, Subscriptions
from appliance.protocol import labels as labels_protocol
from appliance.protocol.keys import PrivateKey
from appliance.store import actors, labels, member_data
from appliance.timeline import labelers
from appliance.timeline.asker import Asker
from appliance.xrpc import plain
from appliance.xrpc.methods import Call
from tests.labels.desk import Desk, desk, until
from tests.timeline.village import did, village

ONE, TWO, THREE = (f"did:plc:{letter * 24}" for letter in "xyz")


async def test_what_members_ask_for_is_kept_for_a_month_and_shown(tmp_path: Path) -> None:
    wanted: list[tuple[int, int]] = []
    async with village(tmp_path) as place:
        await place.join("ann", "bob")
        heard = Subscriptions(
            place.database, place.clock, lambda records, people: wanted.append((len(records), len(people)))
        )
        heard.heard(did("ann"), [ONE, TWO])
        heard.preferences(
            did("bob"),
            [
                {"$type": "app.bsky.actor.defs#adultContentPref", "enabled": False},
                {"$type": "app.bsky.actor.defs#labelersPref", "labelers": [{"did": TWO}, {"did": 5}, "x"]},
            ],
        )
        await heard.write()
        assert wanted == [(2, 2)]
        assert await place.database.read(lambda r: labels.subscribed(r, 9)) == [TWO, ONE]

        settings = msgspec.structs.replace(place.settings, labelers=(THREE,), labeler_streams_max=2)
        listening = Labelers(place.database, None, None, heard, settings, place.clock)  # type: ignore[arg-type]
        assert await listening.wanted() == [THREE, TWO]

        ann = await place.database.read(lambda r: actors.find_id(r, did("ann")))
        assert ann is not None
        told = await place.database.read(lambda r: member_data.told(r, ann))
        assert [row["labeler"] for row in told["labeler_subscription"]] == [ONE, TWO]

        # The same again within a day is not written down again; who asks for too many keeps the latest.
        heard.heard(did("ann"), [ONE])
        await heard.write()
        assert len(wanted) == 1
        await place.clock.advance(KEPT_S + 1)
        heard.heard(did("ann"), [f"did:plc:{number:024}" for number in range(PER_MEMBER_MAX + 5)])
        await heard.write()
        assert await place.database.read(lambda r: len(labels.subscribed_by(r, ann))) == PER_MEMBER_MAX
        assert TWO not in await place.database.read(lambda r: labels.subscribed(r, 99))


async def test_a_signed_label_is_in_views_until_it_ends_and_is_passed_on_with_its_signature(
    tmp_path: Path,
) -> None:
    key = PrivateKey.generate()
    async with village(tmp_path) as place:
        await place.join("ann", "lab")
        post = await place.post("ann")
        whole = labels_protocol.sign(
            {
                "src": did("lab"),
                "uri": post["uri"],
                "val": "spam",
                "cts": "2025-12-31T10:00:00Z",
                "exp": "2026-01-01T01:30:00+01:00",
            },
            key,
        )
        label = labels_protocol.parse(whole)
        assert labels_protocol.holds(label, key.did_key)
        await place.database.write(lambda tx: labels.put(tx, [label], later=True))
        by_lab = Asker(labelers=labelers.parse(did("lab"), ()))

        async def seen(asker: Asker) -> list[str]:
            (view,) = (await place.views.posts(asker, [post["uri"]])).parsed()["posts"]
            return [each["val"] for each in view["labels"]]

        assert await seen(by_lab) == ["spam"]
        assert await seen(Asker()) == []

        (query,) = [m for m in plain.methods(place.views.answering) if m.nsid.endswith("queryLabels")]
        call = Call(Asker(), {"uriPatterns": [post["uri"]], "sources": [did("lab")], "limit": 5})
        (passed_on,) = (await query.run(call)).parsed()["labels"]
        assert labels_protocol.holds(labels_protocol.parse(passed_on | {"sig": whole["sig"]}), key.did_key)
        assert set(passed_on) == set(whole)

        await place.clock.advance(1800)
        assert await seen(by_lab) == []
        assert orjson.loads((await query.run(call)).body) == {"labels": []}


async def test_a_labeler_that_is_asked_for_is_heard_and_one_that_is_not_any_more_is_left(
    tmp_path: Path,
) -> None:
    async with desk(tmp_path) as here:
        heard = Subscriptions(here.database, here.clock, lambda _records, _people: None)
        settings = msgspec.structs.replace(here.settings, labelers=())
        listening = Labelers(here.database, here.outbound, here.identities, heard, settings, here.clock)
        task = asyncio.create_task(listening.run())
        try:
            heard.heard(did("ann"), [here.labeler.did])
            await until(_stands(listening, here))
            here.labeler.say(did("ann"), "kind")
            await here.until_rows((did("ann"), "kind", 0))
            await here.database.write(lambda tx: labels.forget_subscriptions(tx, 2**62))
            heard.changed.set()

            async def left() -> bool:
                return not listening.streams

            await until(left)
        finally:
            task.cancel()
            await asyncio.wait([task])


def _stands(listening: Labelers, here: Desk):  # type: ignore[no-untyped-def]
    async def stands() -> bool:
        stream = listening.streams.get(here.labeler.did)
        return stream is not None and stream.stands.is_set()

    return stands
