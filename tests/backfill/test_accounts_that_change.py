"""Accounts that go and come back, move, are made anew, or name servers that nobody should ask."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.backfill.pruner import Pruner
from appliance.protocol.events import AccountEvent, IdentityEvent
from appliance.protocol.keys import PrivateKey
from appliance.store import actors
from appliance.store.database import Transaction
from tests.backfill.rig import Rig, rig, shown
from tests.backfill.scripted_network import Account, Answer, Network, Request, error
from tests.backfill.test_backfill import POST, assert_complete, doubt, fill

DAY_S = 86_400.0


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncIterator[Rig]:
    async with rig(network, tmp_path) as made:
        yield made


@contextlib.asynccontextmanager
async def identities_are_read(here: Rig) -> AsyncIterator[None]:
    """The task that reads due documents runs too."""
    task = asyncio.create_task(here.identities.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def status_of(here: Rig, account: Account) -> str | None:
    found: str | None = (await here.all("SELECT status FROM actor WHERE did = ?", account.did))[0][0]
    return found


def without_commits(account: Account, text: str) -> str:
    """A record that came by import: the rev stays, and no stream tells of it."""
    rev = account.rev
    uri = account.post(text)
    account.rev = rev
    return uri


async def test_what_was_written_and_deleted_while_an_account_was_off_is_right_after_its_return(
    network: Network, here: Rig
) -> None:
    """74."""
    bob = network.add_account("bob")
    fill(bob, 5)
    doomed = bob.post("deleted while off")
    await here.track(bob)
    await assert_complete(here, bob)

    bob.status = "deactivated"
    await here.deliver([AccountEvent(bob.did, False, "deactivated", here.clock.now_us(), 10)])
    assert await status_of(here, bob) == "deactivated"
    assert await here.held(bob) == shown(bob), "hidden, and kept"
    bob.post("written while off")
    bob.delete(doomed)
    await here.until_state(bob, "INACTIVE")

    bob.status = None
    await here.deliver([AccountEvent(bob.did, True, None, here.clock.now_us(), 11)])

    await assert_complete(here, bob)
    assert await here.state_of(doomed) == 2
    assert await status_of(here, bob) is None


async def test_a_takedown_that_only_the_relay_believes_in_ends_by_the_server_s_word(
    network: Network, here: Rig
) -> None:
    """35, 75. The relay is wrong and never takes it back."""
    bob = network.add_account("bob")
    fill(bob, 3)
    await here.track(bob)
    await assert_complete(here, bob)

    await here.deliver([AccountEvent(bob.did, False, "takendown", here.clock.now_us(), 10)])

    await assert_complete(here, bob)
    assert await status_of(here, bob) is None


async def test_an_account_made_anew_after_its_rows_were_removed_begins_with_lower_revs(
    network: Network, here: Rig
) -> None:
    """77."""
    bob = network.add_account("bob")
    first_us = network.now_us
    fill(bob, 5)
    await here.track(bob)
    old = await assert_complete(here, bob)
    del bob.host.accounts[bob.did]
    await doubt(here, "gap")
    await here.until_state(bob, "GONE")
    await here.pass_s(4 * DAY_S, 1800)
    pruner = Pruner(here.database, here.settings, here.clock)
    while await pruner.step():
        pass
    assert await here.held(bob) == {}, "purged after the grace time"

    network.now_us = first_us - 30 * 86_400_000_000
    bob.records.clear()
    bob.key = PrivateKey.generate()
    bob.host.accounts[bob.did] = bob
    fill(bob, 3)
    assert bob.rev < old.base_rev
    await here.deliver([AccountEvent(bob.did, True, None, here.clock.now_us(), 20), *bob.events[-1:]])

    repo = await assert_complete(here, bob)
    assert repo.epoch == 1
    new = bob.post("and it goes on")
    await here.deliver(bob.events[-1:])
    assert await here.state_of(new) == 1


@pytest.mark.parametrize("what", ["server", "key"])
async def test_another_server_or_key_means_that_everything_is_read_again(
    network: Network, here: Rig, what: str
) -> None:
    """79. The import wrote records without a commit, so even the rev is the one of our certificate."""
    bob = network.add_account("bob")
    fill(bob, 5)
    await here.track(bob)
    await assert_complete(here, bob)
    await here.clock.advance(120)
    if what == "server":
        network.move(bob, await network.add_host())
    else:
        bob.key = PrivateKey.generate()
    without_commits(bob, "imported")
    bob.host.requests.clear()

    async with identities_are_read(here):
        await here.deliver([IdentityEvent(bob.did, None, here.clock.now_us(), 10)])
        here.identities.wake()
        await here.until(lambda: bob.host.asked("listRecords"))
        await assert_complete(here, bob)


async def test_an_old_server_that_goes_on_answering_is_asked_no_more(network: Network, here: Rig) -> None:
    """80. Both are alive, nobody told of the move, and the old one has the old posts."""
    bob = network.add_account("bob")
    fill(bob, 5)
    await here.track(bob)
    await assert_complete(here, bob)
    await here.clock.advance(120)
    old, new = bob.host, await network.add_host()
    network.move(bob, new)
    old.accounts[bob.did].status = None
    bob.post("at the new home")
    old.requests.clear()

    await doubt(here, "gap")

    await assert_complete(here, bob)
    assert old.requests == []


async def test_a_move_that_no_event_told_of_is_found_within_a_day(network: Network, here: Rig) -> None:
    """79, 80, 83. The identity event was lost, and the old server goes on answering."""
    bob = network.add_account("bob")
    fill(bob, 5)
    await here.track(bob)
    await assert_complete(here, bob)
    old = bob.host
    network.move(bob, await network.add_host())
    old.accounts[bob.did].status = None
    without_commits(bob, "imported")

    async with identities_are_read(here):
        await here.pass_s(23 * 3600, 1800)
        assert not bob.host.asked("listRecords")
        await here.pass_s(2 * 3600, 60)
        await here.until(lambda: bob.host.asked("listRecords"))
        await assert_complete(here, bob)


async def test_while_the_directory_is_down_the_last_known_server_is_read(network: Network, here: Rig) -> None:
    """81. An identity event came, and nobody answers for the document."""
    bob = network.add_account("bob")
    fill(bob, 3)
    await here.track(bob)
    await assert_complete(here, bob)
    await here.clock.advance(120)
    network.plc_down = True
    await here.deliver([IdentityEvent(bob.did, None, here.clock.now_us(), 10)])
    bob.post("while the directory is down")
    await doubt(here, "gap")

    await assert_complete(here, bob)


async def test_a_restored_server_raises_the_epoch_and_what_it_writes_then_is_taken(
    network: Network, here: Rig
) -> None:
    """84. Revs went back: those of the time before the restore don't stand in the way of new ones."""
    bob = network.add_account("bob")
    fill(bob, 3)
    kept, kept_us = (dict(bob.records), bob.rev), network.now_us
    lost = bob.post("lost by the restore")
    edited = bob.post("made twice", rkey=None)
    await here.track(bob)
    before = await assert_complete(here, bob)

    (bob.records, bob.rev), network.now_us = kept, kept_us
    await doubt(here, "gap")
    repo = await assert_complete(here, bob)
    assert (repo.epoch, before.epoch) == (1, 0)
    assert [await here.state_of(uri) for uri in (lost, edited)] == [2, 2]

    again = bob.create(POST, {"text": "again", "createdAt": network.next_datetime()}, edited.rsplit("/")[-1])
    assert bob.rev <= before.base_rev
    await here.deliver(bob.events[-1:])
    assert await here.state_of(again) == 1


