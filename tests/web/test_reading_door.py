"""web.reading over a real database: pages that stay, and refusals by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from appliance.errors import ApplianceError, BadInput, NotFound
from appliance.web.reading import Pages
from tests.timeline.village import Village, did, village


def pages_of(place: Village) -> Pages:
    return Pages(place.views)


def uris(rows: list[dict[str, dict[str, str]]]) -> list[str]:
    return [row["post"]["uri"] for row in rows]


async def test_the_newest_page_has_an_address_under_which_it_stays(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("alice", "bob")
        await place.follow("alice", "bob")
        at_us = place.clock.now_us()
        # Some at the very same moment: the address has to fall between two of them.
        for n in range(9):
            await place.post("bob", f"post {n}", at_us=at_us + n // 3 * 1000)
        reading = pages_of(place)

        newest = await reading.timeline(did("alice"), limit=4, before="", after="")
        assert newest.newer == ""
        for n in range(3):
            await place.post("bob", f"later {n}")
        again = await reading.timeline(did("alice"), limit=4, before=newest.here, after="")
        above = await reading.timeline(did("alice"), limit=10, before="", after=again.newer)

        assert uris(again.feed) == uris(newest.feed)
        assert len(above.feed) == 3
        assert above.newer == ""
        whole = await reading.timeline(did("alice"), limit=50, before="", after="")
        below = await reading.timeline(did("alice"), limit=50, before=again.older, after="")
        assert uris(above.feed) + uris(again.feed) + uris(below.feed) == uris(whole.feed)
        assert below.older == ""


async def test_nobody_and_nothing_are_said_by_the_protocol_s_names(tmp_path: Path) -> None:
    async with village(tmp_path) as place:
        await place.join("alice", "gone", "left")
        await place.status("gone", "takendown")
        await place.status("left", "deactivated")
        reading = pages_of(place)

        async def name(actor: str) -> str:
            with pytest.raises(ApplianceError) as caught:
                await reading.profile(None, actor)
            return caught.value.name

        assert await name("nobody.test") == NotFound.name
        assert await name(did("nobody")) == NotFound.name
        assert await name(did("gone")) == "AccountTakedown"
        assert await name(did("left")) == "AccountDeactivated"
        with pytest.raises(BadInput) as caught:
            await reading.thread(None, f"at://{did('alice')}/app.bsky.feed.post/3none")
        assert caught.value.name == "NotFound"
        with pytest.raises(BadInput):
            await reading.timeline(did("alice"), limit=5, before="nonsense", after="")
        assert (await reading.profile(did("alice"), "alice.test"))["did"] == did("alice")
