"""Compares what members of a running demo are shown with the repositories.

``python -m tests.journeys.report INFO``, the file of ``demo --info``. Lists every row that is rightly
absent, with its reason, and every fault; the exit code is 0 only when there is none.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import httpx

from appliance.devnet import truth
from tests.journeys.harness import check_order
from tests.journeys.judge import signed_in


async def compare(info: dict[str, Any]) -> bool:
    """Print the comparison; True when every timeline is exact."""
    exact = True
    async with httpx.AsyncClient(timeout=60, trust_env=False) as http:
        clients = await signed_in(info["appliance"], http, info["members"])
        for client, member in zip(clients, info["members"], strict=True):
            rows = await client.timeline()
            # The world may write meanwhile: what it says afterwards is what counts.
            expected = (await truth.from_network(info)).timeline(client.did)
            check_order(rows)
            difference = expected.compare(row.uri for row in rows)
            print(f"{member['handle']}: {len(rows)} rows shown, {len(expected.rows)} in the repositories")
            for dropped in expected.dropped:
                print(f"  rightly absent  {dropped.reason:16} {dropped.uri}")
            for name in ("missing", "extra", "twice"):
                for uri in getattr(difference, name):
                    exact = False
                    print(f"  {name.upper():15} {uri}")
    print("exact" if exact else "NOT exact")
    return exact


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    sys.exit(0 if asyncio.run(compare(json.loads(Path(sys.argv[1]).read_text("utf-8")))) else 1)