@pytest.mark.parametrize("export", [False, True], ids=["listing", "export"])
async def test_keys_of_any_form_are_read_and_used_again(network: Network, here: Rig, export: bool) -> None:
    """86."""
    bob = network.add_account("bob")
    fill(bob, 2)
    for rkey in ("a" * 512, "b" * 256, "-._~:", "self", "3jzfcijpj2z2a"):
        bob.create(POST, {"text": rkey[:5], "createdAt": network.next_datetime()}, rkey)
    if export:
        bob.host.missing.add("listRecords")
    await here.track(bob)
    await assert_complete(here, bob, "signed" if export else "listing")

    long = f"at://{bob.did}/{POST}/{'a' * 512}"
    await here.deliver(bob.delete(long))
    assert await here.state_of(long) == 2
    bob.create(POST, {"text": "used again", "createdAt": network.next_datetime()}, "a" * 512)
    await here.deliver(bob.events[-1:])

    assert await here.held(bob) == shown(bob)


@pytest.mark.parametrize(
    "origin",
    [
        "http://169.254.169.254",
        "https://169.254.169.254",
        "http://10.0.0.1:2583",
        "https://[::ffff:169.254.169.254]",
        "http://metadata.internal",
        "file:///etc/passwd",
        "https://user:secret@localhost",
    ],
)
async def test_a_document_that_names_a_server_inside_our_walls_makes_us_ask_nobody(
    network: Network, here: Rig, origin: str
) -> None:
    """88."""
    bob, carol = network.add_account("bob"), network.add_account("carol")
    fill(carol, 1)
    bob.says_it_lives_at = origin
    await here.track(bob, carol)

    repo = await here.until_state(bob, "WAIT")

    assert repo.reason.startswith(("data:", "identity:"))
    assert not [
        request for host in network.hosts for request in host.requests if bob.did in request.params.values()
    ]
    await assert_complete(here, carol)


