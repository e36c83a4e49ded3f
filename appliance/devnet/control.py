"""Commands over HTTP for tests in other processes: the same that ``Network`` has as methods.

``POST /call`` with {"method", "args", "kwargs"}; ``POST /faults`` with {"of", …switches};
``GET /faults`` tells what fired; ``GET /timeline?did=`` is the truth of one member.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from appliance.devnet.http import Answer, Request, Site, invalid, json_answer

if TYPE_CHECKING:
    from appliance.devnet.network import Network

_METHODS = (
    *("create_account", "deactivate", "activate", "take_down", "delete_account", "migrate", "change_handle"),
    *("resync", "put", "post", "reply", "like", "repost", "follow", "delete", "record", "strong_ref"),
    *("lift_status", "claim_status", "roll_back", "bring_in", "rotate_key", "begin_anew", "leave_behind"),
    *("post_at_rev", "set_appview", "seal_archive", "compact_archive"),
)


def site(network: Network) -> Site:
    """The commands' routes."""

    async def call(request: Request) -> Answer:
        body = request.json()
        name, args, kwargs = body.get("method"), body.get("args", []), body.get("kwargs", {})
        if name not in _METHODS or not isinstance(args, list) or not isinstance(kwargs, dict):
            raise invalid(f"no such method; there are {', '.join(sorted(_METHODS))}")
        try:
            result: Any = getattr(network, name)(*args, **kwargs)
        except (KeyError, TypeError) as error:
            raise invalid(f"{type(error).__name__}: {error}") from None
        if name == "create_account":
            result = {"did": result.did, "handle": result.handle, "password": result.entry.password}
        return json_answer({"result": result})

    async def switch(request: Request) -> Answer:
        body = request.json()
        faults = network.faults.get(str(body.pop("of", None)))
        if faults is None:
            raise invalid(f"'of' is one of {', '.join(network.faults)}")
        if body.pop("off", False):
            faults.off()
        try:
            faults.switch(body)
        except ValueError as error:
            raise invalid(str(error)) from None
        return json_answer({})

    async def report(_: Request) -> Answer:
        return json_answer({name: faults.report() for name, faults in network.faults.items()})

    async def timeline(request: Request) -> Answer:
        found = network.timeline(request.get("did"))
        rows = [asdict(row) | {"instead": sorted(row.instead)} for row in found.rows]
        return json_answer(
            {"member": found.member, "rows": rows, "dropped": [asdict(each) for each in found.dropped]}
        )

    async def progress(_: Request) -> Answer:
        log = network.state.log
        return json_answer(
            {"events": log.end - 1, "rows": log.next_row - 1, "world": dict(network.world.done)}
        )

    result = Site()
    result.post("/call", call)
    result.post("/faults", switch)
    result.get("/faults", report)
    result.get("/timeline", timeline)
    result.get("/progress", progress)
    return result
