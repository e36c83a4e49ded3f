import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import BadInput
from appliance.protocol.cid import cid_of, order_key, to_text
from appliance.store.timeline import NEWEST, Place
from appliance.timeline import cursors

TIMES = st.integers(-(2**45), 2**45)
IDS = st.integers(1, 2**50)
TIES = st.integers(0, 2**60 - 1)


@given(TIMES, TIES, IDS)
def test_a_cursor_leads_back_to_its_place(ms: int, tie: int, number: int) -> None:
    place = Place(ms, tie, number)

    assert cursors.parse(cursors.text_of(place, ambiguous=True)) == place
    assert cursors.parse(cursors.text_of(place, ambiguous=False)) == (ms, tie, 0)


@given(TIMES, st.binary(min_size=1, max_size=40), IDS)
def test_it_reads_like_those_that_clients_know(ms: int, block: bytes, number: int) -> None:
    cid = to_text(cid_of(block))

    text = cursors.text_of(Place(ms, order_key(cid), number), ambiguous=False)

    assert f"{ms}__{cid}".startswith(text)
    assert cursors.parse(f"{ms}__{cid}") == (ms, order_key(cid), 0)


@given(st.binary(min_size=1, max_size=40), st.text("abcxyz234567", min_size=1, max_size=30))
def test_any_text_has_its_place_among_the_cids(block: bytes, text: str) -> None:
    cid = to_text(cid_of(block))
    if text[:7] == cid[:7]:
        return
    tie = cursors.parse(f"5__{text}").tie

    assert (order_key(cid) < tie) == (cid < text)


def test_no_cursor_is_the_beginning() -> None:
    assert cursors.parse(None) == cursors.parse("") == NEWEST


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "5",
        "5__",
        "__b",
        "1__2__3",
        "1.5__x",
        "a__b",
        "5__bafyreiUPPER",
        "5__a__b",
        "9" * 30 + "__a",
        "5__x.y",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(BadInput):
        cursors.parse(text)


@given(st.text(max_size=60))
def test_no_text_makes_anything_else_than_a_place_or_a_refusal(text: str) -> None:
    try:
        place = cursors.parse(text)
    except BadInput:
        return
    assert all(isinstance(part, int) and abs(part) < 2**63 for part in place)
