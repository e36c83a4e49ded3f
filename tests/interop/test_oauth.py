"""Signing in at the official authorization server in a real browser, and the life of what it gives."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
from playwright.async_api import Page, expect

from appliance import telemetry
from appliance.app import DATABASE_FILE
from appliance.auth import pds_sessions
from appliance.auth.dpop import Proofs
from appliance.auth.oauth_calls import Granted, OAuthCalls
from appliance.auth.oauth_client import OAuthClient
from appliance.auth.pds import Tokens
from appliance.auth.secrets import Secrets, open_secrets
from appliance.clock import SystemClock
from appliance.errors import Unavailable
from appliance.protocol.keys import PrivateKey
from tests.interop.oauth_place import HANDLE, PASSWORD, PUBLIC, Place, cookies_of, place
from tests.web import chromium

PATIENCE_MS = 120_000
AT_ONCE = 20
# In the page, as our own script would: with the token that forms carry.
CALL = """async ([path, bodies]) => {
  const { token } = await (await fetch('/api/auth/session')).json()
  const headers = { 'content-type': 'application/json', 'x-form-token': token, accept: 'application/json' }
  const ask = (body) => fetch(path, { method: 'POST', headers, body: JSON.stringify(body) })
  return Promise.all(bodies.map(async (body) => (await ask(body)).status))
}"""


class Rows:
    """The appliance's rows, read and changed past it."""

    def __init__(self, found: Place) -> None:
        self._file = found.settings.data_path / DATABASE_FILE
        self._secrets: Secrets = open_secrets(found.settings)

    def _run(self, sql: str, *params: Any) -> list[Any]:
        connection = sqlite3.connect(self._file, timeout=60)
        try:
            with connection:
                return connection.execute(sql, params).fetchall()
        finally:
            connection.close()

    def tokens(self) -> Tokens:
        """Those of the newest sign-in."""
        [(number, sealed)] = self._run("SELECT id, sealed FROM pds_session ORDER BY id DESC LIMIT 1")
        return msgspec.json.decode(self._secrets.unseal(sealed, f"pds_session/{number}/sealed"), type=Tokens)

    def expire(self) -> None:
        """Let the newest sign-in's token be one that is about to end."""
        [(number,)] = self._run("SELECT max(id) FROM pds_session")
        tokens = msgspec.structs.replace(self.tokens(), expires_us=1)
        sealed = self._secrets.seal(msgspec.json.encode(tokens), f"pds_session/{number}/sealed")
        self._run("UPDATE pds_session SET sealed = ?, refreshed_us = 1 WHERE id = ?", sealed, number)

    def signed_in(self) -> list[tuple[str | None, str | None]]:
        return self._run("SELECT issuer, dead FROM pds_session ORDER BY id")


async def sign_in(page: Page, found: Place) -> None:
    """From our page to the server, through its forms, and back."""
    await page.goto(f"{PUBLIC}/login?return=/settings/sessions")
    await page.fill('form[action="/oauth/start"] [name=identifier]', HANDLE)
    await page.click('form[action="/oauth/start"] button')
    await page.wait_for_url(f"{found.pds}/oauth/authorize**")
    password = page.locator("input[type=password]")
    agree = page.get_by_role("button", name="Authorize")
    account = page.get_by_text(HANDLE)
    await expect(password.or_(agree).or_(account).first).to_be_visible(timeout=PATIENCE_MS)
    if await password.count():
        await password.fill(PASSWORD)
        await password.press("Enter")
    await agree.click()
    await page.wait_for_url(f"{PUBLIC}/settings/sessions")
    await expect(page.get_by_role("heading", name="Where you are signed in")).to_be_visible()


async def posts(found: Place) -> int:
    params: dict[str, str | int] = {"repo": found.did, "collection": "app.bsky.feed.post", "limit": 100}
    async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
        answer = await http.get(f"{found.pds}/xrpc/com.atproto.repo.listRecords", params=params)
    return len(answer.json()["records"])


async def post(page: Page, *texts: str) -> list[int]:
    bodies = [{"text": text, "once": text} for text in texts]
    statuses: list[int] = await page.evaluate(CALL, ["/api/actions/post", bodies])
    return statuses


def asked(limits: str, outcome: str) -> float:
    """How many requests of that class have had that outcome."""
    labels = {"limits": limits, "outcome": outcome}
    value = telemetry.REGISTRY.get_sample_value("appliance_outbound_requests_total", labels)
    assert value is not None
    return value


