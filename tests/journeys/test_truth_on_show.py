"""What is shown of completeness, from outside: each fact is falsified once, and is shown to turn."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.devnet.truth import FOLLOW
from tests.journeys.harness import Client, Process, World, comes_true
from tests.journeys.judge import what_is_wrong

OURS = "computer.aesthetic.appliance."
SETTLE_S = 120.0


class Stage:
    """A world, an appliance on it, and a member who looks."""

    def __init__(self, world: World, process: Process, http: httpx.AsyncClient) -> None:
        self.world = world
        self.process = process
        self.http = http
        self.client = Client(process.origin, http)
        self.seen: list[str] = []

    async def sign_in(self) -> None:
        member = self.world.info["members"][0]
        await self.client.sign_in(member["handle"], member["password"])

    async def report(self) -> Any:
        told = await self.client.call(f"{OURS}getCompleteness")
        if not self.seen or self.seen[-1] != told["state"]:
            self.seen.append(told["state"])
        return told

    async def shows(self, state: str) -> Any:
        """Wait for this state; the report that had it."""
        last: dict[str, Any] = {}

        async def check() -> str:
            last.clear()
            last.update(await self.report())
            return "" if last["state"] == state else f"{last}"

        await comes_true(check, within_s=SETTLE_S)
        return last

    async def call(self, method: str, *args: Any) -> Any:
        body = {"method": method, "args": args}
        answer = await self.http.post(f"{self.world.info['control']}/call", json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["result"]

    async def fault(self, **switches: Any) -> None:
        """On every PDS."""
        for number in range(len(self.world.info["pds"])):
            body = {"of": f"pds{number}", **switches}
            assert (
                await self.http.post(f"{self.world.info['control']}/faults", json=body)
            ).status_code == 200

    async def follow_somebody(self) -> str:
        """Somebody active whom the member does not follow yet."""
        told = await self.client.call(f"{OURS}listAccounts", limit=500)
        known = {one["did"] for one in told["accounts"]}
        for origin in self.world.info["pds"]:
            listed = await Client(origin, self.http).call("com.atproto.sync.listRepos", limit=100)
            for repo in listed["repos"]:
                if repo["did"] not in known and repo.get("active", True):
                    record = {
                        "$type": FOLLOW,
                        "subject": repo["did"],
                        "createdAt": "2026-01-01T00:00:00Z",
                    }
                    body = {"repo": self.client.did, "collection": FOLLOW, "record": record}
                    await self.client.call("com.atproto.repo.createRecord", body)
                    found: str = repo["did"]
                    return found
        raise AssertionError("everybody is followed")


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    world = World(tmp_path / "world", accounts=14)
    await world.start(rate=0)
    settings = world.settings() | {"READY_LAG_MAX_S": "12"}
    process = Process(tmp_path / "appliance", settings)
    async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
        try:
            await process.start()
            found = Stage(world, process, http)
            await found.sign_in()
            await found.shows("complete")
            yield found
        finally:
            if process.alive:
                await process.stop()
            await world.stop()


async def probe(stage: Stage, path: str) -> int:
    return (await stage.http.get(f"{stage.process.origin}{path}")).status_code


async def test_a_stream_that_is_cut_is_not_live_until_it_is_back(stage: Stage) -> None:
    """Catalogue 99: the page, the API, the probes and the command all turn, and turn back."""
    assert (await probe(stage, "/ready"), await probe(stage, "/health")) == (200, 200)
    assert (await stage.process.command("status"))[0] == 0

    await stage.world.stop()
    told = await stage.shows("not-live")
    home = await stage.http.get(f"{stage.process.origin}/status.json")
    code, out, _ = await stage.process.command("status")

    assert told["notLiveSince"]
    assert told["stream"]["live"] is False
    assert home.json()["healthy"] is False
    assert (code, "no stream is live since" in out) == (1, True)

    async def unready() -> str:
        return "" if await probe(stage, "/ready") == 503 else "ready"

    await comes_true(unready, within_s=SETTLE_S)
    assert await probe(stage, "/health") == 200

    await stage.world.start(rate=0)
    await stage.shows("complete")
    assert await probe(stage, "/ready") == 200

    async def healthy() -> str:
        code, out, _ = await stage.process.command("status")
        return "" if code == 0 else out

    # The stream is back at once; what else rested meanwhile may take another moment.
    await comes_true(healthy, within_s=SETTLE_S)


async def test_a_gap_is_complete_until_its_beginning_and_closes(stage: Stage) -> None:
    member = stage.world.info["members"][0]["did"]
    faults = f"{stage.world.info['control']}/faults"
    await stage.process.kill()
    await stage.http.post(faults, json={"of": "jetstream_v2", "keep_events": 2})
    for number in range(5):
        await stage.call("post", member, f"said while nobody listened {number}")
    await stage.fault(delay_s=1.0)
    stage.seen.clear()
    await stage.process.start()
    told = await stage.shows("complete-until")
    await stage.fault(off=True)
    await stage.shows("complete")

    assert told["until"] < told["checkedAt"]
    assert told["doubts"]
    # For a moment after the start the stream counts as it did before: a few seconds behind. From the gap on
    # nobody is told more than is so.
    assert "complete" not in stage.seen[stage.seen.index("complete-until") : -1]
    assert await what_is_wrong(stage.world.info, [stage.client]) == ""


async def test_a_new_follow_is_catching_up_and_then_complete(stage: Stage) -> None:
    """Catalogue 72: while the history is read the timeline is not called complete."""
    await stage.fault(delay_s=0.5)
    followed = await stage.follow_somebody()

    told = await stage.shows("catching-up")
    listed = await stage.client.call(f"{OURS}listAccounts", only="incomplete")
    await stage.fault(off=True)
    await stage.shows("complete")

    assert told["accounts"]["catchingUp"] >= 1
    assert followed in {one["did"] for one in listed["accounts"]}
    assert await what_is_wrong(stage.world.info, [stage.client]) == ""


async def test_who_deactivates_is_told_apart_and_a_host_that_is_down_by_its_class(stage: Stage) -> None:
    """Catalogue 81 in part: the reason is shown with its class, and when it is tried again."""
    before = await stage.report()
    other = next(
        one["did"]
        for one in (await stage.client.call(f"{OURS}listAccounts", limit=500))["accounts"]
        if one["did"] not in {member["did"] for member in stage.world.info["members"]}
        and one["state"] == "complete"
    )
    await stage.call("deactivate", other)

    async def told_apart() -> str:
        found = (await stage.report())["accounts"]["inactive"]
        return "" if found == before["accounts"]["inactive"] + 1 else f"{found} inactive"

    await comes_true(told_apart, within_s=SETTLE_S)
    assert (await stage.report())["state"] == "complete"

    await stage.fault(down=True)
    followed = await follow_at_home(stage)
    told = await stage.shows("waiting")
    waiting = await stage.client.call(f"{OURS}listAccounts", only="incomplete")

    assert [wait["reason"] for wait in told["waiting"]] == ["host"]
    assert [one["did"] for one in waiting["accounts"] if one["state"] == "waiting"] == [followed]
    assert all(one["nextTryAt"] for one in waiting["accounts"] if one["state"] == "waiting")


async def follow_at_home(stage: Stage) -> str:
    """The member's own server does not answer; the follow is made in the world itself."""
    told = await stage.client.call(f"{OURS}listAccounts", limit=500)
    known = {one["did"] for one in told["accounts"]}
    made = await stage.call("create_account", "newcomer", 0)
    assert made["did"] not in known
    await stage.call("follow", stage.client.did, made["did"])
    did: str = made["did"]
    return did


