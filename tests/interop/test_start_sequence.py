"""The calls of the current social app, through a server for accounts that hands them on to us."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance.devnet.network import Network
from appliance.devnet.options import Options
from tests.interop import npm
from tests.journeys.harness import Process, free_port, running

NAMES = ("alice", "bob", "carol", "stranger")
PARTS = ["world", "start", "reading", "graph", "writing", "keeping", "done"]
# What the release of the client that runs everywhere has no schema for yet.
TOO_NEW = {"app.bsky.feed.searchPostsV2", "app.bsky.graph.searchStarterPacksV2"}
CALLED_MIN = 75


@asynccontextmanager
async def appliance(folder: Path, net: Network, pds: str, people: dict[str, Any]) -> AsyncIterator[Process]:
    settings = {
        "RELAY_URL": pds.replace("http:", "ws:"),
        "PLC_URL": net.info["plc"],
        "HANDLE_RESOLVERS": pds,
        "OUTBOUND_RATE_PER_HOST": "500",
        "OUTBOUND_PER_HOST": "8",
    }
    async with running(folder, settings) as process:
        # She never signs in here: her own server speaks for her.
        code, _, said = await process.command("member", "add", people["alice"]["did"])
        assert code == 0, said
        yield process


async def walk(
    process: Process, pds: str, people: dict[str, Any], kit: Path, registers: str
) -> dict[str, Any]:
    options = {
        "service": process.origin,
        "did": f"did:web:localhost%3A{process.port}",
        "pds": pds,
        "registers": registers,
        **people,
    }
    told = await npm.run("start.mjs", options, kit=kit, step_s=200)
    assert list(told) == PARTS
    done: dict[str, Any] = told["done"]
    return done


async def test_the_social_app_starts_and_looks_around(tmp_path: Path) -> None:
    async with Network(Options(accounts=0, members=0, posts=0, rate=0, pds=1)) as net:
        people = {}
        for name in NAMES:
            account = net.create_account(f"{name}.test")
            people[name] = {"did": account.did, "handle": account.handle, "password": account.entry.password}
        (pds,) = net.info["pds"]
        async with appliance(tmp_path / "appliance", net, pds, people) as process:
            done = await walk(process, pds, people, npm.CLIENT, "us")

    assert set(done["absent"]) <= TOO_NEW
    assert len(done["called"]) + len(done["absent"]) >= CALLED_MIN


@pytest.mark.long
async def test_the_social_app_at_the_official_server(tmp_path: Path) -> None:
    async with Network(Options(accounts=0, members=0, posts=0, rate=0, pds=1)) as net:
        port = free_port()
        pds = f"http://localhost:{port}"
        (tmp_path / "pds").mkdir()
        options = {
            "port": port,
            "data": str(tmp_path / "pds"),
            "plc": net.info["plc"],
            "rotation": secrets.token_hex(32),
        }
        server = await npm.Script.start(npm.OFFICIAL / "pds.mjs", options, npm.OFFICIAL)
        try:
            assert await server.told(120) == {"step": "ready"}
            people = {name: await signed_up(pds, name) for name in NAMES}
            async with appliance(tmp_path / "appliance", net, pds, people) as process:
                done = await walk(process, pds, people, npm.OFFICIAL, "home")
            server.go_on()
            await server.ended("the walk")
        finally:
            await server.close()

    assert done["absent"] == []
    assert len(done["called"]) >= CALLED_MIN


async def signed_up(pds: str, name: str) -> dict[str, Any]:
    """A new account there."""
    body = {"handle": f"{name}.test", "password": f"{name}-pass", "email": f"{name}@example.com"}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        answer = await http.post(f"{pds}/xrpc/com.atproto.server.createAccount", json=body)
    assert answer.status_code == 200, answer.text
    return {"did": answer.json()["did"], "handle": body["handle"], "password": body["password"]}
