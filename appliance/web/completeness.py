"""How complete a timeline is, in words: never more than the rows say."""

from __future__ import annotations

from typing import NamedTuple

from appliance.web.doors import Progress

LAG_MAX_S = 60.0


class Line(NamedTuple):
    """One line above the rows. ``sign`` says the same to whoever can't tell the colours apart."""

    sign: str
    title: str
    detail: str
    busy: bool


def of_timeline(progress: Progress) -> Line:
    """About everybody whom somebody follows."""
    active = progress.total - progress.inactive
    accounts = _accounts(active)
    rest = f" {_accounts(progress.inactive)} deactivated or gone." if progress.inactive else ""
    lag_s = progress.stream_lag_s
    if lag_s is None:
        return Line("…", "Connecting", "Waiting for the live stream of the network.", True)
    if lag_s > LAG_MAX_S:
        return Line("!", "Not live", f"New posts are {_span(lag_s)} behind.{rest}", True)
    if progress.loading:
        return Line(
            "…",
            "Catching up",
            f"Loading the history of {progress.loading} of {accounts}. Earlier posts may still appear.{rest}",
            True,
        )
    if progress.waiting or progress.doubtful:
        open_ = progress.waiting + progress.doubtful
        return Line("…", "Nearly complete", f"{open_} of {accounts} being checked again.{rest}", True)
    if progress.live < active:
        return Line("…", "Being checked", f"{progress.live} of {accounts} complete.{rest}", True)
    if progress.since:
        detail = f"Every post of {accounts} from then on, live. Older ones are not loaded here.{rest}"
        return Line("✓", f"Complete since {progress.since}", detail, False)
    return Line("✓", "Complete", f"Every post of {accounts}, live.{rest}", False)


def of_account(progress: Progress | None) -> Line | None:
    """About one account's history; None where there is nothing to say."""
    if progress is None or not progress.total:
        return None
    if progress.live:
        if not progress.since:
            return None
        return Line("✓", f"Complete since {progress.since}", "Older posts are not loaded here.", False)
    if progress.loading:
        return Line("…", "Loading history", "Earlier posts may still appear.", True)
    if progress.inactive:
        return Line("!", "Not active", "This account is deactivated, gone, or its server is.", True)
    return Line("…", "Being checked", "Some posts may be missing until then.", True)


def _accounts(number: int) -> str:
    return "1 account" if number == 1 else f"{number} accounts"


def _span(seconds: float) -> str:
    if seconds < 5400:
        return f"{max(1, round(seconds / 60))} min"
    return f"{round(seconds / 3600)} h" if seconds < 172_800 else f"{round(seconds / 86_400)} days"
