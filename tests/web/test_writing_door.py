"""web.writing over the real writer and a PDS: what became of a write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from appliance.errors import BadInput, Refused
from appliance.web.doors import Outcome
from appliance.web.writing import Writing
from appliance.writes.operations import CREATE, DELETE
from tests.auth.house import BOB
from tests.writes.desk import Desk


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with AsyncExitStack() as stack:
        desk = Desk(tmp_path)
        await desk.open(stack)
        yield desk
        await desk.auth.close()


async def test_writes_that_the_server_confirms_are_done_and_taken_back(desk: Desk) -> None:
    writing = Writing(desk.writer)
    written = await writing.post(desk.cookie, "hello", reply="", langs=["en"], once="a")
    assert written.confirmed
    assert list(desk.pds.records) == [written.uri]

    for wanted, number in ((True, 4), (False, 1)):
        done = [
            await writing.like(desk.cookie, desk.bobs, desk.bobs_cid, wanted=wanted),
            await writing.repost(desk.cookie, desk.bobs, desk.bobs_cid, wanted=wanted),
            await writing.follow(desk.cookie, BOB, wanted=wanted),
        ]
        assert done == [Outcome()] * 3
        assert len(desk.pds.records) == number
    # A button of an old page asks for what is there already: nothing is turned round.
    await writing.like(desk.cookie, desk.bobs, desk.bobs_cid, wanted=False)
    assert len(desk.pds.records) == 1

    assert await writing.delete(desk.cookie, written.uri) == Outcome()
    assert desk.pds.records == {}


async def test_a_write_of_unknown_outcome_is_not_called_done(desk: Desk) -> None:
    writing = Writing(desk.writer)
    desk.losing(CREATE, before=True)
    for work in (
        writing.post(desk.cookie, "hello", reply="", langs=[], once="a"),
        writing.like(desk.cookie, desk.bobs, desk.bobs_cid, wanted=True),
        writing.follow(desk.cookie, BOB, wanted=True),
    ):
        assert await desk.moving(work) == Outcome(confirmed=False)

    desk.pds.instead.clear()
    again = await writing.post(desk.cookie, "hello", reply="", langs=[], once="a")
    assert list(desk.pds.records) == [again.uri]
    desk.losing(DELETE, before=True)
    assert await desk.moving(writing.delete(desk.cookie, again.uri)) == Outcome(confirmed=False)


async def test_what_is_surely_not_done_is_raised(desk: Desk) -> None:
    writing = Writing(desk.writer)

    with pytest.raises(BadInput):
        await writing.post(desk.cookie, "", reply="", langs=[], once="a")
    with pytest.raises(Refused):
        await writing.like("no cookie", desk.bobs, desk.bobs_cid, wanted=True)
    assert desk.pds.records == {}
