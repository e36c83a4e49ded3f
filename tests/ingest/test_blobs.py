"""Which blobs may be shown follows the living records that mention them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from appliance.store import blobs
from tests.timeline.village import POST, PROFILE, Village, did, village

ONE = "bafkreieldh4cnxcbr4xjyt6has6wuf3e2aw64usididuesabuvr6jckuku"
TWO = "bafkreic4abe4tfoboiilzyknv7gy77v2mbeyj777gqotics6bnmxrc6bam"


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Village]:
    async with village(tmp_path) as made:
        await made.join("ann", "bob")
        yield made


def pictures(*names: str) -> Any:
    found = [
        {
            "alt": "",
            "image": {"$type": "blob", "ref": {"$link": name}, "mimeType": "image/png", "size": 1},
        }
        for name in names
    ]
    return {"$type": "app.bsky.embed.images", "images": found}


async def shown(place: Village, who: str = "ann") -> list[str]:
    return [
        name
        for name in (ONE, TWO)
        if await place.database.read(lambda r, name=name: blobs.is_shown(r, did(who), name))  # type: ignore[misc]
    ]


async def test_a_post_shows_its_pictures_for_its_author_alone_until_it_is_deleted(place: Village) -> None:
    post = await place.post("ann", embed=pictures(ONE, TWO))
    other = await place.post("ann", embed=pictures(TWO, TWO))
    assert await shown(place) == [ONE, TWO]
    assert await shown(place, "bob") == []
    await place.delete(post)
    assert await shown(place) == [TWO]
    await place.delete(other)
    assert await shown(place) == []
    assert await place.database.read(lambda r: r.value("SELECT count(*) FROM blob")) == 0


async def test_an_edit_takes_back_what_it_no_longer_mentions(place: Village) -> None:
    avatar = {"$type": "blob", "ref": {"$link": ONE}, "mimeType": "image/png", "size": 1}
    await place.write("ann", PROFILE, {"avatar": avatar}, rkey="self", operation="update")
    assert await shown(place) == [ONE]
    avatar["ref"] = {"$link": TWO}
    await place.write("ann", PROFILE, {"avatar": avatar}, rkey="self", operation="update")
    assert await shown(place) == [TWO]


async def test_what_was_taken_down_or_set_inactive_is_not_shown(place: Village) -> None:
    post = await place.post("ann", embed=pictures(ONE))
    rkey = post["uri"].rpartition("/")[2]
    await place.mark("UPDATE record SET takedown = 'x' WHERE rkey = ?", rkey)
    assert await shown(place) == []
    await place.mark("UPDATE record SET takedown = NULL WHERE rkey = ?", rkey)
    assert await shown(place) == [ONE]
    await place.status("ann", "deactivated")
    assert await shown(place) == []
    await place.status("ann", None)
    await place.mark("UPDATE actor SET takedown = 'x' WHERE did = ?", did("ann"))
    assert await shown(place) == []


async def test_text_that_looks_like_a_blob_and_records_that_are_not_valid_mention_nothing(
    place: Village,
) -> None:
    await place.post("ann", f'{{"$link":"{ONE}"}} {ONE}')
    await place.write("ann", POST, {"text": 5, "embed": pictures(ONE)})
    assert await shown(place) == []


async def test_the_spelling_of_old_records_counts(place: Village) -> None:
    old = {"cid": ONE, "mimeType": "image/jpeg"}
    await place.write("ann", PROFILE, {"avatar": old}, rkey="self", operation="update")
    row = await place.database.read(
        lambda r: r.value("SELECT state FROM record WHERE rkey = 'self' AND actor = 1")
    )
    assert await shown(place) == ([ONE] if row == 1 else [])
