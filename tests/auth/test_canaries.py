"""Canaries: whatever is secret is looked for in everything that leaves the process or stays on the disk."""

import asyncio
import io
import logging
import re
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from appliance import telemetry
from appliance.auth import pds_sessions
from appliance.auth.secrets import KEY_FILE
from appliance.errors import ApplianceError
from appliance.store import backups
from appliance.writes.operations import CREATE
from building.environment import ROOT
from tests.auth.house import ALICE, PASSWORD
from tests.auth.small_pds import Asked, Reply
from tests.writes.desk import POST
from tests.xrpc.counter import Counter

FACTOR = "canary-factor-7351"
LOOKS_SECRET = re.compile(
    r"eyJ[\w-]{8,}|Bearer\s+\S|DPoP\s+\S|[?&]code=|refreshJwt|accessJwt|set-cookie", re.IGNORECASE
)


@pytest.mark.invariant("secrets-stay-in")
async def test_t66_t126_no_secret_is_in_a_log_an_answer_a_database_or_a_backup(tmp_path: Path) -> None:
    log = io.StringIO()
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    telemetry.configure("debug", "json", log)
    answers: list[httpx.Response] = []
    secrets: set[str] = {PASSWORD, FACTOR}
    try:
        async with AsyncExitStack() as stack:
            counter = Counter(tmp_path, rate_limits="off")
            await counter.open(stack)
            await every_way(counter, answers, secrets)
            copied = await asyncio.to_thread(backups.back_up, tmp_path / "test.db", tmp_path / "copy.db")
            assert copied.bytes > 0
            on_disk = [path for path in tmp_path.iterdir() if path.name.startswith(("test.db", "copy.db"))]
            assert {"test.db", "copy.db", "test.db-wal"} <= {path.name for path in on_disk}
            stored = {path.name: path.read_bytes() for path in on_disk}
            key = (tmp_path / KEY_FILE).read_text().split()
            await counter.auth.close()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    secrets |= {word for word in key if len(word) > 20}
    assert len(secrets) > 15, "there is something to look for"
    told = log.getvalue()
    assert "signed_in" in told
    assert "write_unconfirmed" in told
    for secret in secrets:
        assert secret not in told, "log"
        for answer in answers:
            assert secret not in answer.text
            assert secret not in str(answer.headers)
        for name, data in stored.items():
            assert secret.encode() not in data, name
    assert not LOOKS_SECRET.search(told)


async def every_way(counter: Counter, answers: list[httpx.Response], secrets: set[str]) -> None:
    """Signs in, writes, renews and fails in every way; what is secret of it goes into ``secrets``."""
    pds = counter.pds
    pair = await counter.signed_in()
    secrets |= {pair["accessJwt"], pair["refreshJwt"], counter.cookie}
    record = {"$type": POST, "text": "public", "createdAt": "2026-01-01T00:00:00Z"}
    body: dict[str, Any] = {"repo": ALICE, "collection": POST, "record": record}
    answers.append(await counter.post(CREATE, body, pair["accessJwt"]))
    answers.append(await counter.get("app.bsky.feed.getTimeline", pair["accessJwt"]))

    async def echo(asked: Asked) -> Reply:
        """A server that tells everything that it was told."""
        return 500, {"error": asked.bearer, "message": f"{asked.bearer} {asked.body.decode()}"}

    async def factor(asked: Asked) -> Reply:
        return 401, {"error": "AuthFactorTokenRequired", "message": asked.json["password"]}

    for nsid in (CREATE, "com.atproto.repo.getRecord", "app.bsky.actor.getPreferences"):
        pds.instead[nsid] = echo
    task = asyncio.ensure_future(counter.post(CREATE, dict(body), pair["accessJwt"]))
    answers.append(await counter.moving(task))
    answers.append(await counter.get("app.bsky.actor.getPreferences", pair["accessJwt"]))
    for handler in (echo, factor):
        pds.instead["com.atproto.server.createSession"] = handler
        asked = {"identifier": "alice.test", "password": PASSWORD, "authFactorToken": FACTOR}
        answers.append(await counter.post("com.atproto.server.createSession", asked))
        with pytest.raises(ApplianceError):
            await counter.auth.web_sessions.sign_in(ALICE, PASSWORD, factor=FACTOR)
    pds.instead.clear()
    await counter.clock.advance(7200)
    answers.append(await counter.post(CREATE, dict(body), pair["accessJwt"]))
    fresh = await counter.post("com.atproto.server.refreshSession", None, pair["refreshJwt"])
    secrets |= {fresh.json()["accessJwt"], fresh.json()["refreshJwt"]}
    answers.append(await counter.post(CREATE, dict(body), fresh.json()["accessJwt"]))
    pds.instead["com.atproto.server.refreshSession"] = echo
    session = await counter.session()
    await counter.clock.advance(pds_sessions.REFRESH_AGAIN_S + 1)
    with pytest.raises(ApplianceError):
        await counter.auth.pds_sessions.renew(session.pds_session)
    answers.append(await counter.get("app.bsky.feed.getTimeline", pair["accessJwt"] + "x"))
    secrets |= {f"pds-{kind}-{number}" for kind in ("access", "refresh") for number in range(1, 5)}
    sent = {asked.bearer for asked in pds.asked}
    assert len(sent & secrets) >= 3


def test_the_unit_leaves_no_core_and_no_word_of_the_settings_in_its_environment() -> None:
    unit = (ROOT / "systemd" / "appliance.service").read_text()
    assert "LimitCORE=0" in unit.splitlines()
    environment = " ".join(line for line in unit.splitlines() if line.startswith("Environment"))
    assert not re.search(r"PASSWORD|SECRET|TOKEN", environment)
