import asyncio
from typing import Any

import orjson
import pytest

from appliance.errors import ApplianceError, BadInput, Refused, Unavailable
from appliance.protocol.events import CommitEvent
from appliance.writes.operations import APPLY, CREATE, DELETE, PUT, plan
from appliance.writes.repos import Unconfirmed
from tests.auth.house import ALICE, BOB
from tests.auth.small_pds import Asked, Reply, cid_of
from tests.writes.desk import POST, Desk

LIKE = "app.bsky.feed.like"
SELF = "at://did:plc:aaaaaaaaaaaaaaaaaaaaaaaa"


def post(text: str = "hello") -> dict[str, Any]:
    return {"$type": POST, "text": text, "createdAt": "2026-01-01T00:00:00.000Z"}


async def refusal(work: Any) -> ApplianceError:
    with pytest.raises(ApplianceError) as caught:
        await work
    return caught.value


async def test_a_record_is_indexed_as_soon_as_its_pds_has_answered(desk: Desk) -> None:
    session = await desk.session()
    written = await desk.repos.create(session, POST, post())
    found = await desk.find(written.uri)
    assert found is not None
    assert found.cid == written.cid
    assert found.version is not None
    assert found.version[1] == desk.pds.rev
    assert orjson.loads(found.body or b"") == post()
    [asked] = desk.pds.of(CREATE)
    assert asked.bearer == "pds-access-1"
    assert asked.json["repo"] == ALICE


async def test_the_stream_brings_it_again_and_nothing_changes(desk: Desk) -> None:
    written = await desk.repos.create(await desk.session(), POST, post())
    before = await desk.find(written.uri)
    rkey = written.uri.rpartition("/")[2]
    for n in (0, 1):
        event = CommitEvent(
            ALICE,
            desk.pds.rev,
            n,
            "create",
            POST,
            rkey,
            written.cid,
            orjson.dumps(post()),
            desk.clock.now_us(),
        )
        await desk.apply(event)
        after = await desk.find(written.uri)
        assert before is not None
        assert after is not None
        assert (after.id, after.cid, after.body) == (before.id, before.cid, before.body)
    assert await desk.rows("item") == 2  # this one and Bob's


async def test_a_deletion_is_seen_at_once_and_stays(desk: Desk) -> None:
    session = await desk.session()
    written = await desk.repos.create(session, POST, post())
    created = desk.pds.rev
    rkey = written.uri.rpartition("/")[2]
    await desk.repos.delete(session, POST, rkey)
    assert await desk.find(written.uri) is None
    late = CommitEvent(ALICE, created, 0, "create", POST, rkey, written.cid, orjson.dumps(post()), 1)
    await desk.apply(late)
    assert await desk.find(written.uri) is None
    await desk.repos.delete(session, POST, rkey)


async def test_a_batch_is_indexed_whole(desk: Desk) -> None:
    session = await desk.session()
    gone = await desk.repos.create(session, POST, post("gone soon"))
    body = {
        "repo": ALICE,
        "writes": [
            {"$type": f"{APPLY}#create", "collection": POST, "value": post("one")},
            {"$type": f"{APPLY}#create", "collection": POST, "rkey": "3l3qo2vuowo2b", "value": post("two")},
            {"$type": f"{APPLY}#delete", "collection": POST, "rkey": gone.uri.rpartition("/")[2]},
        ],
    }
    answer = await desk.repos.forward(session, APPLY, body)
    uris = [result["uri"] for result in answer.json()["results"] if "uri" in result]
    assert len(uris) == 2
    assert [await desk.find(uri) is not None for uri in uris] == [True, True]
    assert await desk.find(gone.uri) is None


async def test_an_update_replaces_what_is_shown(desk: Desk) -> None:
    session = await desk.session()
    profile = "app.bsky.actor.profile"
    for name in ("Alice", "Alice A."):
        record = {"$type": profile, "displayName": name}
        body = {"repo": "alice.test", "collection": profile, "rkey": "self", "record": record}
        assert (await desk.repos.forward(session, PUT, body)).ok
        found = await desk.find(f"{SELF}/{profile}/self")
        assert found is not None
        assert orjson.loads(found.body or b"")["displayName"] == name


