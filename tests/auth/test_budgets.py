"""How much callers may ask of us, by whatever they have proved."""

from typing import Any

import pytest

from appliance import config
from appliance.auth.budgets import BUCKETS_MAX, Budgets, Exceeded, of_address
from appliance.clock import ManualClock
from appliance.config import Settings
from appliance.errors import BadInput


def budgets(clock: ManualClock, **settings: Any) -> Budgets:
    return Budgets(Settings(**settings), clock)


async def test_t121_beyond_the_burst_requests_pass_at_the_rate_and_others_are_not_touched() -> None:
    clock = ManualClock()
    ours = budgets(clock)
    passed, waits = 0, []
    for _ in range(1000):
        await clock.advance(0.06)  # 1000 a minute
        try:
            ours.take("member", "did:plc:busy")
            passed += 1
        except Exceeded as error:
            waits.append(error.retry_after_s or 0)
        if passed % 4 == 0:
            ours.take("member", f"did:plc:calm{passed % 100}")
    assert 0 < min(waits) <= max(waits) <= 0.2
    assert 120 + 300 - 2 <= passed <= 120 + 300 + 2


async def test_t120_two_hundred_accounts_behind_one_address_are_never_refused_at_their_idle_rate() -> None:
    clock = ManualClock()
    ours = budgets(clock)
    for _ in range(60):
        await clock.advance(60 / 15)  # the heaviest client asks 15 times a minute
        for number in range(200):
            left = ours.take("member", f"did:plc:{number}")
            assert left is not None
            assert left.remaining > 100


async def test_t123_a_million_callers_take_bounded_memory() -> None:
    ours = budgets(ManualClock())
    for number in range(1_000_000):
        ours.take("guest", f"{number}")
    assert len(ours._buckets) == BUCKETS_MAX


async def test_what_is_left_is_told_as_clients_read_it() -> None:
    clock = ManualClock()
    ours = budgets(clock, limit_search="60/minute 2")
    first = ours.take("search", "one")
    assert first is not None
    now_s = clock.now_us() / 1_000_000
    headers = dict(first.headers)
    assert now_s < int(headers.pop("ratelimit-reset")) <= now_s + 2
    assert headers == {"ratelimit-limit": "2", "ratelimit-remaining": "1", "ratelimit-policy": "2;w=2"}
    ours.take("search", "one")
    ours.check("search", "two")
    for use in (ours.take, ours.check):
        with pytest.raises(Exceeded) as refused:
            use("search", "one")
        assert refused.value.left.remaining == 0
    await clock.advance(1)
    ours.check("search", "one")
    ours.take("search", "one")


async def test_who_comes_from_this_machine_and_switched_off_limits_are_not_counted() -> None:
    off = budgets(ManualClock(), rate_limits="off", limit_guest="1/day 1")
    on = budgets(ManualClock(), limit_guest="1/day 1")
    for _ in range(5):
        assert off.take("guest", "198.51.100.1") is None
        assert on.take("guest", of_address("127.0.0.1")) is None


@pytest.mark.parametrize(
    ("client", "whose"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("::ffff:198.51.100.7", "198.51.100.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::"),
        ("::1", ""),
        ("127.9.9.9", ""),
        ("", ""),
        ("nobody", ""),
    ],
)
def test_an_address_counts_as_its_network(client: str, whose: str) -> None:
    assert of_address(client) == whose


@pytest.mark.parametrize(
    "text", ["", "300", "0/minute 5", "5/minute 0", "5/week 5", "x/minute 5", "5/minute"]
)
def test_a_limit_that_is_none_stops_the_start_and_names_the_setting(text: str) -> None:
    with pytest.raises(BadInput, match="LIMIT_SEARCH"):
        config.load(None, {"LIMIT_SEARCH": text})


def test_the_plans_numbers_can_be_set() -> None:
    settings = config.load(None, {"LIMIT_GUEST": "30/minute 30", "LIMIT_MEMBER": "120/minute 120"})
    assert config.parse_limit(settings.limit_guest).rate == 0.5
