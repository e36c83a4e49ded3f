"""How complete a timeline is, in words: never more than the rows say."""

from __future__ import annotations

import datetime as dt
from typing import Final, NamedTuple

from appliance.store.completeness import Account, Doubt, Late
from appliance.store.repos import STREAM_GAP
from appliance.timeline.completeness import LAG_MAX_S, Report, Wait

DETAILS: Final = "/completeness"

# What stands in the way of those that wait, by the class of their reason.
IN_THE_WAY: Final = {
    "rate": "their server asks to wait",
    "host": "their server is not reachable",
    "data": "what their server gives can’t be read",
    "identity": "nobody knows their server",
    "refused": "their server refuses",
}
_STATES: Final = {
    "complete": ("✓", "Complete"),
    "complete-until": ("!", "Being checked again"),
    "catching-up": ("…", "Loading history"),
    "waiting": ("…", "Waiting"),
    "inactive": ("–", "Not active"),
}


class Line(NamedTuple):
    """One line above the rows. ``sign`` says the same to whoever can't tell the colours apart."""

    sign: str
    title: str
    detail: str
    busy: bool
    href: str = ""


class Entry(NamedTuple):
    """An account on the page of details."""

    handle: str
    path: str
    sign: str
    title: str
    detail: str
    proof: str


class Interval(NamedTuple):
    """A doubt on the page of details."""

    title: str
    detail: str
    who: list[tuple[str, str]]


class LateRow(NamedTuple):
    """A row on the page of details that arrived below what was on top."""

    kind: str
    handle: str
    path: str
    place: str
    arrived: str


def of_timeline(report: Report, now_us: int) -> Line:
    """About everybody whom somebody follows."""
    active = report.total - report.inactive
    accounts = _accounts(active)
    rest = f" {_accounts(report.inactive)} deactivated or gone." if report.inactive else ""
    until = f" Complete until {moment(report.until_us, now_us)}." if report.until_us else ""
    if report.state == "not-live":
        since = _span((now_us - (report.down_since_us or now_us)) / 1e6)
        return _line("!", "Not live", f"Live updates stopped {since} ago.{until}{rest}", busy=True)
    if report.state == "catching-up":
        detail = f"Loading the history of {report.catching_up} of {accounts}. Earlier posts may still appear."
        return _line("…", "Catching up", detail + rest, busy=True)
    if report.state == "waiting":
        detail = f"{report.waiting} of {accounts} can’t be read just now: {_ways(report.waits)}."
        return _line("…", "Waiting", detail + until + rest, busy=True)
    if report.state == "complete-until":
        title = f"Complete until {moment(report.until_us, now_us)}" if report.until_us else "Being checked"
        parts = []
        if report.lag_s is None:
            parts.append("The live stream is just being joined.")
        elif report.lag_s > LAG_MAX_S:
            parts.append(f"New posts are {_span(report.lag_s)} behind.")
        if report.doubtful:
            parts.append(f"{report.doubtful} of {accounts} being checked again.")
        return _line("!", title, " ".join(parts) + rest, busy=True)
    checked = ""
    if report.oldest_check_us is not None:
        checked = f" Oldest check {_span((now_us - report.oldest_check_us) / 1e6)} ago."
    if report.history_since:
        detail = (
            f"Every post of {accounts} from then on, live. Older ones are not loaded here.{checked}{rest}"
        )
        return _line("✓", f"Complete since {report.history_since}", detail, busy=False)
    return _line("✓", "Complete", f"Every post of {accounts}, live.{checked}{rest}", busy=False)


def of_account(account: Account | None, now_us: int) -> Line | None:
    """About one account's history; None where there is nothing to say."""
    if account is None:
        return None
    if account.shown == "complete":
        if not account.history_since:
            return None
        return Line("✓", f"Complete since {account.history_since}", "Older posts are not loaded here.", False)
    if account.shown == "catching-up":
        read = f" {_number(account.rows, 'record', 'records')} read so far." if account.rows else ""
        return Line("…", "Loading history", f"Earlier posts may still appear.{read}", True)
    if account.shown == "inactive":
        return Line("!", "Not active", "This account is deactivated, gone, or its server is.", True)
    if account.shown == "waiting":
        return Line("…", "Waiting", _sentence(_reason(account.reason)) + _again(account, now_us), True)
    if account.proved_us is not None:
        title = f"Complete until {moment(account.proved_us, now_us)}"
        return Line("!", title, "It is being checked again; later posts may be missing.", True)
    return Line("…", "Being checked", "Some posts may be missing until then.", True)


