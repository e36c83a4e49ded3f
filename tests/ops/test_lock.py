"""One process a data folder."""

from pathlib import Path

import pytest

from appliance.errors import Unavailable
from appliance.ops.lock import DataLock


def test_a_second_process_is_turned_away_until_the_first_ends(tmp_path: Path) -> None:
    with DataLock(tmp_path) as held:
        held.write("somebody")
        with pytest.raises(Unavailable) as refused:
            DataLock(tmp_path)
        assert refused.value.name == "Locked"

    with DataLock(tmp_path):
        assert (tmp_path / "lock").read_text() == "somebody"
