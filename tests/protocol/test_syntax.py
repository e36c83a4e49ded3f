"""The published syntax vectors, every file, and the cases that they leave out."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from appliance.errors import BadInput
from appliance.protocol import cid, syntax, tid
from tests.shared import shared

FILES: list[tuple[str, Callable[[str], bool], int, int]] = [
    ("atidentifier", syntax.is_at_identifier, 11, 22),
    ("aturi", syntax.is_at_uri, 23, 72),
    ("cid", syntax.is_cid, 8, 10),
    ("datetime", syntax.is_datetime, 35, 45),
    ("did", syntax.is_did, 24, 18),
    ("handle", syntax.is_handle, 71, 48),
    ("language", syntax.is_language, 18, 7),
    ("nsid", syntax.is_nsid, 25, 27),
    ("recordkey", syntax.is_record_key, 16, 11),
    ("tid", syntax.is_tid, 4, 9),
    ("uri", syntax.is_uri, 9, 12),
]


def cases(name: str) -> list[str]:
    lines = shared(f"interop-tests/syntax/{name}.txt").read_text().split("\n")
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize(("name", "check", "valid", "invalid"), FILES, ids=[row[0] for row in FILES])
def test_the_published_vectors_are_told_apart(
    name: str, check: Callable[[str], bool], valid: int, invalid: int
) -> None:
    good, bad = cases(f"{name}_syntax_valid"), cases(f"{name}_syntax_invalid")

    assert [case for case in good if not check(case)] == []
    assert [case for case in bad if check(case)] == []
    assert (len(good), len(bad)) == (valid, invalid)


def test_every_syntax_file_is_used() -> None:
    files = {path.name for path in shared("interop-tests/syntax").iterdir()}

    named = {f"{name}_syntax_{kind}.txt" for name, *_ in FILES for kind in ("valid", "invalid")}
    assert files == named | {"datetime_parse_invalid.txt", "language_parse_invalid.txt"}


def test_datetimes_of_no_calendar_are_refused() -> None:
    bad = cases("datetime_parse_invalid")

    assert [case for case in bad if syntax.is_datetime(case)] == []
    assert len(bad) == 7
    for case in bad:
        with pytest.raises(BadInput):
            syntax.parse_datetime_us(case)


def test_languages_with_repeated_parts_are_refused() -> None:
    bad = cases("language_parse_invalid")

    assert [case for case in bad if syntax.is_language(case)] == []
    assert len(bad) == 4


def test_every_valid_datetime_parses() -> None:
    assert [syntax.parse_datetime_us(case) for case in cases("datetime_syntax_valid")][:3] == [
        482_196_050_123_000,
        482_196_050_000_000,
        946_684_800_000_000,
    ]
    assert syntax.parse_datetime_us("0000-01-01T00:00:00.000Z") == -62_167_219_200_000_000
    assert syntax.parse_datetime_us("0001-01-01T00:00:00Z") == -62_135_596_800_000_000
    assert syntax.parse_datetime_us("0000-12-31T23:59:59.999999Z") == -62_135_596_800_000_001
    assert syntax.parse_datetime_us("1970-01-01T00:00:00.0000019Z") == 1


@pytest.mark.parametrize(
    "text",
    ["2026-02-30T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:00Z\n", "２026-01-01T00:00:00Z"],
)
def test_near_datetimes_are_refused(text: str) -> None:
    assert not syntax.is_datetime(text)


@pytest.mark.parametrize(("name", "check", "valid", "invalid"), FILES, ids=[row[0] for row in FILES])
def test_nothing_passes_with_a_newline_or_a_null_behind_it(
    name: str, check: Callable[[str], bool], valid: int, invalid: int
) -> None:
    for case in cases(f"{name}_syntax_valid"):
        assert not check(case + "\n")
        assert not check(case + "\0")
        assert not check("\n" + case)
    assert not check("")
    assert not check("é.test")


def test_an_address_comes_apart_and_together() -> None:
    uri = syntax.parse_at_uri("at://did:plc:abc/app.bsky.feed.post/3jzfcijpj2z2a")

    assert uri == syntax.AtUri("did:plc:abc", "app.bsky.feed.post", "3jzfcijpj2z2a")
    for text in cases("aturi_syntax_valid"):
        assert str(syntax.parse_at_uri(text)) == text
    assert syntax.parse_at_uri("at://user.test") == syntax.AtUri("user.test", "", "")
    with pytest.raises(BadInput):
        syntax.parse_at_uri("at://user.test/")


def test_names_have_one_spelling() -> None:
    assert syntax.normalise_handle("User.Test") == "user.test"
    assert syntax.normalise_did("did:web:Example.COM%3a8080") == "did:web:example.com%3A8080"
    assert syntax.normalise_did("did:plc:abc") == "did:plc:abc"
    # A dot behind it would be a second name of the same host.
    dotted = ("did:web:host.test.", "did:web:host.test.%3A80", "did:web:host.test.%3a80")
    for text in ("did:key:zQ3sh", "did:web:host:path", "user.test", "", *dotted):
        with pytest.raises(BadInput):
            syntax.normalise_did(text)
    with pytest.raises(BadInput):
        syntax.normalise_handle("@user.test")


def test_a_tid_tells_its_time_and_its_clock() -> None:
    assert (tid.tid_us("3jzfcijpj2z2a"), tid.tid_clock("3jzfcijpj2z2a")) == (1_688_137_381_887_007, 6)
    assert tid.tid_of(1_688_137_381_887_007, 6) == "3jzfcijpj2z2a"
    assert tid.tid_of(0) == "2222222222222"
    assert tid.tid_of(2**53 - 1, 1023) == "bzzzzzzzzzzzz"
    for number in (-1, 2**53):
        with pytest.raises(BadInput):
            tid.tid_of(number)
    with pytest.raises(BadInput):
        tid.tid_us("kjzfcijpj2z2a")


def test_tids_rise_though_the_clock_steps_back() -> None:
    times = iter([100, 100, 50, 51, 200, 3, 201])
    generator = tid.TidGenerator(lambda: next(times), 7)

    made = [generator.next() for _ in range(6)]

    assert made == sorted(set(made))
    assert [tid.tid_us(text) for text in made] == [100, 101, 102, 103, 200, 201]
    assert generator.next(after=tid.tid_of(5000, 1023)) == tid.tid_of(5001, 7)


def test_a_generator_goes_on_after_an_earlier_one() -> None:
    generator = tid.TidGenerator(lambda: 1, 0, after=tid.tid_of(900, 1023))

    assert generator.next() == tid.tid_of(901, 0)


def test_a_cid_has_one_spelling() -> None:
    raw = cid.cid_of(b"x")
    text = cid.to_text(raw)

    assert cid.from_text(text) == raw
    assert len(text) == cid.TEXT_LENGTH
    # The last character carries spare bits; the codec must not forgive them.
    spare = [text[:-1] + last for last in "abcdefghijklmnopqrstuvwxyz234567" if last != text[-1]]
    others = [text.upper(), text[:-1], text + "a", "z" + text[1:], "", "b", "bafybei" + text[7:], "é" * 59]
    refused = 0
    for case in others + spare:
        try:
            assert cid.to_text(cid.from_text(case)) == case
        except BadInput:
            refused += 1
    assert refused >= len(others) + 24


def test_the_order_key_sorts_as_the_texts_do() -> None:
    texts = [cid.to_text(cid.cid_of(str(n).encode())) for n in range(2000)]

    assert sorted(texts) == sorted(texts, key=cid.order_key)
    assert max(map(cid.order_key, texts)) < 2**60
    for text in ("", "bafy", "!" * 59, "bafyrei" + "\u0661" * 52):
        with pytest.raises(BadInput):
            cid.order_key(text)
