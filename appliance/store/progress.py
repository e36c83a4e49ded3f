"""How complete what somebody reads is: states of repositories, counted."""

from __future__ import annotations

from appliance.store.database import Reader

FOLLOW = 3

_OF_VIEWER = f"""
SELECT coalesce(repo.state, 'QUEUED'), count(*)
FROM (SELECT subject AS actor FROM link WHERE kind = {FOLLOW} AND actor = ?1 AND waiting = 0
      UNION SELECT ?1) AS read LEFT JOIN repo ON repo.actor = read.actor
GROUP BY 1
"""


def of_viewer(reader: Reader, viewer: int) -> dict[str, int]:
    """Number of accounts by state, of the viewer and everybody they follow."""
    return dict(reader.all(_OF_VIEWER, (viewer,)))


def of_actor(reader: Reader, actor: int) -> str | None:
    """The state of one repository; None when it is not tracked."""
    state: str | None = reader.value("SELECT state FROM repo WHERE actor = ?", (actor,))
    return state


def overall(reader: Reader) -> dict[str, int]:
    """Number of tracked repositories by state."""
    return dict(reader.all("SELECT state, count(*) FROM repo GROUP BY state"))
