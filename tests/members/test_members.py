"""Who may join, what that sets in motion, and what an operator can do about it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.config import Settings
from appliance.errors import BadInput, NotFound, Refused
from appliance.members import admission, commands
from appliance.store import actors, members
from appliance.store.database import Transaction
from tests.backfill.rig import Rig
from tests.backfill.scripted_network import Account, Network
from tests.backfill.scripted_network import network as open_network

NOW_US = 1_767_225_600_000_000


def did(name: str) -> str:
    return f"did:plc:{name.ljust(24, 'a')}"


@pytest.fixture
async def network() -> AsyncIterator[Network]:
    async with open_network() as made:
        yield made


@pytest.fixture
async def here(network: Network, tmp_path: Path) -> AsyncIterator[Rig]:
    made = Rig(network, tmp_path, members=())
    await made.open()
    await made.stream_begins()
    try:
        yield made
    finally:
        await made.close()


async def join(here: Rig, name: str, *, handle: str | None = None, invite: str = "", **settings: Any) -> bool:
    rules = msgspec.structs.replace(here.settings, **settings)
    return await here.database.write(
        lambda tx: admission.join(tx, rules, did(name), handle, invite, NOW_US), durable=True
    )


async def names(here: Rig) -> list[str]:
    return [member.did for member in await commands.listing(here.database)]


@pytest.mark.parametrize(
    ("listed", "handle", "welcome"),
    [
        ((did("alice"),), None, True),
        (("alice.test",), "alice.test", True),
        (("@Alice.Test",), "alice.test", True),
        (("*",), None, True),
        ((), "alice.test", False),
        (("alice.test",), None, False),  # a handle that was not confirmed both ways is nobody's
        (("bob.test", did("bob")), "alice.test", False),
    ],
)
async def test_the_allow_list_names_dids_and_confirmed_handles(
    here: Rig, listed: tuple[str, ...], handle: str | None, welcome: bool
) -> None:
    if welcome:
        assert await join(here, "alice", handle=handle, members=listed)
        assert await names(here) == [did("alice")]
    else:
        with pytest.raises(Refused):
            await join(here, "alice", handle=handle, members=listed)
        assert await names(here) == []


async def test_a_refusal_leaves_no_trace(here: Rig) -> None:
    with pytest.raises(Refused):
        await join(here, "alice")

    assert await here.all("SELECT * FROM actor") == []
    assert await here.all("SELECT * FROM repo") == []


async def test_who_is_a_member_already_needs_no_admission(here: Rig) -> None:
    assert await join(here, "alice", members=("*",))

    assert not await join(here, "alice")
    assert await here.all("SELECT refs FROM repo") == [(1,)]


async def test_an_invite_admits_as_often_as_it_says(here: Rig) -> None:
    code = await commands.invite(here.database, here.clock, uses=2)

    assert await join(here, "alice", invite=f" {code.upper()} ", admission="invite")
    assert await join(here, "bob", invite=code, admission="invite")
    with pytest.raises(Refused) as refusal:
        await join(here, "eve", invite=code, admission="invite")
    assert refusal.value.name == "InvalidInviteCode"
    with pytest.raises(Refused):
        await join(here, "eve", admission="invite")
    assert await commands.invites(here.database) == []
    # Coming back costs no use and needs no code.
    assert not await join(here, "alice", admission="invite")


async def test_an_invite_counts_only_where_admission_is_by_invite(here: Rig) -> None:
    code = await commands.invite(here.database, here.clock)

    with pytest.raises(Refused):
        await join(here, "alice", invite=code)
    assert await join(here, "bob", admission="open")
    assert [left.uses_left for left in await commands.invites(here.database)] == [1]


async def test_a_full_house_takes_no_use_of_an_invite(here: Rig) -> None:
    code = await commands.invite(here.database, here.clock)
    assert await join(here, "alice", admission="open", members_max=1)

    with pytest.raises(Refused) as refusal:
        await join(here, "bob", invite=code, admission="invite", members_max=1)

    assert refusal.value.name == "MembersFull"
    assert len(await commands.invites(here.database)) == 1


async def test_of_many_who_come_at_once_only_so_many_get_in(here: Rig) -> None:
    results = await asyncio.gather(
        *(join(here, f"name{letter}", admission="open", members_max=7) for letter in "abcdefghijklmnopqrst"),
        return_exceptions=True,
    )

    assert results.count(True) == 7
    assert sum(isinstance(result, Refused) for result in results) == 13
    assert len(await names(here)) == 7


async def test_one_invite_for_many_who_come_at_once_admits_one(here: Rig) -> None:
    code = await commands.invite(here.database, here.clock)
    results = await asyncio.gather(
        *(join(here, f"name{letter}", invite=code, admission="invite") for letter in "abcdefgh"),
        return_exceptions=True,
    )

    assert results.count(True) == 1


async def follow(here: Rig, account: Account, *others: Account) -> None:
    """The stream brings these follows."""
    before = len(account.events)
    for other in others:
        account.follow(other.did)
    await here.deliver(account.events[before:])


async def test_a_new_member_brings_those_whom_they_follow(network: Network, here: Rig) -> None:
    alice, bob, eve, carol = (network.add_account(name) for name in ("alice", "bob", "eve", "carol"))
    # Alice is read as somebody's followee, so her follows are known before she comes herself.
    await here.track(alice)
    await follow(here, alice, bob, eve)

    await here.join(alice)

    states = dict(await here.all("SELECT a.did, r.refs FROM repo r JOIN actor a ON a.id = r.actor"))
    assert states == {alice.did: 2, bob.did: 1, eve.did: 1}
    await follow(here, alice, carol)
    repo = await here.repo(carol)
    assert repo is not None
    assert (repo.state, repo.refs) == ("QUEUED", 1)
    assert repo.cover_us == alice.events[-1].time_us


async def test_leaving_takes_back_every_reference_and_returning_restores_them(
    network: Network, here: Rig
) -> None:
    alice, bob, eve = (network.add_account(name) for name in ("alice", "bob", "eve"))
    await here.join(alice)
    await here.join(bob)
    await follow(here, alice, bob, eve)
    await follow(here, bob, eve)

    await commands.remove(here.database, here.identities, here.clock, alice.did)

    refs = dict(await here.all("SELECT a.did, r.refs FROM repo r JOIN actor a ON a.id = r.actor"))
    assert refs == {alice.did: 0, bob.did: 1, eve.did: 1}
    await here.join(alice)
    refs = dict(await here.all("SELECT a.did, r.refs FROM repo r JOIN actor a ON a.id = r.actor"))
    assert refs == {alice.did: 1, bob.did: 2, eve.did: 2}


async def test_a_followee_who_becomes_a_member_is_read_again_with_all_collections(
    network: Network, here: Rig
) -> None:
    bob, eve = network.add_account("bob"), network.add_account("eve")
    bob.post()
    bob.follow(eve.did)
    here.start()
    await here.track(bob)
    await here.until_state(bob, "LIVE")
    assert await here.repo(eve) is None

    await here.join(bob)
    await here.until_state(eve, "LIVE")
    await here.until_state(bob, "LIVE")

    repo = await here.repo(eve)
    assert repo is not None
    assert repo.refs == 1


async def test_a_follow_and_its_doubles_count_once(network: Network, here: Rig) -> None:
    alice, bob = network.add_account("alice"), network.add_account("bob")
    await here.join(alice)
    await follow(here, alice, bob, bob)
    repo = await here.repo(bob)
    assert repo is not None
    assert repo.refs == 1

    first, second = (event for event in alice.events if event.collection == "app.bsky.graph.follow")
    for event, refs in ((first, 1), (second, 0)):
        await here.deliver(alice.delete(f"at://{alice.did}/{event.collection}/{event.rkey}"))
        repo = await here.repo(bob)
        assert repo is not None
        assert repo.refs == refs


async def test_the_operator_admits_anybody_but_not_beyond_the_limit(network: Network, here: Rig) -> None:
    alice, bob = network.add_account("alice"), network.add_account("bob")
    settings: Settings = msgspec.structs.replace(here.settings, members_max=1)

    async def add(who: str) -> tuple[str, bool]:
        # The limit of requests to the directory is on the manual clock.
        task = asyncio.ensure_future(commands.add(here.database, here.identities, settings, here.clock, who))
        await here.until(task.done)
        return task.result()

    assert await add(alice.did) == (alice.did, True)
    assert await add(alice.did) == (alice.did, False)
    with pytest.raises(Refused):
        await add(bob.did)
    with pytest.raises(NotFound):
        await add(did("nobody"))
    with pytest.raises(BadInput):
        await add("not a name")
    assert [member.via for member in await commands.listing(here.database)] == ["operator"]


async def test_removing_who_is_no_member_says_so(network: Network, here: Rig) -> None:
    alice = network.add_account("alice")
    with pytest.raises(NotFound):
        await commands.remove(here.database, here.identities, here.clock, alice.did)


async def test_a_member_whose_handle_leads_nowhere_can_be_removed_by_it(here: Rig) -> None:
    def add(tx: Transaction) -> None:
        actor = actors.ensure(tx, did("alice"), NOW_US)
        tx.run("UPDATE actor SET handle = 'alice.example.com' WHERE id = ?", (actor,))
        admission.admit(tx, here.settings, actor, "operator", NOW_US)

    await here.database.write(add)

    removed = await commands.remove(here.database, here.identities, here.clock, "@Alice.example.com")
    assert removed == did("alice")
    assert not await here.database.read(lambda reader: members.is_member_did(reader, did("alice")))


@pytest.mark.parametrize("uses", [0, -1, 10_001])
async def test_a_senseless_number_of_uses_is_refused(here: Rig, uses: int) -> None:
    with pytest.raises(BadInput):
        await commands.invite(here.database, here.clock, uses=uses)


async def test_an_invite_can_be_withdrawn(here: Rig) -> None:
    code = await commands.invite(here.database, here.clock, uses=5)
    assert await here.database.write(lambda tx: members.remove_invite(tx, code))
    with pytest.raises(Refused):
        await join(here, "alice", invite=code, admission="invite")
