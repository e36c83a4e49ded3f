"""What commands print for people: the report of an audit, and the status."""

from __future__ import annotations

import math
from typing import Any

_KINDS = ("missing", "extra", "differing", "repaired")


def percent(rate: float) -> str:
    """A share, cut and never rounded up: 100 % is all of it."""
    if rate >= 1:
        return "100 %"
    return f"{math.floor(rate * 1_000_000) / 10_000:.4f} %"


def audit_report(result: dict[str, Any]) -> str:
    """The end of an audit, as lines."""
    lines = []
    for one in result["notWhole"]:
        name = f"{one['handle'] or one['did']:32}"
        if one["error"]:
            lines.append(f"{name} {one['state']:9} {one['error']}")
        else:
            words = ", ".join(f"{one[kind]} {kind}" for kind in _KINDS if one[kind])
            lines.append(f"{name} {one['state']:9} {one['here']} here, {one['there']} there: {words}")
    if lines:
        lines.append("")
    rows = [
        ("accounts", f"{result['accounts']}"),
        ("  whole", f"{result['whole']}"),
        ("  not compared", f"{result['failed']}"),
        ("  not active", f"{result['aside']}"),
        ("records here", f"{result['here']}"),
        ("records there", f"{result['there']}"),
        *((kind, f"{result[kind]}") for kind in _KINDS),
        ("rate", percent(result["rate"])),
        ("seconds", f"{result['seconds']:.1f}"),
    ]
    lines += [f"{name:16}{value:>12}" for name, value in rows]
    lines.append("")
    if result["complete"]:
        lines.append("Complete: every account equals its own server.")
    elif result["accounts"] == result["aside"]:
        lines.append("Nothing was compared, so nothing is proved.")
    else:
        lines.append("NOT complete.")
        if any(result[kind] for kind in _KINDS[:3]) and not result["repair"]:
            lines.append("audit --repair mends what was found.")
        elif result["repaired"]:
            lines.append("What was mended differed until now: audit again to see that all is well.")
    return "\n".join(lines)


def status_report(told: dict[str, Any]) -> str:
    """The status, as lines: what is wrong first."""
    lines = ["healthy" if told["healthy"] else "NOT healthy"]
    for problem in told["problems"]:
        mark = "!" if problem["grave"] else "-"
        lines += [f"{mark} {problem['words']}", f"    {problem['hint']}"]
    stream, disk, process = told["stream"], told["disk"], told["process"]
    behind = "unknown" if stream["lagSeconds"] is None else f"{stream['lagSeconds']} s behind"
    lines += [
        "",
        f"version     {told['version']}, up {_span(told['uptimeSeconds'])}"
        if told["running"]
        else f"version     {told['version']}, not running",
        (
            f"stream      {'live' if stream['live'] else 'not live'}, {behind},"
            f" read up to {stream['positionAt'] or 'nothing yet'}, {stream['queued']} events wait"
        ),
    ]
    for upstream in told["upstreams"]:
        place = upstream["sequence"] if upstream["sequence"] is not None else upstream["positionAt"]
        lines.append(f"upstream    {upstream['name']} at {place}, {upstream['events']} events")
    for connection in told["coverage"]:
        whom = "all accounts" if connection["accounts"] is None else f"{connection['accounts']} accounts"
        lines.append(f"coverage    {connection['mode']} of {whom} from {connection['from'] or 'the tip'}")
    lines.append(f"members     {told['members']}")
    for state, one in told["accounts"].items():
        lines.append(f"accounts    {one['number']:>8} {state}, the first since {one['oldest']}")
    lines += [
        f"records     {told['records']} under certificates",
        (
            f"doubts      {told['doubts']['accounts']} accounts; gaps {told['gaps']['open']} open,"
            f" {told['gaps']['lastDay']} within a day"
        ),
    ]
    for level, one in told["audits"].items():
        lines.append(
            f"audits      {level}: {one['lastDay']} within a day, {one['due']} due, {one['overdue']} overdue,"
            f" {one['failed']} failed"
        )
    archive = told["archive"]
    if archive is not None:
        how = f"ended: {archive['outcome'] or 'done'}" if archive["endedAt"] else f"at {archive['upTo']}"
        lines.append(f"archive     {archive['source']}, {archive['rows']} rows, {how} of {archive['tip']}")
    canary = told["canary"]
    if canary["seen"] is not None:
        lines.append(f"canary      {'seen' if canary['seen'] else 'NOT seen'}, last {canary['last']}")
    for door, one in told["findings"].items():
        lines.append(f"findings    {door}: {one['open']} open, {one['lastDay']} within a day")
    lines += [
        f"dead        {told['deadLetters']} events",
        (
            f"disk        database {_size(disk['databaseBytes'])}, log {_size(disk['walBytes'])},"
            f" free {_size(disk['freeBytes'])}"
        ),
    ]
    if told["running"]:
        lines.append(f"process     {_size(process['residentBytes'])}, {process['openFiles']} open files")
    return "\n".join(lines)


def _size(number: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000 or unit == "GB":
            return f"{number} {unit}"
        number //= 1000
    raise AssertionError("the last unit takes all")


def _span(seconds: int) -> str:
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h" if seconds < 172_800 else f"{seconds // 86_400} days"
