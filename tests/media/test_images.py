"""Pictures are what their CID says, or they are not served."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from appliance.clock import ManualClock
from appliance.errors import NotFound, Unavailable
from appliance.media.images import Images
from appliance.protocol import cid

PNG = b"\x89PNG\r\n\x1a\n" + bytes(200)
DID = "did:plc:44ybard66vv44zksje25o7dz"


def name_of(data: bytes) -> str:
    return cid.to_text(cid.blob_cid_of(data))


MADE = b"made of "


async def render(data: bytes, preset: str, form: str) -> bytes:
    """What the child process does, without one."""
    return MADE + f"{preset} {form} ".encode() + data[-1:]


async def everything(did: str, cid_text: str) -> bool:
    return True


def images_in(folder: Path, fetch: Any, **more: Any) -> Images:
    """A cache over that owner; everything counts as shown somewhere."""
    chosen: dict[str, Any] = {"render": render, "is_shown": everything, "cache_bytes": 10_000_000} | more
    return Images(folder, fetch, **chosen)


class Owner:
    """The owner's server."""

    def __init__(self, data: bytes = PNG) -> None:
        self.data = data
        self.asked = 0
        self.gate = asyncio.Event()
        self.gate.set()

    async def fetch(self, did: str, cid_text: str) -> bytes:
        self.asked += 1
        await self.gate.wait()
        return self.data


async def test_a_picture_is_fetched_once_and_then_read_from_disk(tmp_path: Path) -> None:
    owner = Owner()
    images = images_in(tmp_path, owner.fetch, cache_bytes=10_000_000)

    first = await images.get("avatar", DID, name_of(PNG))
    second = await images_in(tmp_path, owner.fetch, cache_bytes=10_000_000).get("banner", DID, name_of(PNG))

    assert first == (MADE + b"avatar jpeg \0", "image/jpeg")
    assert second == (MADE + b"banner jpeg \0", "image/jpeg")
    assert owner.asked == 1


async def test_many_who_ask_at_once_cause_one_fetch_and_one_who_leaves_spoils_nothing(tmp_path: Path) -> None:
    owner = Owner()
    owner.gate.clear()
    images = images_in(tmp_path, owner.fetch, cache_bytes=10_000_000)
    waiting = [asyncio.create_task(images.get("avatar", DID, name_of(PNG))) for _ in range(10)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()

    owner.gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)

    assert isinstance(answers[0], asyncio.CancelledError)
    assert answers[1:] == [(MADE + b"avatar jpeg \0", "image/jpeg")] * 9
    assert owner.asked == 1


async def test_other_bytes_than_the_cid_names_are_refused_and_not_kept(tmp_path: Path) -> None:
    images = images_in(tmp_path, Owner(PNG + b"x").fetch, cache_bytes=10_000_000)

    with pytest.raises(NotFound):
        await images.get("avatar", DID, name_of(PNG))

    assert not list(tmp_path.glob("*/*"))


async def test_a_blob_that_is_no_picture_is_not_served(tmp_path: Path) -> None:
    script = b"<script>alert(1)</script>"
    images = images_in(tmp_path, Owner(script).fetch, cache_bytes=10_000_000)

    with pytest.raises(NotFound):
        await images.get("avatar", DID, name_of(script))


@pytest.mark.parametrize(
    ("preset", "did", "name"),
    [
        ("huge", DID, name_of(PNG)),
        ("avatar", "did:plc:../..", name_of(PNG)),
        ("avatar", DID, "../../etc/passwd"),
        ("avatar", DID, cid.to_text(cid.cid_of(PNG))),
    ],
)
async def test_what_cannot_be_a_picture_is_refused_before_anybody_is_asked(
    tmp_path: Path, preset: str, did: str, name: str
) -> None:
    owner = Owner()

    with pytest.raises(NotFound):
        await images_in(tmp_path, owner.fetch, cache_bytes=10_000_000).get(preset, did, name)

    assert owner.asked == 0


async def test_the_cache_drops_what_was_used_longest_ago(tmp_path: Path) -> None:
    owner = Owner()
    images = images_in(tmp_path, owner.fetch, cache_bytes=1000)

    for n in range(20):
        owner.data = PNG + bytes([n])
        await images.get("avatar", DID, name_of(owner.data))

    kept = list(tmp_path.glob("*/*"))
    assert 1 <= len(kept) <= 10
    assert tmp_path.joinpath(name_of(owner.data)[-2:], f"{name_of(owner.data)}.avatar.jpeg") in kept


async def test_what_an_earlier_process_left_counts(tmp_path: Path) -> None:
    old = tmp_path / "xx" / "old"
    old.parent.mkdir()
    old.write_bytes(bytes(5000))
    os.utime(old, (1, 1))

    await images_in(tmp_path, Owner().fetch, cache_bytes=1000).get("avatar", DID, name_of(PNG))

    assert not old.exists()


async def test_a_picture_that_no_record_shows_is_not_asked_for_and_not_taken_from_the_disk(
    tmp_path: Path,
) -> None:
    owner = Owner()
    shown = False

    async def is_shown(did: str, cid_text: str) -> bool:
        return shown

    images = images_in(tmp_path, owner.fetch, is_shown=is_shown)
    with pytest.raises(NotFound):
        await images.get("avatar", DID, name_of(PNG))
    assert owner.asked == 0
    shown = True
    await images.get("avatar", DID, name_of(PNG))
    shown = False
    with pytest.raises(NotFound):
        await images.get("avatar", DID, name_of(PNG))


