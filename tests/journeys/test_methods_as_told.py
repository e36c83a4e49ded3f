"""docs/xrpc.md beside a running appliance: what it calls served is answered, what it calls 501 is not."""

from __future__ import annotations

from pathlib import Path

import httpx

from tests.journeys.harness import Client, Process, World
from tests.tidy import generated


async def test_the_page_of_methods_tells_what_a_running_appliance_does(tmp_path: Path) -> None:
    world = World(tmp_path / "world", accounts=6)
    await world.start(rate=0)
    process = Process(tmp_path / "appliance", world.settings() | {"ADMIN_PASSWORD": "of the operator"})
    wrong = []
    try:
        await process.start()
        async with httpx.AsyncClient(timeout=30, trust_env=False) as http:
            client = Client(process.origin, http)
            member = world.info["members"][0]
            await client.sign_in(member["handle"], member["password"])
            # A call that is refused before its body was read ends its connection.
            session = {"authorization": f"Bearer {client._token}", "connection": "close"}
            for method in generated.xrpc_methods():
                if method.kind == "subscription" or method.nsid == "com.atproto.server.deleteSession":
                    continue
                url = f"{process.origin}/xrpc/{method.nsid}"
                if method.kind == "query":
                    answer = await http.get(url, headers=session)
                else:
                    answer = await http.post(url, headers=session, json={})
                # What goes to a service that nobody named is nobody's to answer.
                silent = method.status == "501" or method.nsid.startswith("chat.bsky.")
                name = "" if answer.is_success else answer.json().get("error", "")
                # The PDS of the demo has not everything that is passed on.
                failed = answer.status_code >= 500 and not (
                    silent or (method.status == "passed on" and name == "UpstreamFailure")
                )
                if failed or (name == "MethodNotImplemented") is not silent:
                    wrong.append((method.nsid, method.status, answer.status_code, answer.text[:200]))
    finally:
        if process.alive:
            await process.stop()
        await world.stop()

    assert wrong == []
