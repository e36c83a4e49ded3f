"""Labelers on a real wire: what they say is taken once, in order, and only if they signed it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from appliance.errors import Unavailable
from appliance.store import labels
from tests.labels.desk import ANN, BOB, POST, Desk, desk

STRANGER = "did:plc:" + "s" * 24


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk(tmp_path) as made:
        yield made


async def test_what_was_said_before_is_asked_for_and_what_is_said_now_is_heard(here: Desk) -> None:
    here.labeler.say(POST, "spam")
    here.labeler.say(STRANGER, "rude")
    async with here.listening():
        await here.until_rows((POST, "spam", 0))
        here.labeler.say(BOB, "bot")
        here.labeler.say(POST, "spam", neg=True)
        await here.until_rows((BOB, "bot", 0), (POST, "spam", 1))
        # Nobody here knew the stranger; once he is here, what was said of him long ago is asked for.
        await here.know(STRANGER)
        await here.until_rows((BOB, "bot", 0), (POST, "spam", 1), (STRANGER, "rude", 0))
    assert here.labeler.connections == [None]
    assert (await here.heard()).seq == 4


async def test_after_a_break_the_stream_goes_on_where_it_was(here: Desk) -> None:
    async with here.listening():
        here.labeler.say(ANN, "one")
        await here.until_rows((ANN, "one", 0))
    asked = len(here.labeler.asked)
    here.labeler.say(ANN, "two")
    here.labeler.faults.switch({"cut_every": 2})
    async with here.listening():
        await here.until_rows((ANN, "one", 0), (ANN, "two", 0))
        here.labeler.say(ANN, "three")
        here.labeler.say(ANN, "four")
        await here.until_rows(*((ANN, val, 0) for val in ("one", "two", "three", "four")))
        await here.until_heard(lambda heard: heard.seq == 4)
    assert here.labeler.faults.fired["cut_every"] >= 1
    assert here.labeler.connections[:4] == [None, 1, 3, 4][: len(here.labeler.connections)]
    assert len(here.labeler.asked) == asked


async def test_labels_with_a_bad_signature_or_in_another_name_are_refused_and_counted(here: Desk) -> None:
    async with here.listening():
        here.labeler.faults.switch({"bad_signatures": 1})
        here.labeler.say(ANN, "forged")
        here.labeler.faults.switch({"wrong_src": BOB})
        here.labeler.say(ANN, "borrowed")
        here.labeler.faults.switch({"wrong_src": "", "nonsense": 1})
        here.labeler.say(ANN, "right")
        await here.until_rows((ANN, "right", 0))
    heard = await here.heard()
    assert (heard.refused, heard.labels, heard.seq) == (2, 1, 3)
    assert {"bad_signatures", "wrong_src", "nonsense"} <= here.labeler.faults.fired.keys()


async def test_forged_labels_are_refused_also_where_they_are_asked_for(here: Desk) -> None:
    here.labeler.faults.switch({"bad_signatures": 1, "no_patterns": True})
    here.labeler.say(ANN, "forged")
    here.labeler.say(BOB, "right")
    async with here.listening():
        await here.until_rows((BOB, "right", 0))
    assert (await here.heard()).refused == 1
    assert here.labeler.faults.fired["no_patterns"] == 1


async def test_a_new_key_is_read_at_the_first_signature_that_does_not_hold(here: Desk) -> None:
    async with here.listening():
        here.labeler.say(ANN, "old")
        await here.until_rows((ANN, "old", 0))
        here.labeler.new_key()
        here.labeler.say(ANN, "new")
        await here.until_rows((ANN, "new", 0), (ANN, "old", 0))
    assert (await here.heard()).refused == 0


async def test_what_came_before_its_key_was_published_is_asked_for_again(here: Desk) -> None:
    async with here.listening():
        here.labeler.new_key(tell=False)
        here.labeler.say(ANN, "early")
        await here.until_heard(lambda heard: heard.refused == 1)
    here.labeler.publish()
    here.identities.forget(here.labeler.did)
    async with here.listening():
        await here.until_rows((ANN, "early", 0))


async def test_an_old_statement_that_is_told_again_brings_nothing_back(here: Desk) -> None:
    async with here.listening():
        here.labeler.say(ANN, "spam", cts_us=here.clock.now_us() - 1_000_000)
        here.labeler.say(ANN, "spam", neg=True)
        await here.until_rows((ANN, "spam", 1))
    here.labeler.told.pop()
    here.labeler.faults.switch({"replay": True})
    async with here.listening():
        here.labeler.say(BOB, "last")
        await here.until_rows((ANN, "spam", 1), (BOB, "last", 0))
    assert here.labeler.faults.fired["replay"] == 1


async def test_a_labeler_that_began_anew_or_forgot_our_place_is_asked_about_everybody_again(
    here: Desk,
) -> None:
    async with here.listening():
        here.labeler.say(ANN, "one")
        await here.until_rows((ANN, "one", 0))
    here.labeler.begin_anew()
    here.labeler.say(ANN, "hidden", tell=False)
    async with here.listening():
        await here.until_rows((ANN, "hidden", 0), (ANN, "one", 0))
        here.labeler.say(ANN, "new")
        await here.until_rows((ANN, "hidden", 0), (ANN, "new", 0), (ANN, "one", 0))
    here.labeler.say(BOB, "forgotten")
    here.labeler.faults.switch({"forget_before": 2})
    async with here.listening():
        await here.until_rows(*((ANN, val, 0) for val in ("hidden", "new", "one")), (BOB, "forgotten", 0))
    assert here.labeler.connections == [None, 1, None, 1]
    assert here.labeler.faults.fired["forget_before"] == 1


async def test_with_the_whole_network_in_scope_the_whole_stream_is_read(here: Desk) -> None:
    here.labeler.say(STRANGER, "rude")
    async with here.listening(everybody=True):
        await here.until_rows((STRANGER, "rude", 0))
    assert here.labeler.connections == [0]
    assert here.labeler.asked == []


async def test_labels_that_are_passed_on_can_be_checked_by_whoever_gets_them(here: Desk) -> None:
    said = here.labeler.say(ANN, "spam", exp="2999-01-01T00:00:00Z")
    async with here.listening():
        await here.until_rows((ANN, "spam", 0))
    (row,) = await here.database.read(lambda r: labels.stated(r, [ANN], [here.labeler.did]))
    assert (row.sig, row.exp, row.cts) == (said["sig"], said["exp"], said["cts"])


async def test_a_labeler_that_is_down_says_why_and_is_heard_once_it_is_back(here: Desk) -> None:
    here.labeler.faults.switch({"down": True})
    here.labeler.say(ANN, "spam")
    stream = here.stream()
    with pytest.raises(Unavailable):
        await stream.listen()
    here.labeler.faults.off()
    async with here.listening():
        await here.until_rows((ANN, "spam", 0))
    assert (await here.heard()).error == ""
