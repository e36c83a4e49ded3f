"""Lists are walked page by page while rows come and go between the pages."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator

import pytest

from appliance.protocol import lexicons
from tests.tidy import generated
from tests.timeline.village import did
from tests.xrpc.list_walks import LISTINGS, WHOLE, Listing, Maker, person
from tests.xrpc.town import Town, town

FEW, MANY = 18, 112
NEW_MAX = 6
PAGES_MAX = 200


@pytest.fixture(scope="module")
def maker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Maker]:
    with town(tmp_path_factory.mktemp("town")) as place:
        place.do(_peopled(place))
        yield Maker(place)


async def _peopled(place: Town) -> None:
    for number in range(160):
        await place.place.join(person(number))


async def _nothing() -> None:
    pass


async def walk(
    place: Town, listing: Listing, limit: int, meanwhile: Callable[[], Awaitable[None]] = _nothing
) -> list[str]:
    """What the pages show, one after the other; it ends, and no two pages are empty."""
    found: list[str] = []
    cursor, empty = "", 0
    for _ in range(PAGES_MAX):
        more = {"cursor": cursor} if cursor else {}
        page = await place.answer(listing.nsid, listing.viewer, limit=limit, **listing.params, **more)
        shown = [listing.shown(item) for item in page[listing.key]]
        assert len(shown) <= limit
        found += [name for name in shown if name.startswith(listing.prefix)]
        cursor = page.get("cursor", "")
        if not cursor:
            return found
        empty += not shown
        assert empty < 2, "two pages with nothing on them"
        await meanwhile()
    raise AssertionError(f"no end after {PAGES_MAX} pages")


async def walked_while_rows_come_and_go(maker: Maker, called: str, seed: int) -> None:
    nsid, make = LISTINGS[called]
    listing, dice = await make(maker, nsid), random.Random(seed)
    there = await listing.put(list(range(FEW)))
    following = FEW
    for limit in (1, 2, 7, 50, 100):
        if limit == 50:
            there += await listing.put(list(range(following, MANY)))
            following = MANY
        dying = dice.sample(there, len(there) // 3)
        steady = [name for name in there if name not in dying]
        new: list[str] = []

        async def meanwhile(dying: list[str] = dying, new: list[str] = new) -> None:
            nonlocal following
            # Several at a time, so that long pages see as much change as short ones.
            for _ in range(1 if following < MANY else 4):
                if dying:
                    await listing.take(dying.pop())
            if len(new) < NEW_MAX:
                new += await listing.put([following])
                following += 1

        found = await walk(maker.town, listing, limit, meanwhile)
        told = f"{called}, {limit} a page, seed {seed}"
        assert new or limit >= len(there), told
        assert [name for name in set(found) if found.count(name) > 1] == [], told
        assert [name for name in steady if name not in found] == [], told
        there = steady + dying + new
        whole = await walk(maker.town, listing, 100)
        assert sorted(whole) == sorted(there), told
        kept = set(steady)
        assert [name for name in found if name in kept] == [name for name in whole if name in kept], told


@pytest.mark.parametrize("called", LISTINGS)
def test_rows_that_stay_come_exactly_once_while_others_come_and_go(maker: Maker, called: str) -> None:
    maker.town.do(walked_while_rows_come_and_go(maker, called, seed=1))


@pytest.mark.long
@pytest.mark.parametrize("called", LISTINGS)
def test_they_do_so_for_many_orders_of_events(maker: Maker, called: str) -> None:
    for seed in range(2, 12):
        maker.town.do(walked_while_rows_come_and_go(maker, called, seed))


def test_every_list_with_a_cursor_is_walked() -> None:
    with_cursor = set()
    for method in generated.xrpc_methods():
        definition = lexicons.method(method.nsid)
        output = definition.get("output", {}).get("schema", {})
        # A procedure's cursor is no place in a list: it goes on with work.
        is_list = definition["type"] == "query" and "cursor" in output.get("properties", {})
        if method.status == "served" and is_list:
            with_cursor.add(method.nsid)

    walked = {nsid for nsid, _ in LISTINGS.values()}

    assert with_cursor == walked | set(WHOLE)
    assert not walked & set(WHOLE)


def test_pages_are_filled_where_many_rows_are_hidden(maker: Maker) -> None:
    async def look() -> None:
        place = maker.town
        me, hub = await maker.member(), await maker.member()
        await place.place.follow(me, hub)
        await place.place.follow(hub, *map(person, range(60)))
        subscribe = "app.bsky.notification.putActivitySubscription"
        for number in range(60):
            wanted = {"post": True, "reply": False}
            await place.done(subscribe, me, {"subject": did(person(number)), "activitySubscription": wanted})
            if number % 12:
                await place.place.block(me, person(number))
        seen = [did(person(number)) for number in range(0, 60, 12)]
        for nsid, key in (
            ("app.bsky.actor.getSuggestions", "actors"),
            ("app.bsky.notification.listActivitySubscriptions", "subscriptions"),
        ):
            shown = Listing(nsid, key, lambda item: str(item["did"]), _no_rows, _no_row, viewer=me)
            assert sorted(await walk(place, shown, 4)) == sorted(seen), nsid
            first = await place.answer(nsid, me, limit=4)
            assert len(first[key]) >= 2, nsid

    maker.town.do(look())


def test_a_cursor_of_a_list_that_has_none_such_is_refused(maker: Maker) -> None:
    async def look() -> None:
        me = await maker.member()
        for nsid, params in (
            ("app.bsky.notification.listActivitySubscriptions", {}),
            ("app.bsky.actor.getSuggestions", {}),
            ("com.atproto.label.queryLabels", {"uriPatterns": "x", "sources": did("src")}),
        ):
            for cursor in ("25", "W10=", "WyJhIl0=", "???", "null", "bnVsbA=="):
                reply = await maker.town.get(nsid, me, cursor=cursor, **params)
                assert (reply.status_code, reply.json()["error"]) == (400, "InvalidRequest"), (nsid, cursor)

    maker.town.do(look())


async def _no_rows(_: list[int]) -> list[str]:
    return []


async def _no_row(_: str) -> None:
    pass
