"""``audit`` for the operator: sums, the report, and what counts as complete."""

from __future__ import annotations

import io
from typing import Any

import pytest

from appliance.backfill.audit import Report
from appliance.ops import printed
from appliance.ops.auditing import Totals, result_of, told_of
from appliance.ops.progress_line import ProgressLine

WHOLE = Report("did:plc:a", "a.test", "LIVE", here=10, there=10, rev="r", method="listing", exact=True)


def result(*reports: Report, asked: int | None = None, repair: bool = False) -> dict[str, Any]:
    totals = Totals()
    for report in reports:
        totals.add(told_of(report))
    return result_of(
        totals, asked=len(reports) if asked is None else asked, level="listing", repair=repair, seconds=2.0
    )


def test_only_what_equals_everywhere_is_complete() -> None:
    found = result(WHOLE, WHOLE)

    assert (found["complete"], found["rate"], found["here"], found["there"]) == (True, 1.0, 20, 20)
    assert found["notWhole"] == []
    assert "Complete: every account equals its own server." in printed.audit_report(found)
    assert "100 %" in printed.audit_report(found)


@pytest.mark.parametrize(
    "report",
    [
        WHOLE._replace(here=9, missing=1),
        WHOLE._replace(here=11, extra=1),
        WHOLE._replace(differing=1),
        WHOLE._replace(here=9, missing=1, repaired=1),
        WHOLE._replace(error="host: no answer"),
    ],
)
def test_one_difference_or_one_account_not_compared_is_not_complete(report: Report) -> None:
    found = result(WHOLE, report, repair=report.repaired > 0)
    text = printed.audit_report(found)

    assert found["complete"] is False
    assert [one["did"] for one in found["notWhole"]] == [report.did]
    assert "NOT complete." in text
    assert "a.test" in text
    assert "NOT complete." in printed.audit_report(result(report))


def test_an_account_of_which_nothing_was_heard_was_not_compared() -> None:
    found = result(WHOLE, asked=2)

    assert (found["complete"], found["failed"], found["accounts"]) == (False, 1, 2)


def test_nothing_compared_proves_nothing() -> None:
    """Catalogue 103: an audit that looked at nobody finds nothing."""
    gone = Report("did:plc:b", None, "GONE", here=5, error="gone: not compared")

    assert result()["complete"] is False
    assert result(gone)["complete"] is False
    assert "Nothing was compared" in printed.audit_report(result(gone))
    assert result(gone, WHOLE)["complete"] is True
    assert result(gone, WHOLE)["here"] == 10


def test_a_rate_is_never_rounded_up_to_all_of_it() -> None:
    assert printed.percent(1.0) == "100 %"
    assert printed.percent(0.99999999) == "99.9999 %"
    assert printed.percent(0.5) == "50.0000 %"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_is_a_bar_on_a_terminal() -> None:
    out = Terminal()
    line = ProgressLine(out)

    line.step(0, 4, 0.0, 0.0)
    line.step(1, 4, 2.0, 2.0, "no difference")
    line.step(2, 4, 2.01, 2.01)
    line.step(4, 4, 8.0, 2.02)
    line.close()

    shown = out.getvalue().split("\r")
    assert shown[0] == ""
    assert shown[1].startswith("[........................] 0 of 4 accounts")
    assert shown[2].startswith("[######..................] 1 of 4 accounts, 0.5/s, 0:06 left, no difference")
    assert shown[3].startswith("[########################] 4 of 4 accounts, 0.5/s")
    assert len(shown) == 4
    assert out.getvalue().endswith("\n")


def test_progress_is_a_plain_line_now_and_then_elsewhere() -> None:
    out = io.StringIO()
    line = ProgressLine(out)

    for second in range(13):
        line.step(second, 7300, second, second)
    line.close()

    assert out.getvalue().splitlines() == [
        "0 of 7300 accounts",
        "5 of 7300 accounts, 1.0/s, 2:01:35 left",
        "10 of 7300 accounts, 1.0/s, 2:01:30 left",
    ]
