"""The revs of many accounts of one host at once, where its list of repositories is short enough for that."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from appliance import crash_points
from appliance.backfill import job
from appliance.backfill.audit import RUNS, by_rev
from appliance.backfill.pds import Pds
from appliance.backfill.tools import FUTURE_US, Tools, log
from appliance.errors import BadInput
from appliance.protocol import syntax, tid
from appliance.store import audits, repos
from appliance.store.audits import OnHost
from appliance.store.database import Transaction
from appliance.store.repos import Repo

# A page of a thousand costs the host more than a look at one account.
ACCOUNTS_PER_PAGE: Final = 10
ACCOUNTS_PER_WRITE: Final = 200


async def compare_listed(tools: Tools, pds: Pds, accounts: Sequence[OnHost], spread: float) -> int:
    """Compare these revs with the host's own list; of how many that has decided something.

    Gives up, for a day, on a host whose list is longer than asking for each would be. Who is not found, or
    not active there, is left for a look of its own. Raises as Pds.
    """

    def begin(tx: Transaction) -> dict[str, Repo]:
        began = {}
        for account in accounts:
            repo = repos.find(tx, account.actor)
            if repo is None or not (repo.state == "LIVE" or job.is_auditable(repo)):
                continue
            if repo.state == "SUSPECT":
                repos.examine(tx, account.actor, repo.epoch)
            began[account.did] = repo
        return began

    # Committed before the list is asked for: a doubt met from now on outlives what it says.
    began = await tools.database.write(begin)
    if not began:
        return 0
    pages_max = max(len(began) // ACCOUNTS_PER_PAGE, 1)
    revs, ended = await pds.listed_revs(set(began), pages_max)
    if not ended:
        pds.dialect.many_repos = True
        log.info("host_is_large", host=pds.host, accounts=len(began), pages=pages_max)
    future_us = tools.clock.now_us() + FUTURE_US
    known = [
        (began[did], rev) for did, rev in revs.items() if syntax.is_tid(rev) and tid.tid_us(rev) <= future_us
    ]
    for at in range(0, len(known), ACCOUNTS_PER_WRITE):
        some = known[at : at + ACCOUNTS_PER_WRITE]

        def write(tx: Transaction, some: list[tuple[Repo, str]] = some) -> None:
            now_us = tools.clock.now_us()
            for repo, rev in some:
                outcome = by_rev(tx, repo, rev, now_us)
                RUNS.labels("rev", outcome).inc()
                due_us = now_us + round(audits.PERIOD_US["rev"] * tools.rng.uniform(1 - spread, 1 + spread))
                if repo.state == "LIVE" or outcome == "equal":
                    audits.judged(tx, repo.actor, "rev", outcome, rev, due_us, now_us)
            crash_points.reach("verdict-before-commit")

        await tools.database.write(write)
        crash_points.reach("verdict-after-commit")
    if not known and ended:
        raise BadInput("the host lists none of our accounts")
    return len(known)