async def test_t55_the_whole_life_of_a_sign_in_at_the_official_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with place(tmp_path) as found, chromium.browser(found.names) as browser:
        rows = Rows(found)
        context = await browser.new_context(ignore_https_errors=True)
        page = await context.new_page()
        page.set_default_timeout(PATIENCE_MS)

        # Refused by the person: nothing is kept, and it is said.
        await page.goto(f"{PUBLIC}/login")
        await page.fill('form[action="/oauth/start"] [name=identifier]', HANDLE)
        await page.click('form[action="/oauth/start"] button')
        await page.locator("input[type=password]").fill(PASSWORD)
        await page.locator("input[type=password]").press("Enter")
        await page.get_by_role("button", name="Deny access").click()
        await expect(page.get_by_role("alert")).to_contain_text("did not agree")
        assert rows.signed_in() == []

        await sign_in(page, found)
        assert rows.signed_in() == [(found.pds, None)]
        cookies = cookies_of(await context.cookies(PUBLIC))
        assert set(cookies) == {"__Host-session"}
        # Fine scopes, understood and granted whole.
        assert "transition:generic" not in rows.tokens().scope
        assert "repo:app.bsky.feed.post" in rows.tokens().scope

        assert await post(page, "written under a bound token") == [200]
        assert await posts(found) == 1

        # Many at the end of the token: one renewal, nothing lost.
        before, renewals = rows.tokens(), asked("oauth_token", "200")
        rows.expire()
        assert await post(page, *(f"at once {n}" for n in range(AT_ONCE))) == [200] * AT_ONCE
        assert asked("oauth_token", "200") - renewals == 1
        assert await posts(found) == 1 + AT_ONCE
        renewed = rows.tokens()
        assert renewed.refresh != before.refresh
        assert renewed.key == before.key

        # A nonce that the servers no longer take.
        proof = Proofs.proof
        stale = [1]

        def with_old_nonce(self: Proofs, *args: Any, **named: Any) -> str:
            if stale[0]:
                stale[0] -= 1
                for where in list(self._nonces):
                    self._nonces[where] = ("of-long-ago", 0.0)
            return proof(self, *args, **named)

        monkeypatch.setattr(Proofs, "proof", with_old_nonce)
        assert await post(page, "with an old nonce") == [200]
        assert stale == [0]
        monkeypatch.setattr(Proofs, "proof", proof)
        assert await posts(found) == 2 + AT_ONCE

        # The answer to a renewal gets lost: its token is used up, so one more try tells that it is over.
        renew = OAuthCalls.renew

        async def lost(self: OAuthCalls, *args: Any) -> Granted:
            await renew(self, *args)
            raise Unavailable("the answer was lost")

        monkeypatch.setattr(OAuthCalls, "renew", lost)
        monkeypatch.setattr(pds_sessions, "REFRESH_AGAIN_S", 0.0)  # the last one was a moment ago
        rows.expire()
        assert await post(page, "not sent") == [503]
        monkeypatch.setattr(OAuthCalls, "renew", renew)

        async def over() -> bool:
            return await post(page, "not sent") in ([401], [403])

        for _ in range(600):
            if await over():
                break
            await page.wait_for_timeout(100)
        assert rows.signed_in() == [(found.pds, "expired")]
        assert await posts(found) == 2 + AT_ONCE

        # Signing in again heals it; a second device shows up in the list and is ended from the first.
        await context.clear_cookies(domain="app.appliance-interop.dev")
        await sign_in(page, found)
        other = await browser.new_context(ignore_https_errors=True)
        elsewhere = await other.new_page()
        elsewhere.set_default_timeout(PATIENCE_MS)
        await sign_in(elsewhere, found)
        theirs = rows.tokens()
        await page.reload()
        assert await page.locator("ul.lines li").count() == 3
        answered = asked("oauth_token", "200")
        await page.get_by_role("button", name="Sign out everywhere else").click()
        await expect(page.locator("ul.lines li")).to_have_count(1)
        await elsewhere.goto(f"{PUBLIC}/settings/sessions")
        await expect(elsewhere.get_by_text("Sign in first").first).to_be_visible()
        assert await post(page, "from the first device") == [200]

        # Given back at the server as well: nobody renews with it any more. (The first of the three, dead
        # here, had no tokens left to give back.)
        async with httpx.AsyncClient(trust_env=False, timeout=60) as http:
            for _ in range(600):
                if asked("oauth_token", "200") > answered:
                    break
                await page.wait_for_timeout(100)
            assert await revoked(http, found, theirs)

        await page.click("details.menu summary")
        await page.click("button[form=leave]")
        await page.wait_for_url(f"{PUBLIC}/")
        assert "__Host-session" not in cookies_of(await context.cookies(PUBLIC))
        assert rows.signed_in() == []


async def revoked(http: httpx.AsyncClient, found: Place, tokens: Tokens) -> bool:
    """Whether the server has forgotten the session that this access token is of."""
    proofs, key = Proofs(SystemClock()), PrivateKey.from_hex(tokens.key, "p256")
    url = f"{found.pds}/oauth/token"
    secrets, settings = open_secrets(found.settings), found.settings
    client = OAuthClient(settings, secrets, SystemClock())
    for _ in range(2):
        form = {
            "grant_type": "refresh_token",
            "refresh_token": tokens.refresh,
            **client.credentials(tokens.kid, tokens.issuer),
        }
        answer = await http.post(url, data=form, headers={"dpop": proofs.proof(key, "POST", url)})
        proofs.heard(key, url, {name.lower(): value for name, value in answer.headers.items()})
    return answer.status_code == 400 and answer.json()["error"] == "invalid_grant"
