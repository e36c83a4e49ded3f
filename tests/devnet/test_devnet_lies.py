"""The lies of devnet are told as asked, and written down; the chronicle knows what was true when."""

from pathlib import Path
from typing import Any

import pytest

from appliance.clock import ManualClock
from appliance.devnet.network import Network
from appliance.devnet.pds_view import block_count
from appliance.errors import BadInput
from appliance.protocol import car, commits
from tests.devnet.devnets import Caller, caller, client, small

POST = "app.bsky.feed.post"
SYNC = "com.atproto.sync"


async def texts(at: Caller, did: str) -> list[str]:
    listed = await at.get("com.atproto.repo.listRecords", repo=did, collection=POST)
    return [record["value"]["text"] for record in listed["records"]]


async def export(at: Caller, did: str) -> bytes:
    answer = await at.answer("GET", f"{SYNC}.getRepo", params={"did": did})
    assert answer.status_code == 200, answer.text
    return answer.content


def read(data: bytes) -> car.Car:
    return car.read(data)


async def test_the_chronicle_knows_each_state_by_its_rev(tmp_path: Path) -> None:
    clock = ManualClock()
    async with small(tmp_path, clock=clock) as net:
        chronicle = net.state.keep_chronicle()
        did = net.create_account("ada.test").did
        revs = []
        for number in range(3):
            await clock.advance(10)
            uri = net.post(did, f"post {number}")
            revs.append(net.state.repository(did).rev)
        net.delete(uri)

        assert [len(chronicle.records(did, rev) or {}) for rev in revs] == [1, 2, 3]
        assert len(chronicle.records(did, net.state.repository(did).rev) or {}) == 2
        assert chronicle.records(did, "2222222222222") is None
        then = chronicle.as_of(did, clock.now_us() - 5_000_000)
        assert then is not None
        assert then.rev == revs[1]
        assert then.export() == chronicle.repository(did, revs[1]).export()
        assert chronicle.since(did, revs[1])[:2] == revs[1:]
        began_us = chronicle.broken_us(did)
        await clock.advance(10)
        net.roll_back(did, 1)
        assert began_us < chronicle.broken_us(did) == clock.now_us()


async def test_a_server_that_lags_lists_what_was_and_names_the_rev_that_is(tmp_path: Path) -> None:
    clock = ManualClock()
    async with small(tmp_path, clock=clock) as net, client() as http:
        net.state.keep_chronicle()
        did = net.create_account("ada.test").did
        net.post(did, "old")
        await clock.advance(60)
        net.post(did, "new")
        at = caller(http, net)
        net.faults["pds0"].switch({"lag_lists_s": 5.0})

        assert await texts(at, did) == ["old"]
        latest = await at.get(f"{SYNC}.getLatestCommit", did=did)
        assert latest["rev"] == net.state.repository(did).rev
        assert net.faults["pds0"].fired["lag"] > 0
        net.faults["pds0"].switch({"lag_s": 5.0})
        assert (await at.get(f"{SYNC}.getLatestCommit", did=did))["rev"] < latest["rev"]
        await clock.advance(5)
        assert await texts(at, did) == ["new", "old"]


async def test_a_restored_server_has_the_old_state_and_goes_on_from_there(tmp_path: Path) -> None:
    async with small(tmp_path) as net, client() as http:
        net.state.keep_chronicle()
        did = net.create_account("ada.test").did
        for number in range(3):
            net.post(did, f"post {number}")
        lost = net.state.repository(did).rev

        rev = net.roll_back(did, 2)

        at = caller(http, net)
        assert await texts(at, did) == ["post 0"]
        assert (await at.get(f"{SYNC}.getLatestCommit", did=did))["rev"] == rev < lost
        net.post(did, "afterwards")
        assert await texts(at, did) == ["afterwards", "post 0"]
        assert read(await export(at, did)).root == net.state.repository(did).commit


