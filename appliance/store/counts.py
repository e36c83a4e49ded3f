"""Counters. Each changes in the transaction of the row that it counts, and only with it."""

from __future__ import annotations

from appliance.store.database import Transaction


def add_likes(tx: Transaction, record: int, by: int) -> None:
    """Likes that the record received."""
    tx.changed.records.add(record)
    tx.run(
        "INSERT INTO post_count (id, likes) VALUES (?1, ?2)"
        " ON CONFLICT (id) DO UPDATE SET likes = likes + ?2",
        (record, by),
    )


def add_reposts(tx: Transaction, record: int, by: int) -> None:
    """Reposts that the record received."""
    tx.changed.records.add(record)
    tx.run(
        "INSERT INTO post_count (id, reposts) VALUES (?1, ?2)"
        " ON CONFLICT (id) DO UPDATE SET reposts = reposts + ?2",
        (record, by),
    )


def add_replies(tx: Transaction, record: int, by: int) -> None:
    """Direct replies that keep to the thread's gate."""
    tx.changed.records.add(record)
    tx.run(
        "INSERT INTO post_count (id, replies) VALUES (?1, ?2)"
        " ON CONFLICT (id) DO UPDATE SET replies = replies + ?2",
        (record, by),
    )


def add_quotes(tx: Transaction, record: int, by: int) -> None:
    """Posts that quote the record."""
    tx.changed.records.add(record)
    tx.run(
        "INSERT INTO post_count (id, quotes) VALUES (?1, ?2)"
        " ON CONFLICT (id) DO UPDATE SET quotes = quotes + ?2",
        (record, by),
    )


def add_posts(tx: Transaction, actor: int, by: int) -> None:
    """Posts of the actor, replies among them."""
    tx.run(
        "INSERT INTO actor_count (actor, posts) VALUES (?1, ?2)"
        " ON CONFLICT (actor) DO UPDATE SET posts = posts + ?2",
        (actor, by),
    )


def add_follow(tx: Transaction, follower: int, followee: int, by: int) -> None:
    """A follow counts at both ends."""
    tx.run(
        "INSERT INTO actor_count (actor, follows) VALUES (?1, ?2)"
        " ON CONFLICT (actor) DO UPDATE SET follows = follows + ?2",
        (follower, by),
    )
    tx.run(
        "INSERT INTO actor_count (actor, followers) VALUES (?1, ?2)"
        " ON CONFLICT (actor) DO UPDATE SET followers = followers + ?2",
        (followee, by),
    )
