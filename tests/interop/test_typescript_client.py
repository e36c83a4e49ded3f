"""The official TypeScript client, given only our address, a handle and an app password."""

from __future__ import annotations

from typing import Any

from tests.auth.house import ALICE
from tests.interop import npm
from tests.interop.open_counter import APP_PASSWORD, CAROL, Counter

STEPS = [
    "signed-in",
    "timeline",
    "profile",
    "posted",
    "reacted",
    "followed",
    "pictured",
    "profile-kept",
    "deleted",
    "expire",
    "renewed",
    "signed-out",
]


async def options(counter: Counter, origin: str, **more: Any) -> dict[str, Any]:
    return {
        "service": origin,
        "identifier": "alice.test",
        "password": APP_PASSWORD,
        "limit": 7,
        "friend": {"did": CAROL, "handle": "carol.test"},
        "subject": {"uri": counter.bobs, "cid": counter.bobs_cid},
        **more,
    }


async def test_the_whole_way_from_signing_in_to_signing_out(counter: tuple[Counter, str]) -> None:
    house, origin = counter
    await house.follow_bob()
    written = [house.bobs, *[(await house.post_of_bob(f"post {n}"))[0] for n in range(23)]]

    await house.clock.advance(60)

    async def let_it_expire() -> None:
        await house.clock.advance(2 * 3600)

    told = await npm.run("journey.mjs", await options(house, origin, expire=True), let_it_expire)

    assert list(told) == STEPS
    assert told["signed-in"] == {
        "did": ALICE,
        "handle": "alice.test",
        "active": True,
        "events": ["create"],
    }
    assert sorted(told["timeline"]["uris"]) == sorted(written)
    assert told["posted"]["facets"] == [
        "app.bsky.richtext.facet#mention",
        "app.bsky.richtext.facet#link",
        "app.bsky.richtext.facet#tag",
    ]
    assert told["renewed"]["events"].count("update") == 1
    assert told["signed-out"] == {"status": 400, "error": "ExpiredToken"}
    # What is left at the PDS is what was not taken back; and it never saw a token of ours.
    assert [uri.split("/")[3] for uri in house.pds.records] == ["app.bsky.actor.profile"]
    assert all(asked.bearer == "" or asked.bearer.startswith("pds-") for asked in house.pds.asked)
