"""What is kept only as context for others, and which of it has served its time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import orjson

from appliance.store.database import Reader


class Old(NamedTuple):
    """A record that may go."""

    id: int
    collection: int
    state: int


# How strangers stand to members: follows, blocks, list items, and blocks by lists with members on them (kinds
# 3 to 6), those lists (collection 9), who vouches for a member (18) or for somebody tracked (kind 8), lists
# by which members mute or block and who is on them. These hold until they are taken back, however old they
# are.
_OF_MEMBERS = """
(EXISTS (SELECT 1 FROM link l JOIN member m ON m.actor = l.subject WHERE l.id = r.id AND l.kind IN (3, 4, 6))
 OR EXISTS (SELECT 1 FROM link l JOIN link i ON i.kind = 6 AND i.actor = l.subject AND i.waiting = 0
  JOIN member m ON m.actor = i.subject WHERE l.id = r.id AND l.kind = 5)
 OR (r.collection = 9 AND EXISTS (SELECT 1 FROM member m JOIN link i ON i.kind = 6 AND i.actor = r.id
  AND i.subject = m.actor AND i.waiting = 0))
 OR (r.collection = 18 AND r.state = 1 AND EXISTS (SELECT 1 FROM member m JOIN actor a ON a.id = m.actor
  WHERE a.did = json_extract(r.body, '$.subject')))
 OR (r.collection IN (9, 10) AND EXISTS (
  SELECT 1 FROM (SELECT r.id AS list WHERE r.collection = 9 UNION ALL
    SELECT i.actor FROM link i WHERE i.id = r.id AND i.kind = 6) AS lists
  WHERE EXISTS (SELECT 1 FROM list_mute WHERE list_mute.list = lists.list)
   OR EXISTS (SELECT 1 FROM link b JOIN member m ON m.actor = b.actor
    WHERE b.kind = 5 AND b.subject = lists.list AND b.waiting = 0)))
 OR EXISTS (SELECT 1 FROM link l JOIN repo ON repo.actor = l.subject AND repo.refs > 0
  WHERE l.id = r.id AND l.kind = 8))
"""

# Who names r, who names those, and so on: what protects r is one among them who is tracked, young, or
# bookmarked. Two that name each other protect nobody by that. What thousands name is not walked to the end:
# it stays until fewer do.
_NAMES_MAX = 2000
PROTECTED_BY = f"""
WITH RECURSIVE names (id) AS (
  SELECT r.id
  UNION
  SELECT p.id FROM names JOIN post p ON p.parent = names.id
  UNION
  SELECT p.id FROM names JOIN post p ON p.root = names.id
  UNION
  SELECT p.id FROM names JOIN post p ON p.quote = names.id
  UNION
  SELECT l.id FROM names JOIN link l ON l.kind = 1 AND l.subject = names.id AND l.waiting = 0
  UNION
  SELECT l.id FROM names JOIN link l ON l.kind = 2 AND l.subject = names.id AND l.waiting = 0
  UNION
  SELECT l.id FROM names JOIN link l ON l.kind = 5 AND l.subject = names.id AND l.waiting = 0
  UNION
  SELECT l.id FROM names JOIN link l ON l.kind = 6 AND l.actor = names.id AND l.waiting = 0
  LIMIT {_NAMES_MAX}
), counted AS (SELECT id, row_number() OVER () AS place FROM names)
SELECT 1 FROM counted n JOIN record o ON o.id = n.id
WHERE n.place = {_NAMES_MAX}
  OR EXISTS (SELECT 1 FROM bookmark WHERE post = n.id)
  OR (n.id <> r.id AND (o.indexed_us >= ?1 OR EXISTS (SELECT 1 FROM repo WHERE repo.actor = o.actor)))
"""

# Of an account that nobody tracks, not seen since ?1, protected by nothing, not about to be fetched; and
# not the profile (collection 5) of somebody who has other records here.
_IDLE = f"""
(r.state = 0 OR r.indexed_us < ?1)
AND NOT EXISTS (SELECT 1 FROM repo WHERE repo.actor = r.actor)
AND NOT EXISTS (SELECT 1 FROM fetch f WHERE f.kind = 'record' AND f.target = r.id AND f.outcome = '')
AND NOT (r.collection = 5
  AND EXISTS (SELECT 1 FROM record o WHERE o.actor = r.actor AND o.collection <> 5 AND o.state = 1))
AND NOT EXISTS ({PROTECTED_BY})
AND NOT {_OF_MEMBERS}
"""


def walk(reader: Reader, before_us: int, after: int, ids: int) -> tuple[list[int], int | None]:
    """Among the next so many record numbers those of strangers that nothing shows any more, and that came
    before ``before_us``. With them the number to go on from, None at the end."""
    end = reader.value(
        "SELECT max(id) FROM (SELECT id FROM record WHERE id > ? ORDER BY id LIMIT ?)", (after, ids)
    )
    if end is None:
        return [], None
    rows = reader.all(
        f"SELECT r.id FROM record r WHERE r.id > ?2 AND r.id <= ?3 AND {_IDLE}", (before_us, after, end)
    )
    return [row[0] for row in rows], end


def idle(reader: Reader, before_us: int, ids: Sequence[int]) -> list[Old]:
    """Those of these records for which that still holds."""
    rows = reader.all(
        "SELECT r.id, r.collection, r.state FROM record r"
        f" WHERE r.id IN (SELECT value FROM json_each(?2)) AND {_IDLE}",
        (before_us, orjson.dumps(ids).decode()),
    )
    return [Old(*row) for row in rows]


def of_gone(reader: Reader, before_us: int, rows_max: int) -> list[Old]:
    """Records of accounts whose deletion was confirmed before then, and once more since."""
    rows = reader.all(
        "SELECT r.id, r.collection, r.state FROM repo JOIN record r ON r.actor = repo.actor"
        " WHERE repo.state = 'GONE' AND repo.since_us < ? AND repo.attempts > 0 AND r.state <> 0 LIMIT ?",
        (before_us, rows_max),
    )
    return [Old(*row) for row in rows]