def entry(account: Account, now_us: int) -> Entry:
    """One account on the page of details."""
    sign, title = _STATES[account.shown]
    detail = ""
    if account.shown == "complete-until" and account.proved_us is not None:
        title = f"Complete until {moment(account.proved_us, now_us)}"
        detail = (
            f"being checked again: {_reason(account.reason)}" if account.reason else "being checked again"
        )
    elif account.shown == "catching-up":
        detail = f"{account.rows} records in {_number(account.pages, 'page', 'pages')} so far"
    elif account.shown == "waiting":
        detail = _reason(account.reason) + _again(account, now_us).rstrip(".")
    elif account.shown == "inactive":
        detail = account.reason
    elif account.history_since:
        title = f"Complete since {account.history_since}"
    if account.since_us and account.shown not in ("complete", "complete-until"):
        detail = "; ".join(part for part in (detail, f"since {moment(account.since_us, now_us)}") if part)
    proof = ""
    if account.certified_us is not None:
        method = {"listing": "listing", "signed": "signed copy"}.get(
            account.method or "", account.method or ""
        )
        ago = _span((now_us - account.certified_us) / 1e6)
        proof = f"checked {ago} ago by {method}, {_number(account.records or 0, 'record', 'records')}"
    handle = account.handle or account.did
    return Entry(handle, f"/profile/{handle}", sign, title, detail, proof)


def interval(doubt: Doubt, now_us: int) -> Interval:
    """One interval on the page of details."""
    begin = "an unknown time" if doubt.from_us is None else moment(doubt.from_us, now_us)
    end = "now" if doubt.to_us is None else moment(doubt.to_us, now_us)
    who = "Everybody" if not doubt.accounts else _accounts(doubt.accounts)
    detail = f"{who}: {_reason(doubt.reason)}. Some posts may be missing; they are being checked."
    return Interval(
        f"Between {begin} and {end}", detail, [(did, f"/profile/{did}") for did in doubt.dids[:5]]
    )


def late(row: Late, now_us: int) -> LateRow:
    """A row that came late; a repost has no page of its own, so its account's is named."""
    is_post = "/app.bsky.feed.post/" in row.uri
    return LateRow(
        kind="Post" if is_post else "Repost",
        handle=row.handle or "handle.invalid",
        path=f"/post/{row.uri}" if is_post else f"/profile/{row.uri.removeprefix('at://').split('/')[0]}",
        place=moment(row.sort_ms * 1000, now_us),
        arrived=moment(row.arrived_us, now_us),
    )


def moment(us: int | None, now_us: int) -> str:
    """A time of day, with the date unless it is today's."""
    if us is None:
        return "an unknown time"
    at = dt.datetime.fromtimestamp(us / 1e6, dt.UTC)
    now = dt.datetime.fromtimestamp(now_us / 1e6, dt.UTC)
    if at.date() == now.date():
        return f"{at:%H:%M} UTC"
    return f"{at.day} {at:%b}" + (f" {at.year}" if at.year != now.year else "") + f", {at:%H:%M} UTC"


def _line(sign: str, title: str, detail: str, *, busy: bool) -> Line:
    return Line(sign, title, detail, busy, DETAILS)


def _ways(waits: tuple[Wait, ...]) -> str:
    words = [(IN_THE_WAY.get(wait.reason, "something is in the way"), wait.accounts) for wait in waits]
    if len(words) == 1:
        return words[0][0]
    return ", ".join(f"{way} ({number})" for way, number in words)


def _reason(reason: str) -> str:
    kind, colon, rest = reason.partition(":")
    if kind == STREAM_GAP:
        return "the live stream had a gap"
    if kind in IN_THE_WAY:
        return IN_THE_WAY[kind] + (f" ({rest.strip()})" if colon and rest.strip() else "")
    return reason


def _again(account: Account, now_us: int) -> str:
    if account.next_at_us <= now_us:
        return ". Tried again now."
    return f". Tried again in {_span((account.next_at_us - now_us) / 1e6)}."


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _accounts(number: int) -> str:
    return _number(number, "account", "accounts")


def _number(number: int, one: str, many: str) -> str:
    return f"1 {one}" if number == 1 else f"{number} {many}"


def _span(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{round(seconds / 3600)} h" if seconds < 172_800 else f"{round(seconds / 86_400)} days"
