"""What a comparison with the account's PDS proves, and what it may write: never more than that.

| level | sees | may write |
|---|---|---|
| rev | the rev of a certificate with a digest, and none newer here | its time; a gap's SUSPECT ends |
| rev | an older rev than is known here | SUSPECT; the next look raises the epoch |
| rev | any other rev, also that of the newest event seen | nothing: the newest page is asked for |
| tail | the newest pages agree | nothing; as listing where they are all there is |
| listing | all agrees, the rev stood still | a new certificate: rev, digest, count |
| listing | all agrees or is newer here, the rev moved on | a gap's SUSPECT ends, without a digest |
| signed | the signed tree holds exactly our keys and CIDs | a new certificate, signed |
| any | a difference that the stream had the time to explain | findings; SUSPECT, then a new scan |

A doubt that came up meanwhile outlives the verdict. A SUSPECT for any other reason than a gap is not
audited: what is here may be wrong in ways that only a new scan rights.
"""

from __future__ import annotations

import asyncio
from typing import Final, Literal, NamedTuple

from appliance.backfill import compare, export
from appliance.backfill.compare import Theirs
from appliance.backfill.export import NotSigned
from appliance.backfill.pds import GONE, NotOffered, Pds, PdsError, Status
from appliance.backfill.tools import FOLLOWS, FUTURE_US, MB, Tools, collections_of
from appliance.errors import BadInput, NotFound
from appliance.identity.identities import Identity
from appliance.ingest import losses
from appliance.protocol import cid as cids
from appliance.protocol import syntax, tid
from appliance.protocol.commits import Commit
from appliance.store import collections, findings, records, repos
from appliance.store.audits import Level, Outcome
from appliance.store.backlog import Due
from appliance.store.database import Reader, Transaction
from appliance.store.findings import Difference
from appliance.store.repos import Certificate, Repo

# What the PDS itself does not show though its signed tree has it is looked up one by one.
HIDDEN_MAX: Final = 200
HIDDEN: Final = "the PDS does not show it"
# How the reason of a doubt begins that only the signed tree can settle.
BY_SIGNATURE: Final = "audit signed"
WENT_BACK: Final = "the PDS named an older rev"
LOOK_AGAIN_US: Final = 60_000_000


class Compared(NamedTuple):
    """An account beside its PDS. ``told``: the stream has had the time to bring what would explain it.

    ``hidden`` are records that the signed tree holds and the PDS does not show.
    """

    theirs: Theirs
    differences: list[Difference]
    told: bool
    here: int
    hidden: list[Difference]


def rev_says(repo: Repo, latest: str) -> Literal["equal", "undecided", "back"]:
    """What the latest rev alone decides.

    That it is the newest one seen here decides nothing: an earlier commit may have been lost on the way.
    """
    known = max(repo.base_rev, repo.seen_rev)
    if latest < known:
        return "back"
    if latest == repo.cert_rev and repo.cert_digest is not None and known <= latest:
        return "equal"
    return "undecided"


async def status_of(pds: Pds, did: str) -> Status:
    """What the PDS says of it; a repository that it doesn't have counts as deleted there."""
    try:
        return await pds.status(did)
    except PdsError as error:
        if error.name in GONE:
            return Status("deleted", None)
        raise


async def latest_rev(tools: Tools, pds: Pds, did: str, status: Status) -> str:
    """The repository's rev now. Raises BadInput for one that can't be."""
    rev = status.rev or await pds.latest_rev(did)
    if tid.tid_us(rev) > tools.clock.now_us() + FUTURE_US:
        raise BadInput("the rev lies in the future")
    return rev


async def compared(
    tools: Tools,
    due: Due,
    repo: Repo,
    pds: Pds,
    identity: Identity,
    latest: str,
    level: Level,
    patience_s: float = compare.PATIENCE_S,
) -> Compared:
    """Compare at that level, whose rev was ``latest`` just now; a difference is looked at again when the
    stream has had time, if that is within ``patience_s``. Raises as Pds, and Disordered."""
    nsids = collections_of(due)
    if level == "signed":
        theirs = await _signed(tools, due, pds, identity, latest)
    else:
        whole = nsids if level == "listing" else (FOLLOWS,)
        theirs = await compare.read(tools, pds, due.did, latest, nsids, whole)
    found, told = await compare.lasting(tools, repo.actor, repo.epoch, theirs, patience_s)
    hidden: list[Difference] = []
    if level == "signed" and 0 < len(found) <= HIDDEN_MAX:
        hidden = [one for one in found if one.ours is None and await _is_hidden(pds, due.did, one)]
        found = [one for one in found if one not in hidden]
    numbers = [collections.NUMBERS[nsid] for nsid in nsids]
    if level != "signed":
        again = await tools.database.read(
            lambda r: [x for x in found if findings.withdrawn(r, repo.actor, x)]
        )
        # It came back by a signed scan: the tree holds what the PDS lists no more.
        hidden = [one for one in again if await _is_hidden(pds, due.did, one)]
        found = [one for one in found if one not in hidden]
    here = await tools.database.read(lambda r: records.living_count(r, repo.actor, numbers))
    return Compared(theirs, found, told, here, hidden)


