"""How many tracked repositories are in which state."""

from __future__ import annotations

from appliance.store.database import Reader


def overall(reader: Reader) -> dict[str, int]:
    """Number of tracked repositories by state."""
    return dict(reader.all("SELECT state, count(*) FROM repo GROUP BY state"))
