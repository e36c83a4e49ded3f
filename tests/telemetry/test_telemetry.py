"""Log lines and counters."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from appliance import telemetry


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield io.StringIO()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    for handler in before:
        root.addHandler(handler)
    root.setLevel(level)


def test_a_line_is_an_event_and_its_fields(stream: io.StringIO) -> None:
    telemetry.configure("info", "json", stream)
    log = telemetry.Log("ingest")
    log.debug("not_written")
    log.info("gap_found", source="a", from_us=1, late=True, error=ValueError("x"))
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(lines) == 1
    assert lines[0].pop("time").endswith("Z")
    assert lines[0] == {
        "level": "info", "source": "ingest", "event": "gap_found", "late": True, "from_us": 1,
        "error": "ValueError: x",
    } | {"source": "a"}  # fmt: skip


@pytest.mark.parametrize("form", ["json", "text"])
def test_secrets_and_line_breaks_do_not_get_into_the_log(stream: io.StringIO, form: str) -> None:
    telemetry.configure("debug", form, stream)
    log = telemetry.Log("auth")
    token = "eyJhbGciOiJFUzI1NksifQ.eyJpc3MiOiJkaWQ6cGxjOng" + "." + "c2lnbmF0dXJl"
    log.warning("refused", access_token="abc123", why=f"bad {token} here", name="a\nforged line")
    log.info("login", password="hunter2", note="pass abcd-efgh-2345-wxyz given")
    logging.getLogger("library").warning("header %s", token)
    text = stream.getvalue()
    for secret in ("abc123", "hunter2", "eyJ", "abcd-efgh"):
        assert secret not in text
    assert len(text.splitlines()) == 3


def test_a_trace_is_written_for_what_nobody_foresaw(stream: io.StringIO) -> None:
    telemetry.configure("info", "json", stream)
    try:
        raise RuntimeError("boom")
    except RuntimeError as error:
        telemetry.Log("x").error("task_failed", trace=error)
    assert "RuntimeError: boom" in json.loads(stream.getvalue())["trace"]


def test_metrics_come_out_in_prometheus_format() -> None:
    counted = telemetry.counter("test_things", "Things seen by a test.", ["kind"])
    counted.labels("a").inc(41)
    depth = telemetry.gauge("test_depth", "Depth.")
    depth.set_function(lambda: 7.0)
    text = telemetry.metrics().decode()
    assert 'appliance_test_things_total{kind="a"} 41.0' in text
    assert "appliance_test_depth 7.0" in text
