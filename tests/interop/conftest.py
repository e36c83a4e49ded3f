from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.interop.open_counter import Counter, open_counter


@pytest.fixture
async def counter(tmp_path: Path) -> AsyncIterator[tuple[Counter, str]]:
    async with open_counter(tmp_path) as opened:
        yield opened
