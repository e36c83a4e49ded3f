"""``audit`` for the operator: accounts compared with their own servers, told one by one, then added up."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from typing import Any, Final, get_args

from appliance.backfill.audit import Auditor, Report
from appliance.clock import Clock
from appliance.errors import BadInput, NotFound
from appliance.identity.identities import Identities
from appliance.ops.control import Done, LongCommand
from appliance.protocol import syntax
from appliance.store import actor_reads, standing
from appliance.store.audits import Level
from appliance.store.database import Database

ASIDE: Final = ("INACTIVE", "GONE")
# Of so many accounts that are not whole the result names each; beyond that they were told on the way.
NAMED_MAX: Final = 1000


@dataclass
class Totals:
    """Everything added up. ``whole`` are accounts without a difference; ``failed`` could not be report."""

    accounts: int = 0
    whole: int = 0
    aside: int = 0
    failed: int = 0
    here: int = 0
    there: int = 0
    missing: int = 0
    extra: int = 0
    differing: int = 0
    repaired: int = 0
    named: list[dict[str, Any]] = field(default_factory=list)

    def add(self, told: dict[str, Any]) -> None:
        """One account more."""
        self.accounts += 1
        if not told["error"]:
            for name in ("here", "there", "missing", "extra", "differing", "repaired"):
                setattr(self, name, getattr(self, name) + told[name])
        if told["error"] and told["state"] in ASIDE:
            self.aside += 1
        elif told["error"]:
            self.failed += 1
        elif told["missing"] or told["extra"] or told["differing"]:
            pass
        else:
            self.whole += 1
            return
        if len(self.named) < NAMED_MAX:
            self.named.append(told)

    def is_complete(self) -> bool:
        """Whether all was compared and nothing found, repaired or not. Comparing nothing proves nothing."""
        wrong = self.missing + self.extra + self.differing + self.failed
        return wrong == 0 and self.whole > 0

    def rate(self) -> float:
        """Which part of the records there was here, as it should be, when it was report."""
        return 1.0 if self.there == 0 else (self.there - self.missing - self.differing) / self.there


def audit_command(database: Database, identities: Identities, auditor: Auditor, clock: Clock) -> LongCommand:
    """The long command. Its words: ``level=LEVEL``, ``repair``, then DIDs and handles, or ``--all``."""

    async def audit(arguments: list[str]) -> AsyncGenerator[Any, None]:
        level, repair, who = _parsed(arguments)
        if who == ["--all"]:
            dids = await database.read(standing.wanted_dids)
        else:
            dids = [await _did_of(database, identities, one) for one in who]
            tracked = set(await database.read(standing.wanted_dids))
            for did, named in zip(dids, who, strict=True):
                if did not in tracked:
                    raise NotFound(f"nobody here follows {named}: there is nothing to compare")
        dids = list(dict.fromkeys(dids))
        began_s = clock.monotonic_s()
        totals = Totals()
        yield {"done": 0, "total": len(dids), "seconds": 0.0}
        async for report in auditor.audit(dids, repair=repair, level=level):
            told = told_of(report)
            totals.add(told)
            yield {
                "done": totals.accounts,
                "total": len(dids),
                "seconds": round(clock.monotonic_s() - began_s, 3),
                "found": totals.missing + totals.extra + totals.differing,
                "account": told,
            }
        seconds = round(clock.monotonic_s() - began_s, 3)
        yield Done(result_of(totals, asked=len(dids), level=level, repair=repair, seconds=seconds))

    return audit


def told_of(report: Report) -> dict[str, Any]:
    """One account as JSON."""
    return {
        "did": report.did,
        "handle": report.handle,
        "state": report.state,
        "here": report.here,
        "there": report.there,
        "missing": report.missing,
        "extra": report.extra,
        "differing": report.differing,
        "repaired": report.repaired,
        "rev": report.rev,
        "method": report.method,
        "exact": report.exact,
        "error": report.error,
    }


def result_of(totals: Totals, *, asked: int, level: str, repair: bool, seconds: float) -> dict[str, Any]:
    """The report. An account of which nothing was heard counts as failed."""
    totals.failed += asked - totals.accounts
    found = asdict(totals)
    found["accounts"] = asked
    not_whole = found.pop("named")
    return {
        "complete": totals.is_complete(),
        "rate": totals.rate(),
        **found,
        "level": level,
        "repair": repair,
        "seconds": seconds,
        "notWhole": not_whole,
    }


def _parsed(arguments: list[str]) -> tuple[Level, bool, list[str]]:
    level: Level = "listing"
    repair, who = False, []
    for word in arguments:
        if word.startswith("level="):
            named = word.removeprefix("level=")
            if named not in get_args(Level):
                raise BadInput(f"the level is one of {', '.join(get_args(Level))}")
            level = named  # type: ignore[assignment]
        elif word == "repair":
            repair = True
        else:
            who.append(word)
    if not who or ("--all" in who and len(who) > 1):
        raise BadInput("name accounts by handle or DID, or say --all")
    return level, repair, who


async def _did_of(database: Database, identities: Identities, who: str) -> str:
    if who.startswith("did:"):
        return syntax.normalise_did(who)
    handle = syntax.normalise_handle(who.removeprefix("@"))

    def known(reader: Any) -> str | None:
        actor = actor_reads.find_actor(reader, handle)
        return None if actor is None else actor_reads.actors(reader, [actor])[0].did

    did = await database.read(known) or await identities.resolve_handle(handle)
    if did is None:
        raise NotFound(f"the handle {who} leads to no account")
    return did
