"""How long the soak lasts."""

import pytest


@pytest.fixture
def soak_s(request: pytest.FixtureRequest) -> float:
    """``--soak SECONDS``."""
    return float(request.config.getoption("--soak"))