async def test_an_import_and_a_new_key_make_heads_that_no_commit_leads_to(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        did = net.create_account("ada.test").did
        before, events = net.state.repository(did).rev, net.state.log.end
        value = {"$type": POST, "text": "brought along", "createdAt": "2020-01-01T00:00:00.000Z"}
        net.bring_in(did, {f"{POST}/3jzfcijpj2z2a": value})
        assert (net.state.log.end, net.state.repository(did).rev > before) == (events, True)

        key = net.account(did).key.did_key
        net.rotate_key(did, tell=False)
        assert net.account(did).key.did_key != key
        head = commits.parse(net.state.repository(did).commit_block)
        commits.verify(head, net.account(did).key.did_key)
        assert net.state.log.end == events
        net.rotate_key(did)
        assert net.state.log.end == events + 2


async def test_who_left_is_still_answered_for_where_the_old_server_does_not_know(tmp_path: Path) -> None:
    async with small(tmp_path) as net, client() as http:
        did = net.create_account("ada.test", 0).did
        net.post(did, "at the old place")
        net.leave_behind(did, 1)
        net.post(did, "at the new place")

        assert await texts(caller(http, net, 0), did) == ["at the old place"]
        assert await texts(caller(http, net, 1), did) == ["at the old place", "at the new place"]
        assert net.faults["pds0"].fired["ghost"] > 0


async def test_who_was_deleted_begins_anew_with_older_revs(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        did = net.create_account("ada.test").did
        net.post(did, "once")
        before = net.state.repository(did).rev
        net.delete_account(did)
        net.begin_anew(did)

        assert net.account(did).active
        assert net.state.repository(did).rev < before
        assert list(net.state.repository(did).records()) == []


@pytest.mark.parametrize(
    ("switches", "fired"),
    [
        ({"torn_exports": True}, "torn-export"),
        ({"cut_exports": True}, "cut-export"),
        ({"cut_each": True}, "cut-each"),
        ({"old_exports": True}, "old-export"),
        ({"swap_exports": "?"}, "swap-export"),
    ],
)
async def test_an_export_is_wrong_in_the_way_that_was_asked_for(
    tmp_path: Path, switches: dict[str, Any], fired: str
) -> None:
    async with small(tmp_path) as net, client() as http:
        net.state.keep_chronicle()
        did, other = net.create_account("ada.test").did, net.create_account("bob.test").did
        for number in range(8):
            net.post(did, f"post {number}")
        whole = net.state.repository(did).export()
        net.faults["pds0"].switch({k: other if v == "?" else v for k, v in switches.items()})

        data = await export(caller(http, net), did)

        assert net.faults["pds0"].fired[fired] == 1
        assert net.faults["pds0"].ledger[-1].did == did
        assert data != whole
        if fired in ("torn-export", "cut-export", "cut-each"):
            assert block_count(data) < block_count(whole)
        elif fired == "swap-export":
            assert commits.parse(read(data).blocks[read(data).root]).did == other
        else:
            assert commits.parse(read(data).blocks[read(data).root]).rev < net.state.repository(did).rev


async def test_a_storm_says_when_to_come_back_as_asked(tmp_path: Path) -> None:
    async with small(tmp_path) as net, client() as http:
        at = caller(http, net)
        net.faults["pds0"].switch({"storm": 2, "storm_wait_s": 7.0})
        answer = await at.answer("GET", f"{SYNC}.listRepos")
        assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
        net.faults["pds0"].switch({"storm_header": "none"})
        answer = await at.answer("GET", f"{SYNC}.listRepos")
        assert (answer.status_code, answer.headers.get("retry-after")) == (429, None)
        assert (await at.answer("GET", f"{SYNC}.listRepos")).status_code == 200
        net.faults["pds0"].switch({"missing_calls": [f"{SYNC}.listRepos"]})
        assert (await at.answer("GET", f"{SYNC}.listRepos")).status_code == 501


async def test_a_list_is_written_to_before_each_page_and_an_account_leaves_before_its_second(
    tmp_path: Path,
) -> None:
    async with small(tmp_path) as net, client() as http:
        did = net.create_account("ada.test").did
        for number in range(5):
            net.post(did, f"post {number}")
        at = caller(http, net)
        net.faults["pds0"].switch({"busy_lists": 1, "leave_at_page": 2, "leave_to": 1})

        first = await texts(at, did)
        assert "post 0" not in first
        assert sum("meanwhile" in text for text in first) == 2
        status, _ = await at.error(
            "GET", "com.atproto.repo.listRecords", params={"repo": did, "collection": POST}
        )
        assert status == 400
        assert net.account(did).pds == 1


async def test_the_directory_is_down_or_behind_when_told_to_be(tmp_path: Path) -> None:
    clock = ManualClock()
    async with small(tmp_path, clock=clock) as net, client() as http:
        did = net.create_account("ada.test", 0).did
        at_us = clock.now_us()
        await clock.advance(60)
        net.migrate(did, 1)
        plc = net.faults["plc"]

        async def server() -> str:
            answer = await http.get(f"{net.info['plc']}/{did}")
            return str(answer.json()["service"][0]["serviceEndpoint"]) if answer.status_code == 200 else ""

        assert await server() == net.info["pds"][1]
        plc.switch({"stale_us": at_us})
        assert await server() == net.info["pds"][0]
        plc.switch({"down": True})
        assert await server() == ""
        assert (plc.fired["stale"], plc.fired["down"]) == (1, 1)


async def test_what_a_stream_never_tells_stays_untold_and_is_in_the_ledger(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        losses = net.streams["jetstream_v2"].losses
        ada, bob = net.create_account("ada.test").did, net.create_account("bob.test").did
        losses.switch({"lose_next": 1, "only_did": bob})
        net.post(ada, "told")
        uri = net.post(bob, "never told")
        net.post(bob, "told again")

        def swallowed(net: Network) -> list[int]:
            return [told.event.n for told in net.state.log.read(1, 100) if losses.swallow(told.event)]

        first = swallowed(net)
        assert len(first) == 1
        assert [(lost.did, lost.path) for lost in losses.lost] == [(bob, uri.removeprefix(f"at://{bob}/"))]
        losses.off()
        # Whoever asks again hears no more.
        assert swallowed(net) == first
        assert losses.fired["lose-next"] == 1
        with pytest.raises(ValueError, match="no fault"):
            losses.switch({"judged": {}})


async def test_a_share_of_accounts_is_hidden_while_it_lasts(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        dids = [net.create_account(f"person{number}.test").did for number in range(40)]
        losses = net.streams["jetstream_v2"].losses
        losses.switch({"hide_share": 0.25, "seed": 3})
        hidden = {did for did in dids if losses.hidden(did)}
        assert 3 <= len(hidden) <= 20
        for did in dids:
            net.post(did, "is it seen?")
        gone = {told.event.did for told in net.state.log.read(1, 1000) if losses.swallow(told.event)}
        assert gone == hidden


async def test_a_call_that_no_chronicle_can_answer_is_refused(tmp_path: Path) -> None:
    async with small(tmp_path) as net:
        did = net.create_account("ada.test").did
        with pytest.raises(BadInput):
            net.roll_back(did, 1)
