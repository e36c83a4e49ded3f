"""What viewers keep here for themselves: whom and what they mute, follow closely, or keep."""

from __future__ import annotations

from appliance.store.database import Transaction

ONLY_REPOSTS = 1
ONLY_QUOTES = 2


def mute(tx: Transaction, viewer: int, subject: int, only: int, now_us: int) -> None:
    """From now on; ``only`` limits it to some of what they write. Again replaces the limit and no more."""
    tx.run(
        "INSERT INTO mute (viewer, subject, created_us, only) VALUES (?1, ?2, ?3, ?4)"
        " ON CONFLICT (viewer, subject) DO UPDATE SET only = ?4 WHERE only <> ?4",
        (viewer, subject, now_us, only),
    )


def mute_list(tx: Transaction, viewer: int, list_record: int, now_us: int) -> None:
    """Whoever is on the list, from now on; again changes nothing."""
    tx.run(
        "INSERT INTO list_mute (viewer, list, created_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (viewer, list_record, now_us),
    )


def unmute_list(tx: Transaction, viewer: int, list_record: int) -> None:
    """Whether or not it was so."""
    tx.run("DELETE FROM list_mute WHERE viewer = ? AND list = ?", (viewer, list_record))


def mute_thread(tx: Transaction, viewer: int, root: int, now_us: int) -> None:
    """No more notifications of this thread; again changes nothing."""
    tx.run(
        "INSERT INTO thread_mute (viewer, root, created_us) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
        (viewer, root, now_us),
    )


def unmute_thread(tx: Transaction, viewer: int, root: int) -> None:
    """Whether or not it was so."""
    tx.run("DELETE FROM thread_mute WHERE viewer = ? AND root = ?", (viewer, root))


def subscribe(tx: Transaction, viewer: int, subject: int, key: str, *, post: bool, reply: bool) -> None:
    """Be told of what they post or answer; neither ends it. ``key`` places a new one in the list."""
    if not (post or reply):
        tx.run("DELETE FROM activity_subscription WHERE viewer = ? AND subject = ?", (viewer, subject))
        return
    tx.run(
        "INSERT INTO activity_subscription (viewer, subject, post, reply, key) VALUES (?1, ?2, ?3, ?4, ?5)"
        " ON CONFLICT (viewer, subject) DO UPDATE SET post = ?3, reply = ?4",
        (viewer, subject, int(post), int(reply), key),
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
