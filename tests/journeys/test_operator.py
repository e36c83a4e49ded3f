"""The operator of a running appliance: invites, a link to the pages, a ban, an export, and the log."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx

from tests.devnet.devnets import small
from tests.journeys.harness import running


async def test_the_operator_invites_looks_bans_and_reads_what_was_done(tmp_path: Path) -> None:
    async with small() as net:
        account = net.create_account("guest.test")
        settings = {
            "JETSTREAM_URLS": net.info["jetstream_v2"],
            "PLC_URL": net.info["plc"],
            "HANDLE_RESOLVERS": ",".join(net.info["pds"]),
            "ADMISSION": "invite",
        }
        async with running(tmp_path / "appliance", settings) as process:
            headers = {"Origin": process.origin}

            def browser() -> httpx.AsyncClient:
                return httpx.AsyncClient(
                    base_url=process.origin, trust_env=False, headers=headers, timeout=30
                )

            async def told(*words: str) -> str:
                code, out, err = await process.command(*words)
                assert code == 0, err
                return out.strip()

            async def sign_in(http: httpx.AsyncClient, invite: str) -> int:
                page = await http.get("/login")
                fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
                fields |= {
                    "identifier": "guest.test",
                    "password": account.entry.password,
                    "invite": invite,
                }
                return (await http.post("/api/auth/login", data=fields)).status_code

            code = await told("member", "invite")
            async with browser() as guest, browser() as operator:
                assert await sign_in(guest, "") != 303
                assert await sign_in(guest, code) == 303
                did = account.did
                exported = json.loads(await told("member", "export", did))
                assert exported["tables"]["member"][0]["via"] == "invite"
                assert (await guest.get("/admin")).status_code == 404

                link = await told("member", "admin-link")
                page = await operator.get(link)
                fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text))
                assert (await operator.post("/admin/enter", data=fields)).status_code == 303
                page = await operator.get("/admin")
                assert did in page.text
                token = re.findall(r'name="token" value="([^"]*)"', page.text)[0]
                form = {"token": token, "subject": did, "reason": "spam"}
                assert (await operator.post("/admin/ban", data=form)).status_code == 303
                assert 'action="/api/auth/logout"' not in (await guest.get("/")).text
                assert await sign_in(guest, await told("member", "invite")) == 401
                assert await told("member", "unban", did) == f"{did} is banned no more"
            log = json.loads(await told("member", "log"))
            assert [(act["who"], act["name"]) for act in log] == [
                ("command", "lift ban"),
                ("link", "ban"),
                ("link", "enter"),
            ]
