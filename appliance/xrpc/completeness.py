"""Our own methods: how complete a timeline is, what came late, and certificates for anybody to check."""

from __future__ import annotations

from typing import Any

import orjson

from appliance.clock import Clock
from appliance.errors import Refused
from appliance.store.completeness import Account, Doubt
from appliance.timeline.answering import Answer
from appliance.timeline.completeness import LAG_MAX_S, Completeness, Report
from appliance.timeline.json_text import instant
from appliance.xrpc.methods import Access, Call, Method

NO_HANDLE = "handle.invalid"


def methods(completeness: Completeness, clock: Clock) -> list[Method]:
    """The queries of docs/xrpc-own.md."""

    async def get_completeness(call: Call) -> Answer:
        viewer = _member(call)
        report = await completeness.of(viewer)
        doubts = [] if report.state == "complete" else await completeness.doubts(viewer)
        return Answer(orjson.dumps(_report(report, doubts, clock.now_us())))

    async def list_accounts(call: Call) -> Answer:
        p = call.parameters
        found, cursor = await completeness.accounts(
            _member(call),
            cursor=p.get("cursor", ""),
            limit=p["limit"],
            incomplete=p["only"] == "incomplete",
        )
        body: dict[str, Any] = {"accounts": [account_json(one) for one in found]}
        if cursor:
            body["cursor"] = cursor
        return Answer(orjson.dumps(body))

    async def list_late_arrivals(call: Call) -> Answer:
        p = call.parameters
        rows, marker, more = await completeness.late(_member(call), p["since"], p["limit"])
        arrivals = [
            {
                "uri": row.uri,
                "sortAt": instant(row.sort_ms),
                "arrivedAt": instant(row.arrived_us // 1000),
                "arrival": row.arrival,
            }
            for row in rows
        ]
        return Answer(orjson.dumps({"marker": marker, "more": more, "arrivals": arrivals}))

    async def get_certificate(call: Call) -> Answer:
        found = await completeness.certificate(call.parameters["actor"])
        body = {"account": account_json(found.account), "collections": found.collections}
        return Answer(orjson.dumps(body))

    return [
        Method("computer.aesthetic.appliance.getCompleteness", Access.REQUIRED, get_completeness),
        Method("computer.aesthetic.appliance.listAccounts", Access.REQUIRED, list_accounts),
        Method("computer.aesthetic.appliance.listLateArrivals", Access.REQUIRED, list_late_arrivals),
        Method("computer.aesthetic.appliance.getCertificate", Access.PUBLIC, get_certificate),
    ]


def account_json(account: Account) -> dict[str, Any]:
    """One account as ``defs#account``."""
    found: dict[str, Any] = {
        "did": account.did,
        "handle": account.handle or NO_HANDLE,
        "state": account.shown,
        "repoState": account.state,
        "reason": account.reason,
        **_given("since", account.since_us or None),
        **_given("until", account.proved_us),
    }
    if account.shown == "waiting":
        found |= _given("nextTryAt", account.next_at_us or None)
    if account.shown == "catching-up":
        found |= {"pages": account.pages, "rows": account.rows}
    if account.rev is not None and account.certified_us is not None:
        certificate = {
            "rev": account.rev,
            "method": account.method or "",
            "certifiedAt": instant(account.certified_us // 1000),
            "count": account.records or 0,
        }
        if account.digest is not None:
            certificate["digest"] = account.digest.hex()
        found["certificate"] = certificate
    return found


def _report(report: Report, doubts: list[Doubt], now_us: int) -> dict[str, Any]:
    live = report.down_since_us is None and report.lag_s is not None and report.lag_s <= LAG_MAX_S
    stream: dict[str, Any] = {"live": live, **_given("positionAt", report.position_us)}
    if report.lag_s is not None:
        stream["lagMs"] = round(report.lag_s * 1000)
    found: dict[str, Any] = {
        "state": report.state,
        **_given("until", report.until_us),
        **_given("notLiveSince", report.down_since_us),
        "checkedAt": instant(now_us // 1000),
        **_given("oldestCheckAt", report.oldest_check_us),
        "accounts": {
            "total": report.total,
            "complete": report.complete,
            "completeUntil": report.doubtful,
            "catchingUp": report.catching_up,
            "waiting": report.waiting,
            "inactive": report.inactive,
        },
        "records": report.records,
        "waiting": [
            {
                "reason": wait.reason,
                "accounts": wait.accounts,
                **_given("nextTryAt", wait.next_at_us),
            }
            for wait in report.waits
        ],
        "stream": stream,
        "doubts": [
            {
                "reason": doubt.reason,
                **_given("from", doubt.from_us),
                **_given("to", doubt.to_us),
                **_given("noticedAt", doubt.noticed_us or None),
                "accounts": doubt.accounts,
                "dids": doubt.dids,
            }
            for doubt in doubts
        ],
        "marker": report.arrival,
    }
    if report.history_since:
        found["historySince"] = report.history_since
    return found


def _given(name: str, us: int | None) -> dict[str, str]:
    return {} if us is None else {name: instant(us // 1000)}


def _member(call: Call) -> str:
    did = call.asker.did
    assert did is not None
    if not call.asker.member:
        raise Refused("Only members keep anything here", name="NotAMember")
    return did