async def _signed(tools: Tools, due: Due, pds: Pds, identity: Identity, latest: str) -> Theirs:
    """The whole signed tree. Raises BadInput for a file that is cut, old, or another's."""
    async with (
        tools.unpacking,
        export.fetched(pds.export(due.did, tools.settings.car_max_mb * MB), tools.folder) as found,
    ):
        commit = await _commit(tools, due, identity, found)
        if commit.rev < latest:
            raise BadInput("the PDS gave an old copy of the repository", name="StaleRepository")
        nsids = collections_of(due)
        entries = await asyncio.to_thread(found.entries, commit, nsids)
    listed: dict[str, dict[str, str]] = {nsid: {} for nsid in nsids}
    for entry in entries:
        listed[entry.collection][entry.rkey] = cids.to_text(entry.cid)
    return Theirs(commit.rev, commit.rev, "signed", listed, dict.fromkeys(nsids, ""))


async def _commit(tools: Tools, due: Due, identity: Identity, found: export.Export) -> Commit:
    for fresh in (False, True):
        if fresh:
            # The key may have been rotated since the document was fetched: ask once, then judge.
            tools.identities.forget(due.did)
            identity = await tools.identities.refresh(due.did)
        if identity.signing_key is None:
            raise NotFound("the DID document names no signing key")
        try:
            return await asyncio.to_thread(found.commit, due.did, identity.signing_key)
        except NotSigned:
            if fresh:
                raise
    raise AssertionError("the second look returns or raises")


async def _is_hidden(pds: Pds, did: str, one: Difference) -> bool:
    """Whether the PDS denies a record that its signed tree holds: a takedown of that record alone."""
    try:
        await pds.record(did, collections.NSIDS[one.collection], one.rkey)
    except (PdsError, NotOffered):
        return True
    return False


def conclude(
    tx: Transaction,
    due: Due,
    repo: Repo,
    level: Level,
    found: Compared,
    now_us: int,
    *,
    at_once: bool = False,
) -> Outcome | None:
    """Write what the comparison proves; None when the account has moved on by other hands meanwhile.

    ``repo`` is the row as it was when the comparison began, LIVE or SUSPECT by a gap. ``at_once`` has a
    difference repaired that the stream may still explain; a finding it becomes only by the scan then.
    """
    now = repos.find(tx, repo.actor)
    if now is None or (now.state, now.epoch) != (repo.state, repo.epoch):
        return None
    rev = found.theirs.began
    for one in found.hidden:
        accept(tx, repo.actor, one, level, rev, now_us)
    if found.differences:
        if not found.told and not at_once:
            return "undecided"
        if found.told:
            losses.met_by_audit(tx, repo.actor, found.differences, level, rev, now_us)
        reason = f"{BY_SIGNATURE if level == 'signed' else f'audit {level}'}: {len(found.differences)} differ"
        if repo.state == "SUSPECT":
            repos.resync(tx, repo.actor, repo.epoch, reason, 0, now_us)
        else:
            repos.suspect(tx, repo.actor, reason, now_us, from_us=repo.cert_us)
        return "differs"
    findings.settle(tx, repo.actor, now_us, whole=found.theirs.whole)
    proof = certificate(tx, due, now, found)
    if proof is not None and (proof.digest is not None or repo.state == "SUSPECT"):
        repos.confirm(tx, repo.actor, repo.epoch, repo.state, proof, now_us)
    return "equal"


def certificate(reader: Reader, due: Due, repo: Repo, found: Compared) -> Certificate | None:
    """What may be certified of an account in which no difference was found; None: nothing.

    A digest is kept only where our rows are, at this moment, exactly the repository at that one rev.
    """
    theirs = found.theirs
    numbers = [collections.NUMBERS[nsid] for nsid in collections_of(due)]
    if not theirs.whole or any(records.floor(reader, repo.actor, number) is None for number in numbers):
        return None
    if theirs.exact and max(repo.seen_rev, repo.base_rev) <= theirs.began:
        digest, count = theirs.digest()
        if (digest, count) == records.digest(reader, repo.actor, numbers):
            shown = records.digest_for_anybody(reader, repo.actor, numbers, (digest, count))
            return Certificate(theirs.began, theirs.method, digest, count, shown)
    return Certificate(theirs.began, theirs.method, None, None)


def accept(tx: Transaction, actor: int, one: Difference, level: Level, rev: str, now_us: int) -> None:
    """Remember a record that its PDS does not show: neither side is wrong, and nobody is alarmed again."""
    latest_us = tid.tid_us(rev) if syntax.is_tid(rev) else None
    findings.add(
        tx,
        actor,
        one,
        level=level,
        rev=rev,
        door=findings.BY_SCAN,
        from_us=None,
        to_us=latest_us or now_us,
        now_us=now_us,
        outcome="accepted",
        note=HIDDEN,
    )


def regressed(tx: Transaction, repo: Repo, now_us: int) -> None:
    """The PDS knows less than was seen here. A replica may be behind for a moment: look again, then judge."""
    if repo.state == "SUSPECT":
        repos.resync(tx, repo.actor, repo.epoch, WENT_BACK, 0, now_us)
    elif repos.suspect(tx, repo.actor, WENT_BACK, now_us, from_us=repo.cert_us):
        repos.put_off(tx, repo.actor, repo.epoch, 0, now_us + LOOK_AGAIN_US)
