import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.timeline import labelers
from appliance.timeline.labelers import Labeler

DEFAULT = labelers.default(["did:plc:default"])


@pytest.mark.parametrize(
    ("header", "found"),
    [
        (None, DEFAULT),
        ("", ()),
        ("  ", ()),
        ("did:plc:a", (Labeler("did:plc:a", False),)),
        ("did:plc:a;redact", (Labeler("did:plc:a", True),)),
        ("did:plc:a ; redact , did:plc:b", (Labeler("did:plc:a", True), Labeler("did:plc:b", False))),
        ("did:plc:a,did:plc:a;redact", (Labeler("did:plc:a", True),)),
        ("not-a-did", DEFAULT),
        ("did:plc:a,,did:plc:b", DEFAULT),
    ],
)
def test_the_header_is_read(header: str | None, found: tuple[Labeler, ...]) -> None:
    assert labelers.parse(header, DEFAULT) == found


def test_the_echo_names_those_that_were_applied() -> None:
    assert labelers.text_of(labelers.parse("did:plc:a;redact, did:plc:b", ())) == "did:plc:a;redact,did:plc:b"


@given(st.text(max_size=200))
def test_no_header_breaks_it(header: str) -> None:
    assert len(labelers.parse(header, DEFAULT)) <= labelers.LABELERS_MAX


def test_a_long_list_is_cut() -> None:
    header = ",".join(f"did:plc:l{number}" for number in range(100))
    assert len(labelers.parse(header, DEFAULT)) == labelers.LABELERS_MAX