async def test_a_record_without_type_gets_that_of_its_collection(desk: Desk) -> None:
    record = post()
    del record["$type"]
    written = await desk.repos.create(await desk.session(), POST, record)
    assert await desk.find(written.uri) is not None


@pytest.mark.parametrize(
    "body",
    [
        {"repo": BOB, "collection": POST, "record": post()},
        {"repo": "bob.test", "collection": POST, "record": post()},
        {"collection": POST, "record": post()},
        {"repo": ALICE, "collection": "../x", "record": post()},
        {"repo": ALICE, "collection": 1, "record": post()},
        {"repo": ALICE, "collection": POST, "record": "text"},
        {"repo": ALICE, "collection": LIKE, "record": post()},
        {"repo": ALICE, "collection": POST, "record": {"$type": POST, "x": 1.5}},
        {"repo": ALICE, "collection": POST, "record": {"$type": POST, "x": {"$link": "nonsense"}}},
        {"repo": ALICE, "collection": POST, "rkey": "..", "record": post()},
        {"repo": ALICE, "collection": POST, "rkey": ".", "record": post()},
        {"repo": ALICE, "collection": POST, "rkey": "a/b", "record": post()},
        {"repo": ALICE, "collection": POST, "rkey": "x" * 600, "record": post()},
    ],
)
async def test_what_is_not_ours_or_not_data_is_never_sent(desk: Desk, body: dict[str, Any]) -> None:
    sent = len(desk.pds.asked)
    assert isinstance(await refusal(desk.repos.forward(await desk.session(), CREATE, body)), BadInput)
    assert len(desk.pds.asked) == sent


@pytest.mark.parametrize("writes", [None, [], [1], [{"$type": "x"}], [{"$type": f"{APPLY}#create"}] * 201])
def test_a_batch_that_is_none_is_refused(writes: Any) -> None:
    with pytest.raises(BadInput):
        plan(APPLY, {"repo": ALICE, "writes": writes}, ALICE, None, lambda: "3l3qo2vuowo2b")


@pytest.mark.parametrize("status", [0, 500, 502, 504])
async def test_a_lost_answer_is_found_in_the_repository_and_written_once(desk: Desk, status: int) -> None:
    desk.losing(CREATE, status=status)
    written = await desk.moving(desk.repos.create(await desk.session(), POST, post()))
    assert len(desk.pds.of(CREATE)) == 1
    assert list(desk.pds.records) == [written.uri]
    assert await desk.find(written.uri) is not None


async def test_a_lost_deletion_is_settled_too(desk: Desk) -> None:
    session = await desk.session()
    written = await desk.repos.create(session, POST, post())
    desk.losing(DELETE)
    await desk.moving(desk.repos.delete(session, POST, written.uri.rpartition("/")[2]))
    assert desk.pds.records == {}
    assert len(desk.pds.of(DELETE)) == 1


async def test_an_outcome_that_stays_unknown_is_said_to_be_unknown(desk: Desk) -> None:
    desk.losing(CREATE, before=True)
    found = await refusal(desk.moving(desk.repos.create(await desk.session(), POST, post())))
    assert isinstance(found, Unconfirmed)
    assert len(desk.pds.of(CREATE)) == 1
    assert len(desk.pds.of("com.atproto.repo.getRecord")) == 3


async def test_a_refusal_is_definite_and_nothing_is_polled(desk: Desk) -> None:
    async def refuse(asked: Asked) -> Reply:
        return 400, {"error": "InvalidSwap", "message": "no"}

    desk.pds.instead[PUT] = refuse
    body = {"repo": ALICE, "collection": POST, "rkey": "3l3qo2vuowo2b", "record": post()}
    answer = await desk.repos.forward(await desk.session(), PUT, body)
    assert (answer.status, answer.error_name()) == (400, "InvalidSwap")
    assert desk.pds.of("com.atproto.repo.getRecord") == []
    assert await desk.find(f"{SELF}/{POST}/3l3qo2vuowo2b") is None


