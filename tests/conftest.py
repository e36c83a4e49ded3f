"""What all tests share: the long ones run only when asked for."""

import pytest
from hypothesis import HealthCheck, settings

# A shared machine is slow at times; the number of examples bounds the work, not the clock.
settings.register_profile(
    "here", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long and not config.getoption("-m"):
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in set(long)]