async def test_audit_finds_a_planted_loss_mends_it_and_says_so(stage: Stage) -> None:
    """The command on the running process, and by itself; the exit code is 0 only at 100 %."""
    code, out, err = await stage.process.command("audit", "--all", "--json")
    assert code == 0, out + err
    whole = json.loads(out)
    assert (whole["complete"], whole["rate"], whole["missing"]) == (True, 1.0, 0)
    assert whole["there"] > 500
    assert "accounts" in err

    await stage.process.stop()
    with sqlite3.connect(stage.process.data / "appliance.db") as rows:
        (lost, did, handle) = rows.execute(
            "SELECT r.id, a.did, a.handle FROM record r JOIN actor a ON a.id = r.actor JOIN repo p ON"
            " p.actor = a.id WHERE r.collection = 1 AND r.state = 1 AND p.state = 'LIVE'"
            " AND NOT EXISTS (SELECT 1 FROM member m WHERE m.actor = a.id) LIMIT 1"
        ).fetchone()
        for table in ("item", "post", "post_count", "record"):
            rows.execute(f"DELETE FROM {table} WHERE id = ?", (lost,))
    code, out, err = await stage.process.command("audit", handle)
    assert code == 1, out + err
    assert "1 missing" in out
    assert "NOT complete." in out

    await stage.process.start()
    code, out, _ = await stage.process.command("audit", "--all", "--repair", "--json")
    mended = json.loads(out)
    assert (code, mended["missing"], mended["repaired"]) == (1, 1, 1)
    assert [one["did"] for one in mended["notWhole"] if one["missing"]] == [did]
    code, out, _ = await stage.process.command("audit", handle)
    assert (code, "Complete: every account equals its own server." in out) == (0, True)
    for misused in ((), ("--all", handle), ("--level", "wish", handle)):
        assert (await stage.process.command("audit", *misused))[0] == 2
    assert (await stage.process.command("audit", "nobody.test"))[0] == 1


async def test_a_stranger_can_check_a_certificate_at_the_account_s_own_server(stage: Stage) -> None:
    accounts = (await stage.client.call(f"{OURS}listAccounts", limit=500))["accounts"]
    checked = 0
    stranger = Client(stage.process.origin, stage.http)
    for one in accounts:
        told = await stranger.call(f"{OURS}getCertificate", actor=one["did"])
        certificate = told["account"].get("certificate", {})
        if "digest" not in certificate:
            continue
        document = (await stage.http.get(f"{stage.world.info['plc']}/{one['did']}")).json()
        there = Client(document["service"][0]["serviceEndpoint"], stage.http)
        lines = [line for nsid in told["collections"] async for line in listed(there, one["did"], nsid)]
        assert sha256(b"".join(sorted(lines))).hexdigest() == certificate["digest"]
        assert len(lines) == certificate["count"]
        checked += 1
    assert checked > 3


async def listed(client: Client, did: str, collection: str) -> AsyncIterator[bytes]:
    cursor = ""
    while True:
        more = {"cursor": cursor} if cursor else {}
        page = await client.call(
            "com.atproto.repo.listRecords", repo=did, collection=collection, limit=100, **more
        )
        for record in page["records"]:
            yield f"{collection}/{record['uri'].rsplit('/', 1)[1]} {record['cid']}\n".encode()
        cursor = page.get("cursor", "")
        if not cursor or not page["records"]:
            return