async def test_many_who_ask_for_one_size_have_it_made_once(tmp_path: Path) -> None:
    made: list[tuple[str, str]] = []
    gate = asyncio.Event()

    async def slowly(data: bytes, preset: str, form: str) -> bytes:
        made.append((preset, form))
        await gate.wait()
        return b"picture"

    images = images_in(tmp_path, Owner().fetch, render=slowly)
    sizes = [("avatar", "webp")] * 5 + [("avatar", "jpeg")] * 5 + [("banner", "webp")] * 5
    waiting = [asyncio.create_task(images.get(p, DID, name_of(PNG), f)) for p, f in sizes]
    while len(made) < 3:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*waiting)

    assert sorted(made) == sorted(set(sizes))


async def test_what_could_not_be_made_is_tried_again_only_after_a_while(tmp_path: Path) -> None:
    clock = ManualClock()
    tried = 0

    async def refuse(data: bytes, preset: str, form: str) -> bytes:
        nonlocal tried
        tried += 1
        raise NotFound("that picture can't be shown", name="BlobNotFound")

    images = images_in(tmp_path, Owner().fetch, render=refuse, clock=clock)
    for preset in ("avatar", "banner"):
        with pytest.raises(NotFound):
            await images.get(preset, DID, name_of(PNG))
    assert tried == 1
    await clock.advance(301)
    with pytest.raises(NotFound):
        await images.get("avatar", DID, name_of(PNG))
    assert tried == 2


async def test_an_owner_out_of_reach_is_said_to_be_so(tmp_path: Path) -> None:
    async def fetch(did: str, cid_text: str) -> bytes:
        raise Unavailable("no answer")

    with pytest.raises(Unavailable):
        await images_in(tmp_path, fetch, cache_bytes=1000).get("avatar", DID, name_of(PNG))


async def test_what_the_owner_lacks_is_asked_for_again_only_after_a_while(tmp_path: Path) -> None:
    clock = ManualClock()
    asked = 0

    async def fetch(did: str, cid: str) -> bytes:
        nonlocal asked
        asked += 1
        raise NotFound("gone", name="BlobNotFound")

    images = images_in(tmp_path, fetch, cache_bytes=1000, clock=clock)
    for _ in range(3):
        with pytest.raises(NotFound):
            await images.get("avatar", DID, name_of(PNG))
    assert asked == 1

    await clock.advance(301)
    with pytest.raises(NotFound):
        await images.get("avatar", DID, name_of(PNG))

    assert asked == 2


async def test_an_owner_out_of_reach_is_asked_again_at_once(tmp_path: Path) -> None:
    answers: list[bytes | Exception] = [Unavailable("no answer"), PNG]

    async def fetch(did: str, cid: str) -> bytes:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    images = images_in(tmp_path, fetch, cache_bytes=1000)
    with pytest.raises(Unavailable):
        await images.get("avatar", DID, name_of(PNG))

    assert (await images.get("avatar", DID, name_of(PNG))).mime == "image/jpeg"


async def test_what_is_too_large_for_a_picture_is_neither_kept_nor_served(tmp_path: Path) -> None:
    large = PNG + bytes(10_000_001)

    with pytest.raises(NotFound):
        await images_in(tmp_path, Owner(large).fetch, cache_bytes=10**9).get("avatar", DID, name_of(large))

    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize(
    "data",
    [
        b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        b"<!doctype html><script>alert(1)</script>",
        b"%PDF-1.7",
        b"II*\x00",
        b"SIMPLE  =",
        b"RIFF\x00\x00\x00\x00WAVE",
        b"",
    ],
)
async def test_other_kinds_of_files_are_not_passed_through(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotFound):
        await images_in(tmp_path, Owner(data).fetch, cache_bytes=10**6).get("avatar", DID, name_of(data))

    assert not list(tmp_path.glob("*/*"))


@pytest.mark.parametrize(
    "did",
    [
        "did:plc:short",
        "did:key:zQ3s",
        "did:web:a/../b",
        "did:web:user@host",
        "did:plc:44YBARD66VV44ZKSJE25O7DZ",
    ],
)
async def test_owners_are_named_in_the_ways_of_this_network(tmp_path: Path, did: str) -> None:
    owner = Owner()

    with pytest.raises(NotFound):
        await images_in(tmp_path, owner.fetch, cache_bytes=10**6).get("avatar", did, name_of(PNG))

    assert owner.asked == 0


async def test_no_more_than_a_few_pictures_are_fetched_at_a_time(tmp_path: Path) -> None:
    running = most = 0
    gate = asyncio.Event()

    async def fetch(did: str, cid: str) -> bytes:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1
        return pictures[cid]

    pictures = {name_of(PNG + bytes([n])): PNG + bytes([n]) for n in range(40)}
    images = images_in(tmp_path, fetch, cache_bytes=10**6)
    waiting = [asyncio.create_task(images.get("avatar", DID, name)) for name in pictures]
    while most < 16:
        await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*waiting)

    assert most == 16
