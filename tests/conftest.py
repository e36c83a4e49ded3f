"""What all tests share: the archive, and the long tests that run only when asked for."""

from collections.abc import Generator
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from _pytest.terminal import TerminalReporter
from hypothesis import HealthCheck, settings

from building import archive
from tests import answers

# A shared machine is slow at times; the number of examples bounds the work, not the clock.
settings.register_profile(
    "here", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("here")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the tests that take minutes, too")
    parser.addoption("--kills", type=int, default=520, help="kills of the long crash test (with --long)")
    parser.addoption("--failed-to", type=Path, help="write the names of failed tests to this file")
    parser.addoption("--soak", type=float, default=75.0, help="seconds that the soak lasts (with --long)")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--long") or config.getoption("-m"):
        return
    long = {item for item in items if item.get_closest_marker("long")}
    config.hook.pytest_deselected(items=list(long))
    items[:] = [item for item in items if item not in long]


def pytest_terminal_summary(terminalreporter: TerminalReporter, config: pytest.Config) -> None:
    """Here, and not when the session ends: the process that shares the work out has heard of all of them."""
    target = config.getoption("--failed-to")
    if target is not None:
        reports = [report for kind in ("failed", "error") for report in terminalreporter.stats.get(kind, [])]
        target.write_text("".join(f"{name}\n" for name in dict.fromkeys(each.nodeid for each in reports)))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """Whatever a test asks of an appliance over XRPC, the answer is held against the published schemas."""
    wrong: list[str] = []
    ask = httpx.AsyncClient.send

    async def send(self: httpx.AsyncClient, *how: Any, **more: Any) -> httpx.Response:
        reply = await ask(self, *how, **more)
        failure = answers.watched(reply)
        if failure is not None:
            wrong.append(failure)
        return reply

    with mock.patch.object(httpx.AsyncClient, "send", send):
        result = yield
    assert wrong == [], item.nodeid
    return result


@pytest.fixture(scope="session")
def pyz() -> Path:
    """dist/appliance.pyz for the running Python, built if anything changed since the last time."""
    return archive.single()
