"""What a labeler said before we listened: asked for by queryLabels, account by account.

The stream tells what is said from now on about whoever has a row here. Whoever gets a row later has a
higher id, and is asked about in his turn: so nothing is missed, and no labeler's whole past is read.
"""

from __future__ import annotations

from typing import Any

from appliance import telemetry
from appliance.clock import Clock
from appliance.errors import BadInput, Unavailable
from appliance.labels.checking import Checker
from appliance.outbound.addresses import Params
from appliance.outbound.client import Outbound
from appliance.outbound.limits import LABELER
from appliance.protocol import datamodel
from appliance.protocol.labels import subject_of
from appliance.store import labels
from appliance.store.database import OWN_FAULTS, Database, Transaction

log = telemetry.Log("labels")

QUERY = "com.atproto.label.queryLabels"
PROFILE = "app.bsky.actor.profile/self"
ACTORS_AT_ONCE = 20
PER_PAGE = 250
# Of one question: a labeler that has more to say about twenty accounts is cut short, and that is logged.
PAGES_MAX = 200
POLL_S = 5.0
AGAIN_MIN_S = 5.0
AGAIN_MAX_S = 3600.0


class Asking:
    """The questions to one labeler."""

    def __init__(
        self, did: str, endpoint: str, database: Database, outbound: Outbound, checker: Checker, clock: Clock
    ) -> None:
        self._did = did
        self._url = f"{endpoint}/xrpc/{QUERY}"
        self._database = database
        self._outbound = outbound
        self._checker = checker
        self._clock = clock
        self._takes_patterns = True

    async def run(self) -> None:
        """Ask about everybody who is due, for ever; what fails is tried again, ever more slowly."""
        wait_s = AGAIN_MIN_S
        while True:
            try:
                if not await self.ask_next():
                    await self._clock.sleep(POLL_S)
                wait_s = AGAIN_MIN_S
            except (Unavailable, BadInput) as error:
                if error.name in OWN_FAULTS:
                    raise
                log.info("labeler_not_asked", labeler=self._did, error=error)
                await self._clock.sleep(wait_s)
                wait_s = min(wait_s * 2, AGAIN_MAX_S)

    async def ask_next(self) -> bool:
        """About the next accounts; False where nobody is left."""
        begin, actors = await self._database.read(lambda r: labels.not_asked(r, self._did, ACTORS_AT_ONCE))
        if not actors:
            return False
        try:
            await self._ask([did for _, did in actors])
        except BadInput:
            if not self._takes_patterns:
                raise
            # Some take whole addresses only: then accounts and profiles are what can be asked about.
            self._takes_patterns = False
            await self._ask([did for _, did in actors])
        await self._database.write(lambda tx: labels.asked(tx, self._did, begin, actors[-1][0]))
        return True

    async def _ask(self, dids: list[str]) -> None:
        records = "*" if self._takes_patterns else PROFILE
        patterns = [pattern for did in dids for pattern in (did, f"at://{did}/{records}")]
        about = frozenset(dids)
        cursor = ""
        for _ in range(PAGES_MAX):
            params: Params = {"uriPatterns": patterns, "sources": [self._did], "limit": PER_PAGE}
            if cursor:
                params["cursor"] = cursor
            answer = await self._outbound.get(self._url, limits=LABELER, params=params)
            if 400 <= answer.status < 500:
                raise BadInput("the labeler does not answer this question")
            if not answer.ok:
                raise Unavailable("the labeler can't answer at the moment")
            values, following = _read(answer.body)
            await self._take([each for each in values if _about(each) in about])
            if not following or following == cursor:
                return
            cursor = following
        log.warning("labels_cut_short", labeler=self._did, accounts=len(dids))

    async def _take(self, values: list[Any]) -> None:
        found, refused = self._checker.own(values)
        found, unsigned = await self._checker.signed(found)

        def keep(tx: Transaction) -> None:
            labels.put(tx, found, later=False)
            labels.advance(tx, self._did, None, refused + unsigned, self._clock.now_us())

        if values:
            await self._database.write(keep)


def _about(value: Any) -> str:
    uri = value.get("uri") if isinstance(value, dict) else None
    return subject_of(uri) if isinstance(uri, str) else ""


def _read(body: bytes) -> tuple[list[Any], str]:
    value = datamodel.from_json(body)
    if not isinstance(value, dict) or not isinstance(value.get("labels"), list):
        raise BadInput("the labeler's answer is none")
    cursor = value.get("cursor")
    return value["labels"], cursor if isinstance(cursor, str) else ""