async def test_a_server_that_redirects_is_not_followed(network: Network, here: Rig) -> None:
    """88. Reads of repositories need no redirect, so none is taken."""
    bob = network.add_account("bob")
    inside = await network.add_host()

    def redirect(request: Request) -> Answer:
        return Answer(302, b"", {"location": f"{inside.origin}/xrpc/{request.nsid}?did={bob.did}"})

    bob.host.script = redirect
    await here.track(bob)

    repo = await here.until_state(bob, "WAIT")

    assert repo.attempts == 1
    assert inside.requests == []


async def test_a_false_deletion_is_asked_about_before_anything_is_removed(
    network: Network, here: Rig
) -> None:
    """22, 76. Told while the server does not answer: hidden, and nothing more, for as long as that lasts."""
    bob = network.add_account("bob")
    fill(bob, 3)
    await here.track(bob)
    await assert_complete(here, bob)
    bob.host.script = lambda request: Answer(503)
    await here.deliver([AccountEvent(bob.did, False, "deleted", here.clock.now_us(), 10)])
    pruner = Pruner(here.database, here.settings, here.clock)
    for _ in range(5):
        await here.pass_s(DAY_S, 3600)
        while await pruner.step():
            pass
    assert (await here.until_state(bob, "INACTIVE")).reason == "deleted"
    assert await here.held(bob) == shown(bob)

    bob.host.script = None
    await here.pass_s(2 * 3600, 300)
    await assert_complete(here, bob)


async def test_a_server_that_says_400_is_asked_what_it_means(network: Network, here: Rig) -> None:
    """66. listRecords of an account that is merely off looks as if it were gone."""
    bob = network.add_account("bob")
    fill(bob, 3)

    def refuse(request: Request) -> Answer | None:
        return error(400, "InvalidRequest", "Could not find repo") if "listRecords" in request.nsid else None

    bob.host.script = refuse
    await here.track(bob)
    repo = await here.until_state(bob, "WAIT", "GONE", "INACTIVE")
    assert repo.state == "WAIT"
    assert await status_of(here, bob) is None

    bob.host.script = None
    await here.pass_s(90)
    await assert_complete(here, bob)


async def test_an_account_that_moved_is_suspect_in_every_state(network: Network, here: Rig) -> None:
    """79."""
    bob = network.add_account("bob")
    fill(bob, 1)
    await here.track(bob)
    await assert_complete(here, bob)
    await here.stop()
    async with identities_are_read(here):
        for state, column in (
            ("LIVE", "reason"),
            ("QUEUED", "doubt"),
            ("SCANNING", "doubt"),
            ("WAIT", "doubt"),
        ):
            await here.clock.advance(120)
            bob.key = PrivateKey.generate()

            def changed(tx: Transaction, state: str = state) -> None:
                tx.run("UPDATE repo SET state = ?, reason = '', doubt = ''", (state,))
                actors.identity_due(tx, actors.ensure(tx, bob.did))

            await here.database.write(changed)
            here.identities.wake()

            async def noted(column: str = column) -> bool:
                return await here.all(f"SELECT {column} FROM repo") == [("server or key changed",)]

            await here.until(noted)
