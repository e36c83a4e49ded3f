"""Comparing what a member is shown with what the repositories hold, both read from outside."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx

from appliance.devnet import truth
from tests.journeys.harness import Client, check_order


async def signed_in(origin: str, http: httpx.AsyncClient, members: list[dict[str, Any]]) -> list[Client]:
    """A client for each member."""
    clients = []
    for member in members:
        client = Client(origin, http)
        await client.sign_in(member["handle"], member["password"])
        clients.append(client)
    return clients


async def what_is_wrong(info: Mapping[str, Any], clients: list[Client]) -> str:
    """'' when each timeline is exactly the truth, in order and without duplicates; else the first faults."""
    network = await truth.from_network(info)
    for client in clients:
        rows = await client.timeline()
        check_order(rows)
        difference = network.timeline(client.did).compare(row.uri for row in rows)
        if difference:
            return (
                f"{client.did}: {len(rows)} shown, missing {len(difference.missing)}"
                f" {list(difference.missing)[:3]}, extra {len(difference.extra)}"
                f" {list(difference.extra)[:3]}, twice {list(difference.twice)[:3]}"
            )
    return ""
