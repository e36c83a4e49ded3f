"""What viewers keep here for themselves: whom they mute, which posts they keep."""

from __future__ import annotations

from appliance.store.database import Transaction


def mute(tx: Transaction, viewer: int, subject: int, now_us: int) -> None:
    """From now on; again changes nothing."""
    tx.run(
        "INSERT INTO mute (viewer, subject, created_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (viewer, subject, now_us),
    )


def unmute(tx: Transaction, viewer: int, subject: int) -> None:
    """Whether or not it was so."""
    tx.run("DELETE FROM mute WHERE viewer = ? AND subject = ?", (viewer, subject))


def bookmark(tx: Transaction, viewer: int, post: int, cid: str, now_us: int) -> None:
    """Keep the post; again changes nothing. The count changes with the row."""
    if tx.run(
        "INSERT INTO bookmark (viewer, post, cid, created_us) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING",
        (viewer, post, cid, now_us),
    ):
        tx.changed.records.add(post)
        tx.run(
            "INSERT INTO post_count (id, bookmarks) VALUES (?, 1)"
            " ON CONFLICT (id) DO UPDATE SET bookmarks = bookmarks + 1",
            (post,),
        )


def remove_bookmark(tx: Transaction, viewer: int, post: int) -> None:
    """Whether or not there was one."""
    if tx.run("DELETE FROM bookmark WHERE viewer = ? AND post = ?", (viewer, post)):
        tx.changed.records.add(post)
        tx.run("UPDATE post_count SET bookmarks = bookmarks - 1 WHERE id = ?", (post,))
