"""What each commit changed, for those who keep rows in memory from one snapshot to the next.

The functions that write ``record``, ``post``, ``post_count`` and ``link`` note it themselves, with
``Transaction.changed``: a trigger would more than double the cost of their statements, as each then
keeps a copy of the pages that it touches. What changes seldom is noted by triggers of the writer's
connection. What a savepoint undoes stays noted: too much does no harm.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

import msgspec

COMMITS_KEPT = 512
# A commit of more than this is told as "everything": to go through it would cost more than reading anew.
IDS_MAX = 20_000


class Changed(msgspec.Struct, frozen=True, gc=False):
    """Ids of one commit. ``everything`` stands for too many to tell."""

    records: frozenset[int] = frozenset()  # record, post or post_count rows
    actors: frozenset[int] = (
        frozenset()
    )  # who they are, their records with the key self, and who verifies them
    # Whose follows, blocks, likes, reposts, mutes or bookmarks; and whom somebody follows or blocks.
    viewers: frozenset[int] = frozenset()
    blocks: bool = False  # any block between any two, by list too
    lists: bool = False  # who is on which list, or blocks by one
    everything: bool = False


NOTHING = Changed()

# (table, event, what to note). Nobody keeps that an id has no row: new actors need no note.
_WATCHED = (
    (
        "record",
        "UPDATE OF takedown",
        (
            "changed_record(NEW.id), changed_actor(NEW.actor),"
            " (SELECT changed_actor(subject) FROM link WHERE id = NEW.id AND kind = 8)"
        ),
    ),
    ("actor", "UPDATE OF did, handle, status, takedown", "changed_actor(NEW.id)"),
    ("actor", "DELETE", "changed_actor(OLD.id)"),
    *(
        (table, event, f"changed_viewer({row}.viewer)")
        for table in ("mute", "list_mute", "thread_mute", "activity_subscription", "bookmark")
        for event, row in (("INSERT", "NEW"), ("UPDATE", "NEW"), ("DELETE", "OLD"))
    ),
)


class Noted:
    """What the transaction under way changes. Belongs to the writer's thread."""

    def __init__(self) -> None:
        self.records: set[int] = set()
        self.actors: set[int] = set()
        self.viewers: set[int] = set()
        self.blocks = False
        self.lists = False

    def link(self, kind: int, actor: int, subject: int) -> None:
        """A link of this kind (schema.sql) begins or ends."""
        if kind != _LIST_ITEM:
            self.viewers.add(actor)
        if kind in _BETWEEN_ACTORS:
            self.viewers.add(subject)
        if kind == _VERIFICATION:
            self.actors.add(subject)
        self.lists = self.lists or kind in _BY_LIST
        self.blocks = self.blocks or self.lists or kind == _BLOCK

    def take(self) -> Changed:
        """All of it; nothing is noted afterwards."""
        count = len(self.records) + len(self.actors) + len(self.viewers)
        if count > IDS_MAX:
            changed = Changed(everything=True)
        elif count or self.blocks:
            changed = Changed(
                records=frozenset(self.records),
                actors=frozenset(self.actors),
                viewers=frozenset(self.viewers),
                blocks=self.blocks,
                lists=self.lists,
            )
        else:
            changed = NOTHING
        self.records.clear()
        self.actors.clear()
        self.viewers.clear()
        self.blocks = False
        self.lists = False
        return changed


_BLOCK = 4
_LIST_ITEM = 6
_VERIFICATION = 8
_BY_LIST = (5, _LIST_ITEM)
_BETWEEN_ACTORS = (3, _BLOCK)


class Feed:
    """The changes of the last commits. The writer's thread publishes, readers' threads look.

    A commit is published before it happens, and settled after: a snapshot can't see one that is
    not published, and sees all that were settled before it began.
    """

    def __init__(self) -> None:
        self.settled = 0
        self.noted = Noted()
        self._log: tuple[int, tuple[Changed, ...]] = (0, ())

    def watch(self, connection: sqlite3.Connection) -> None:
        """Note from now on what this connection writes to tables that change seldom."""
        for name, ids in (
            ("record", self.noted.records),
            ("actor", self.noted.actors),
            ("viewer", self.noted.viewers),
        ):
            connection.create_function(f"changed_{name}", 1, ids.add)
        for number, (table, event, note) in enumerate(_WATCHED):
            connection.execute(
                f"CREATE TEMP TRIGGER changed_{number} AFTER {event} ON main.{table} BEGIN SELECT {note}; END"
            )

    def publish(self) -> None:
        """Tell what was noted: the commit comes next."""
        number, log = self._log
        self._log = (number + 1, (*log[-COMMITS_KEPT + 1 :], self.noted.take()))

    def settle(self) -> None:
        """The commit has happened, or never will."""
        self.settled = self._log[0]

    def since(self, settled: int) -> Sequence[Changed] | None:
        """What was published after that commit; None where that can't be told."""
        number, log = self._log
        behind = number - settled
        if behind > len(log):
            return None
        changes = log[len(log) - behind :]
        return None if any(each.everything for each in changes) else changes
