"""What members report is kept for our operator, and goes on to their servers."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from appliance.protocol import lexicons
from appliance.store import reports
from tests.auth.house import ALICE, BOB
from tests.auth.small_pds import Asked, Reply
from tests.xrpc.counter import Counter

NSID = "com.atproto.moderation.createReport"
SPAM = "com.atproto.moderation.defs#reasonSpam"
ACCOUNT = {"$type": "com.atproto.admin.defs#repoRef", "did": BOB}


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[Counter]:
    async with AsyncExitStack() as stack:
        counter = Counter(tmp_path, rate_limits="off")
        await counter.open(stack)
        yield counter
        await counter.auth.close()


async def kept(counter: Counter) -> list[tuple[str, str, str, str, bool]]:
    found = await counter.database.read(lambda r: reports.open_(r, 10))
    return [(one.by, one.kind, one.subject, one.reason, bool(one.forwarded)) for one in found]


async def test_a_report_is_kept_and_passed_on_to_the_labeler_that_the_client_names(counter: Counter) -> None:
    told: list[Asked] = []

    async def take(asked: Asked) -> Reply:
        told.append(asked)
        return 200, {"id": 77, "reasonType": SPAM, "subject": ACCOUNT, "reportedBy": ALICE, "createdAt": "x"}

    counter.pds.instead[NSID] = take
    token = (await counter.signed_in())["accessJwt"]
    labeler = f"{BOB}#atproto_labeler"
    answer = await counter.http.post(
        f"/xrpc/{NSID}",
        json={"reasonType": SPAM, "subject": ACCOUNT, "reason": "look"},
        headers={"Authorization": f"Bearer {token}", "atproto-proxy": labeler},
    )
    assert answer.json()["id"] == 77
    assert told[0].headers["atproto-proxy"] == labeler
    assert told[0].json["reason"] == "look"
    assert await kept(counter) == [(ALICE, SPAM, BOB, "look", True)]


@pytest.mark.parametrize("status", [500, 501, 400])
async def test_a_report_that_nobody_else_takes_is_taken_here(counter: Counter, status: int) -> None:
    async def refuse(asked: Asked) -> Reply:
        return status, {"error": "No", "message": "no"}

    counter.pds.instead[NSID] = refuse
    token = (await counter.signed_in())["accessJwt"]
    record = {"$type": "com.atproto.repo.strongRef", "uri": counter.bobs, "cid": counter.bobs_cid}
    answer = await counter.post(NSID, {"reasonType": SPAM, "subject": record}, token)
    assert answer.status_code == 200
    assert lexicons.validate_output(NSID, answer.json()) is None
    assert await kept(counter) == [(ALICE, SPAM, counter.bobs, "", False)]


@pytest.mark.parametrize(
    "body",
    [{}, {"reasonType": SPAM}, {"reasonType": SPAM, "subject": {"$type": "x.y.z"}}, {"subject": ACCOUNT}],
)
async def test_what_is_no_report_is_refused(counter: Counter, body: dict[str, Any]) -> None:
    token = (await counter.signed_in())["accessJwt"]
    assert (await counter.post(NSID, body, token)).status_code == 400
    assert (await counter.post(NSID, {"reasonType": SPAM, "subject": ACCOUNT})).status_code == 401
    assert await kept(counter) == []
