"""A database that is older than the one that ran last."""

import asyncio
import shutil
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from appliance.auth.sign_in import Credentials
from appliance.errors import ApplianceError
from appliance.outbound.limits import PDS_JSON
from appliance.store import backups, generation
from appliance.store.database import Database
from tests.auth.house import House

REFRESH = "com.atproto.server.refreshSession"


@pytest.mark.parametrize("by_hand", [False, True])
async def test_t53_tokens_of_a_restored_backup_are_sent_to_nobody(tmp_path: Path, by_hand: bool) -> None:
    async with AsyncExitStack() as stack:
        house = House(tmp_path)
        await house.open(stack)
        path = tmp_path / "test.db"
        generation.tell(path, await house.database.write(generation.beat, durable=True))
        begun = await house.auth.xrpc_sessions.create(
            Credentials("alice.test", "abcd-efgh-2345-6789"), "test"
        )
        cookie, _ = await house.auth.web_sessions.sign_in("alice.test", "abcd-efgh-2345-6789")
        await asyncio.to_thread(backups.back_up, path, tmp_path / "copy.db")
        session = await house.auth.web_sessions.get(cookie)
        await house.auth.pds_sessions.renew(session.pds_session)
        generation.tell(path, await house.database.write(generation.beat, durable=True))
        await house.auth.close()
        await house.database.close()

        if by_hand:
            for old in tmp_path.glob("test.db-*"):
                old.unlink()
            shutil.copy(tmp_path / "copy.db", path)
        else:
            await asyncio.to_thread(backups.restore, tmp_path / "copy.db", path, house.clock.now_us())
        house.database = await Database.open(path)
        stack.push_async_callback(house.database.close)
        told = generation.told(path)
        _, why = await house.database.write(
            lambda tx: generation.begin(tx, told, house.clock.now_us()), durable=True
        )
        assert bool(why) == by_hand
        house.auth = house.build()
        asked = len(house.pds.asked)
        for work in (
            house.auth.pds_sessions.call(session.pds_session, "GET", "x.y.z", limits=PDS_JSON),
            house.auth.pds_sessions.renew(session.pds_session),
            house.auth.xrpc_sessions.refresh(f"Bearer {begun.pair.refresh}"),
        ):
            with pytest.raises(ApplianceError) as refused:
                await work
            assert refused.value.name == "ExpiredToken"
        assert len(house.pds.asked) == asked
        again, _ = await house.auth.web_sessions.sign_in("alice.test", "abcd-efgh-2345-6789")
        assert await house.auth.web_sessions.find(again) is not None
        await house.auth.close()
