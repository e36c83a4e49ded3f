"""People with good tokens who don't belong here."""

import tracemalloc

from appliance.auth.mint import service_token
from appliance.protocol.keys import PrivateKey
from appliance.store import member_data
from tests.auth.house import House

TIMELINE = "app.bsky.feed.getTimeline"


async def test_t28_a_thousand_strangers_with_good_tokens_leave_no_trace(house: House) -> None:
    key = PrivateKey.generate("k256")

    async def come(first: int, count: int) -> None:
        for number in range(first, first + count):
            did = f"did:web:stranger{number}.example.net"
            house.book.keys[did] = key.did_key
            token = service_token(
                key,
                issuer=did,
                audience="did:web:localhost%3A2580",
                method=TIMELINE,
                now_us=house.clock.now_us(),
            )
            viewer = await house.auth.viewers.authenticate(f"Bearer {token}", TIMELINE)
            assert viewer is not None
            assert not viewer.member
            house.book.keys.clear()

    await come(0, 200)
    tracemalloc.start()
    await come(200, 1000)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 5_000_000
    for table in ("actor", "repo", "fetch", *member_data.OF_MEMBERS):
        assert await house.rows(table) == 0, table
