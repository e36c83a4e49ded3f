"""Accounts in every state, doubts and late rows, for the page of details."""

from __future__ import annotations

from appliance.store.completeness import Account, Doubt, Late
from appliance.timeline.completeness import Report
from tests.web.samples import NOW_US, did_of
from tests.web.site_rig import Site

HOUR_US = 3_600_000_000


def account(name: str, shown: str, **more: object) -> Account:
    """Certified five hours ago, unless told."""
    plain = Account(
        actor=1,
        did=did_of(name),
        handle=name,
        shown=shown,
        state="LIVE",
        reason="",
        since_us=NOW_US - HOUR_US,
        next_at_us=NOW_US + 600_000_000,
        attempts=0,
        proved_us=None,
        pages=0,
        rows=0,
        rev="3l5zoqfzlqk2a",
        certified_us=NOW_US - 5 * HOUR_US,
        method="signed",
        digest=b"d" * 32,
        records=412,
        history_since="",
    )
    return plain._replace(**more)  # type: ignore[arg-type]


def furnish(site: Site) -> None:
    """Put one of each on the shelf."""
    site.shelf.report = Report(
        "catching-up", lag_s=0.4, total=9, complete=5, doubtful=1, catching_up=1, waiting=1, inactive=1,
        records=4711, arrival=500,
    )  # fmt: skip
    site.shelf.known = [
        account("whole.test", "complete"),
        account("doubt.test", "complete-until", proved_us=NOW_US - 2 * HOUR_US, reason="stream gap: too old"),
        account("new.test", "catching-up", rev=None, certified_us=None, pages=3, rows=300),
        account("wait.test", "waiting", reason="host: no answer in time"),
        account("off.test", "inactive", reason="deactivated"),
        account("a-rather-long-handle-that-goes-on-and-on.example-of-a-university.test", "complete"),
    ]
    site.shelf.in_doubt = [
        Doubt(
            "stream gap: too old", NOW_US - 2 * HOUR_US, NOW_US - HOUR_US, 1, NOW_US, [did_of("doubt.test")]
        )
    ]
    site.shelf.arrived = [
        Late(
            f"at://{did_of('new.test')}/app.bsky.feed.post/3k",
            "new.test",
            NOW_US // 1000 - 90_000_000,
            NOW_US,
            77,
        ),
        Late(
            f"at://{did_of('new.test')}/app.bsky.feed.repost/3m", None, NOW_US // 1000 - 7_200_000, NOW_US, 78
        ),
    ]
