"""How complete what somebody reads is: states of repositories, counted."""

from __future__ import annotations

from appliance.store.database import Reader

FOLLOW = 3

_READ = f"""
FROM (SELECT subject AS actor FROM link WHERE kind = {FOLLOW} AND actor = ?1 AND waiting = 0
      UNION SELECT ?1) AS read LEFT JOIN repo ON repo.actor = read.actor
"""
_OF_VIEWER = f"SELECT coalesce(repo.state, 'QUEUED'), count(*) {_READ} GROUP BY 1"
# Whatever became of the reason since: an audit that finds nothing wrong does not read what was left out.
_SINCE = "max(date(repo.window_us / 1000000, 'unixepoch'))"
_CUT = "repo.state = 'LIVE' AND repo.window_us IS NOT NULL"


def of_viewer(reader: Reader, viewer: int) -> dict[str, int]:
    """Number of accounts by state, of the viewer and everybody they follow."""
    return dict(reader.all(_OF_VIEWER, (viewer,)))


def since_of_viewer(reader: Reader, viewer: int) -> str:
    """The date back to which all of it is here, where somebody's older posts are not loaded; else ''."""
    found: str | None = reader.value(f"SELECT {_SINCE} {_READ} WHERE {_CUT}", (viewer,))
    return found or ""


def since_of_actor(reader: Reader, actor: int) -> str:
    """The same of one repository."""
    found: str | None = reader.value(f"SELECT {_SINCE} FROM repo WHERE actor = ?1 AND {_CUT}", (actor,))
    return found or ""


def of_actor(reader: Reader, actor: int) -> str | None:
    """The state of one repository; None when it is not tracked."""
    state: str | None = reader.value("SELECT state FROM repo WHERE actor = ?", (actor,))
    return state


def overall(reader: Reader) -> dict[str, int]:
    """Number of tracked repositories by state."""
    return dict(reader.all("SELECT state, count(*) FROM repo GROUP BY state"))
