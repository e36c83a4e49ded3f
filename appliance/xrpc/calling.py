"""The methods as functions inside this process: what pages show is what clients get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from appliance.errors import Refused
from appliance.protocol import lexicons
from appliance.timeline.asker import PUBLIC, Asker
from appliance.xrpc.methods import Access, Call, Method


class Calling:
    """Answers as values. Whoever calls has proved who the viewer is: a member, or None for a guest."""

    def __init__(self, methods: Iterable[Method]) -> None:
        self._methods = {method.nsid: method for method in methods}

    async def __call__(
        self,
        viewer: str | None,
        nsid: str,
        parameters: Mapping[str, str | list[str]] | None = None,
        body: Any = None,
    ) -> Any:
        """Parameters are text as in a query; empty ones are left out. Raises what the method raises."""
        method = self._methods[nsid]
        if viewer is None and method.access is not Access.OPTIONAL and method.access is not Access.PUBLIC:
            raise Refused("Sign in first.")
        asker = PUBLIC if viewer is None else Asker(did=viewer, member=True)
        if method.procedure:
            await method.run(Call(asker, {}, body))
            return {}
        pairs = [
            (name, text)
            for name, value in (parameters or {}).items()
            for text in ([value] if isinstance(value, str) else value)
        ]
        answer = await method.run(Call(asker, lexicons.parse_parameters(nsid, pairs)))
        return answer.parsed() if answer.body or answer.error else {}