async def test_a_limit_of_the_pds_is_told_and_not_hammered(desk: Desk) -> None:
    async def limit(asked: Asked) -> Reply:
        return 429, {"error": "RateLimitExceeded"}, {"retry-after": "3600"}

    desk.pds.instead[CREATE] = limit
    session = await desk.session()
    found = await refusal(desk.repos.create(session, POST, post()))
    assert isinstance(found, Unavailable)
    assert found.name == "RateLimitExceeded"
    assert (found.retry_after_s or 0) > 3000
    again = asyncio.ensure_future(desk.repos.create(session, POST, post()))
    assert isinstance(await refusal(desk.moving(again, 60)), Unavailable)
    assert len(desk.pds.of(CREATE)) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {"uri": f"at://{BOB}/{POST}/3l3qo2vuowo2b", "cid": cid_of(post())},
        {"uri": f"at://{ALICE}/{LIKE}/3l3qo2vuowo2b", "cid": cid_of(post())},
        {"uri": f"at://{ALICE}/{POST}/3l3qo2vuowo2c", "cid": cid_of(post())},
        {"uri": f"at://{ALICE}/{POST}/3l3qo2vuowo2b", "cid": "nonsense"},
        {"uri": 1, "cid": 2},
        [],
        b"broken",
    ],
)
async def test_an_answer_about_another_record_is_refused(desk: Desk, answer: Any) -> None:
    async def lie(asked: Asked) -> Reply:
        return 200, answer

    desk.pds.instead[CREATE] = lie
    found = await refusal(desk.repos.create(await desk.session(), POST, post(), "3l3qo2vuowo2b"))
    assert isinstance(found, Unavailable)
    assert await desk.rows("item") == 1


async def test_a_pds_that_stores_other_bytes_is_left_to_the_stream(desk: Desk) -> None:
    async def other(asked: Asked) -> Reply:
        uri = f"at://{ALICE}/{POST}/{asked.json['rkey']}"
        return 200, {"uri": uri, "cid": cid_of(post("other")), "commit": desk.pds.commit()}

    desk.pds.instead[CREATE] = other
    written = await desk.repos.create(await desk.session(), POST, post())
    assert await desk.find(written.uri) is None


async def test_a_pds_that_names_no_commit_is_asked_for_its_latest(desk: Desk) -> None:
    async def old(asked: Asked) -> Reply:
        desk.pds.commit()
        return 200, desk.pds.put(ALICE, asked.json, asked.json["record"])

    desk.pds.instead[CREATE] = old
    written = await desk.repos.create(await desk.session(), POST, post())
    assert await desk.find(written.uri) is not None


async def test_an_expired_token_is_renewed_and_the_record_written_once(desk: Desk) -> None:
    session = await desk.session()
    await desk.clock.advance(7200)
    written = await desk.repos.create(session, POST, post())
    assert list(desk.pds.records) == [written.uri]
    assert len(desk.pds.of("com.atproto.server.refreshSession")) == 1


async def test_a_sign_in_that_ended_writes_nothing(desk: Desk) -> None:
    session = await desk.session()
    await desk.clock.advance(7200)
    desk.pds.refresh.clear()
    found = await refusal(desk.repos.create(session, POST, post()))
    assert isinstance(found, Refused)
    assert found.name == "ExpiredToken"
    assert desk.pds.records == {}


async def test_a_follow_starts_what_a_follow_starts(desk: Desk) -> None:
    follow = "app.bsky.graph.follow"
    record = {"$type": follow, "subject": BOB, "createdAt": "2026-01-01T00:00:00.000Z"}
    await desk.repos.create(await desk.session(), follow, record)
    tracked = await desk.database.read(
        lambda r: r.value("SELECT refs FROM repo JOIN actor ON actor.id = repo.actor WHERE did = ?", (BOB,))
    )
    assert tracked == 1
