"""A signed repository: what is cut, swapped or forged is never taken for the whole."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from appliance.backfill.export import CHUNK, IN_MEMORY_MAX, Export, NotSigned
from appliance.errors import BadInput
from appliance.protocol import car
from appliance.protocol import cid as cids
from appliance.protocol.keys import PrivateKey
from tests.backfill.rig import rig, shown
from tests.backfill.scripted_network import Account, Answer, Network, Request
from tests.backfill.test_backfill import POST, assert_complete, fill

WANTED = ("app.bsky.feed.post", "app.bsky.feed.repost", "app.bsky.actor.profile")


def read(data: bytes, account: Account, folder: Path, wanted: tuple[str, ...] = WANTED) -> dict[str, str]:
    """What the export proves, path -> cid."""
    export = Export(folder)
    try:
        # In odd pieces, as a socket gives them.
        for at in range(0, len(data), 1000):
            export.add(data[at : at + 1000])
        export.end()
        commit = export.commit(account.did, account.key.did_key)
        entries = export.entries(commit, wanted)
        return {f"{entry.collection}/{entry.rkey}": cid for entry, cid, _ in export.records(entries)}
    finally:
        export.close()


def borders(data: bytes) -> list[int]:
    """The offsets at which a block ends, the last one left out."""
    _, at = car._varint(data, 0)
    length, _ = car._varint(data, 0)
    at += length
    found = []
    while at < len(data):
        found.append(at)
        length, start = car._varint(data, at)
        at = start + length
    return found


async def test_a_whole_export_gives_every_record(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 300, 40)
    bob.create("app.bsky.feed.like", {"createdAt": "x"})

    assert read(bob.export(), bob, tmp_path) == shown(bob)


async def test_a_cut_at_any_block_border_is_noticed_or_harmless(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 60, 10)
    for _ in range(5):
        bob.create("app.bsky.feed.like", {"createdAt": "x"})
    data = bob.export()
    cuts = borders(data)
    assert len(cuts) > 76
    noticed = 0
    for cut in cuts:
        try:
            got = read(data[:cut], bob, tmp_path)
        except BadInput:
            noticed += 1
        else:
            # What is missing was not asked for.
            assert got == shown(bob)
    assert noticed >= len(cuts) - 5


async def test_a_cut_anywhere_else_is_noticed(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    data = bob.export()
    whole = {*borders(data), len(data)}
    for cut in range(len(data)):
        if cut not in whole:
            with pytest.raises(BadInput):
                read(data[:cut], bob, tmp_path)


async def test_any_changed_byte_is_noticed(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 3)
    data = bytearray(bob.export())
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 1
        with pytest.raises(BadInput):
            read(bytes(changed), bob, tmp_path)


async def test_another_accounts_repository_is_refused(network: Network, tmp_path: Path) -> None:
    bob, eve = network.add_account("bob"), network.add_account("eve")
    with pytest.raises(BadInput, match="another account"):
        read(eve.export(), bob, tmp_path)


async def test_a_repository_signed_by_another_key_is_refused(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    data = bob.export()
    bob.key = PrivateKey.generate("p256")
    with pytest.raises(NotSigned):
        read(data, bob, tmp_path)


async def test_a_large_export_goes_to_the_disk_and_leaves_nothing(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    for number in range(900):
        bob.post(f"{number} " + "long " * 2000)
    folder = tmp_path / "spool"

    assert read(bob.export(), bob, folder) == shown(bob)
    assert list(folder.iterdir()) == []


async def test_of_a_large_repository_only_a_little_is_ever_in_memory_68(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    for number in range(1000):
        bob.post(f"{number} " + "long " * 8000)
    data = bob.export()
    export = Export(tmp_path)
    tracemalloc.start()
    try:
        for at in range(0, len(data), CHUNK):
            export.add(data[at : at + CHUNK])
        export.end()
        entries = export.entries(export.commit(bob.did, bob.key.did_key), WANTED)
        _, most = tracemalloc.get_traced_memory()
        found = {f"{entry.collection}/{entry.rkey}": cid for entry, cid, _ in export.records(entries[:50])}
    finally:
        tracemalloc.stop()
        export.close()

    assert found.items() <= shown(bob).items()
    assert len(entries) == len(shown(bob))
    assert len(data) > 4 * IN_MEMORY_MAX
    assert most < 2.5 * IN_MEMORY_MAX, most


async def test_a_record_that_json_cannot_hold_counts_and_is_not_shown(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    bob.post("fine")
    block = b"\xa1ax\xfb\x3f\xf8\x00\x00\x00\x00\x00\x00"  # {"x": 1.5}: there are no floats in records
    odd = cids.to_text(cids.cid_of(block))
    bob.records[f"{POST}/3jzfcijpj2z2a"] = (odd, b"", block)

    assert read(bob.export(), bob, tmp_path)[f"{POST}/3jzfcijpj2z2a"] == odd


@pytest.mark.parametrize("fault", ["cut", "other", "old"])
async def test_a_bad_export_is_fetched_again_and_then_the_pages_are_read(
    network: Network, tmp_path: Path, fault: str
) -> None:
    bob, eve = network.add_account("bob"), network.add_account("eve")
    bob.post("first")
    old = bob.export()
    fill(bob, 2600)
    data = {"cut": bob.export(), "other": eve.export(), "old": old}[fault]
    if fault == "cut":
        data = data[: borders(data)[-3]]

    def swap(request: Request) -> Answer | None:
        return Answer(200, data) if request.nsid.endswith("getRepo") else None

    bob.host.script = swap
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        repo = await here.until_state(bob, "WAIT")
        assert repo.reason.startswith("data:")
        await here.pass_s(3600, 30)
        await assert_complete(here, bob)
        assert len(bob.host.asked("getRepo")) == 3


async def test_a_bad_export_may_be_good_the_next_time(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 2600)
    tries = 0

    def cut(request: Request) -> Answer | None:
        nonlocal tries
        if not request.nsid.endswith("getRepo"):
            return None
        tries += 1
        data = bob.export()
        return Answer(200, data[: len(data) // 2]) if tries == 1 else None

    bob.host.script = cut
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await here.until_state(bob, "WAIT")
        await here.pass_s(120)
        await assert_complete(here, bob, "signed")


async def test_a_rotated_key_is_looked_up_once_before_judging(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 2600)

    def rotate(request: Request) -> None:
        if request.nsid.endswith("getRepo") and bob.key.curve == "k256":
            bob.key = PrivateKey.generate("p256")

    bob.host.script = rotate
    async with rig(network, tmp_path) as here:
        await here.track(bob)
        await assert_complete(here, bob, "signed")


async def test_an_export_larger_than_allowed_is_left_and_the_pages_are_read(
    network: Network, tmp_path: Path
) -> None:
    bob = network.add_account("bob")
    fill(bob, 2600)
    for number in range(30):
        bob.create("app.bsky.feed.like", {"createdAt": f"{number}" + "x" * 50_000})
    async with rig(network, tmp_path, car_max_mb=1) as here:
        await here.track(bob)
        await here.pass_s(120)
        await assert_complete(here, bob)


async def test_writes_during_an_export_land_by_their_rev(network: Network, tmp_path: Path) -> None:
    bob = network.add_account("bob")
    fill(bob, 2300)
    gone = sorted(path for path in bob.paths if path.startswith(POST))[7]
    async with rig(network, tmp_path) as here:

        async def write(request: Request) -> Answer | None:
            if not request.nsid.endswith("getRepo"):
                return None
            stale = bob.host.honest(request)
            events = bob.commit([("delete", gone, None)])
            bob.post("after the export")
            await here.deliver([*events, bob.events[-1]])
            return stale

        bob.host.script = write
        await here.track(bob)
        await here.until_state(bob, "LIVE")

        assert await here.held(bob) == shown(bob)
        assert await here.all("SELECT cert_method, cert_digest FROM repo") == [("signed", None)]
