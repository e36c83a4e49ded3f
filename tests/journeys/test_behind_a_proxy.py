"""Signing in on the website from behind a reverse proxy."""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path

import httpx

from tests.devnet.devnets import small
from tests.journeys.harness import running

TRIES = 5


async def test_wrong_passwords_count_for_the_caller_and_the_session_tells_which_browser_it_is(
    tmp_path: Path,
) -> None:
    async with small() as net:
        account = net.create_account("member.test")
        settings = {
            "JETSTREAM_URLS": net.info["jetstream_v2"],
            "PLC_URL": net.info["plc"],
            "HANDLE_RESOLVERS": ",".join(net.info["pds"]),
            "MEMBERS": "*",
            "RATE_LIMITS": "on",
        }
        async with running(tmp_path / "appliance", settings) as process:

            async def sign_in(address: str, password: str) -> int:
                headers = {"Origin": process.origin, "X-Forwarded-For": address, "User-Agent": "Lynx/2.9"}
                async with httpx.AsyncClient(trust_env=False, headers=headers, timeout=30) as http:
                    page = await http.get(f"{process.origin}/login")
                    hidden = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page.text)
                    fields = {**dict(hidden), "identifier": "member.test", "password": password}
                    return (await http.post(f"{process.origin}/api/auth/login", data=fields)).status_code

            wrong = "aaaa-bbbb-cccc-dddd"
            assert [await sign_in("192.0.2.1", wrong) for _ in range(TRIES)] == [401] * TRIES
            assert await sign_in("192.0.2.1", account.entry.password) == 429
            assert await sign_in("192.0.2.2", account.entry.password) == 303
            database = sqlite3.connect(process.data / "appliance.db")
            try:
                assert database.execute("SELECT kind, about FROM session").fetchall() == [("web", "Lynx/2.9")]
            finally:
                database.close()
