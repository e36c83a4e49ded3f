"""An index of backlinks over the whole devnet, on Constellation's wire: who points at what, and where.

https://constellation.microcosm.blue
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from appliance.devnet.faults import Faults
from appliance.devnet.http import Answer, Request, Site, XrpcError, json_answer
from appliance.devnet.state import State
from appliance.devnet.stream_server import StreamServer
from appliance.protocol import cbor, datamodel


@dataclass(slots=True, kw_only=True)
class BacklinkFaults(Faults):
    """``down`` answers 503, ``nonsense`` something else, ``boast`` adds so much to each number."""

    down: bool = False
    nonsense: bool = False
    boast: int = 0


class Backlinks:
    """Counts what living records say, at each question anew."""

    def __init__(self, state: State) -> None:
        self.faults = BacklinkFaults()
        self.asked: list[str] = []
        self._state = state

    def server(self) -> StreamServer:
        site = Site()
        site.get("/links/all", self._all)
        return StreamServer(site, {})

    async def _all(self, request: Request) -> Answer:
        target = request.get("target")
        self.asked.append(target)
        if self.faults.down:
            self.faults.note("down", detail=target)
            raise XrpcError(503, "UpstreamFailure")
        if self.faults.nonsense:
            self.faults.note("nonsense", detail=target)
            return json_answer({"links": {"app.bsky.feed.like": {".subject.uri": {"distinct_dids": "many"}}}})
        found: dict[tuple[str, str], list[str]] = defaultdict(list)
        for did, account in self._state.accounts.items():
            if account.status is None:
                for path, block in self._state.repository(did).records():
                    collection = path.partition("/")[0]
                    for place in _places(datamodel.to_parsed(cbor.decode(block)), target, ""):
                        found[collection, place].append(did)
        links: dict[str, dict[str, dict[str, int]]] = defaultdict(dict)
        for (collection, place), dids in found.items():
            links[collection][place] = {
                "records": len(dids) + self.faults.boast,
                "distinct_dids": len(set(dids)) + self.faults.boast,
            }
        return json_answer({"links": links})


def _places(value: Any, target: str, path: str) -> Iterator[str]:
    if isinstance(value, dict):
        for name, part in value.items():
            yield from _places(part, target, f"{path}.{name}")
    elif isinstance(value, list):
        for part in value:
            yield from _places(part, target, f"{path}[]")
    elif value == target:
        yield path
