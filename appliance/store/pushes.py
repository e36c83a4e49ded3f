"""Where members take messages, and what is still to be sent there."""

from __future__ import annotations

from typing import NamedTuple

from appliance.store.database import Reader, Transaction

# A member's oldest browsers make room for new ones.
SUBSCRIPTIONS_MAX = 20


class Subscription(NamedTuple):
    """One browser of a member."""

    id: int
    viewer: int
    did: str
    endpoint: str
    receiver: bytes
    secret: bytes
    failures: int


def subscribe(
    tx: Transaction, viewer: int, endpoint: str, receiver: bytes, secret: bytes, about: str, now_us: int
) -> None:
    """Messages go there, too. An endpoint belongs to whoever named it last."""
    tx.run(
        "INSERT INTO push_subscription (viewer, endpoint, receiver, secret, about, created_us)"
        " VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (endpoint) DO UPDATE SET"
        " created_us = iif(viewer = ?1, created_us, ?6), viewer = ?1, receiver = ?3, secret = ?4, about = ?5,"
        " failures = 0, next_us = 0",
        (viewer, endpoint, receiver, secret, about, now_us),
    )
    tx.run(
        "DELETE FROM push_subscription WHERE viewer = ?1 AND id NOT IN"
        " (SELECT id FROM push_subscription WHERE viewer = ?1 ORDER BY created_us DESC, id DESC LIMIT ?2)",
        (viewer, SUBSCRIPTIONS_MAX),
    )


def unsubscribe(tx: Transaction, viewer: int, endpoint: str) -> None:
    """No more messages there, if the member had asked for them."""
    tx.run("DELETE FROM push_subscription WHERE viewer = ? AND endpoint = ?", (viewer, endpoint))


def waiting(reader: Reader, now_us: int, rows_max: int) -> list[Subscription]:
    """Subscriptions for which something is to be sent and may be sent now."""
    rows = reader.all(
        "SELECT s.id, s.viewer, a.did, s.endpoint, s.receiver, s.secret, s.failures FROM push_subscription s"
        " JOIN actor a ON a.id = s.viewer WHERE s.next_us <= ?"
        " AND EXISTS (SELECT 1 FROM push_due d WHERE d.subscription = s.id) ORDER BY s.next_us LIMIT ?",
        (now_us, rows_max),
    )
    return list(map(Subscription._make, rows))


def due(reader: Reader, subscription: int, rows_max: int) -> list[tuple[int, int]]:
    """(record, reason) of what is to be sent there."""
    return reader.all(
        "SELECT record, reason FROM push_due WHERE subscription = ? ORDER BY record DESC LIMIT ?",
        (subscription, rows_max),
    )


def done(tx: Transaction, subscription: int, causes: list[tuple[int, int]], next_us: int) -> None:
    """These were sent or need not be; nothing more before that time."""
    tx.many(
        "DELETE FROM push_due WHERE subscription = ? AND record = ? AND reason = ?",
        [(subscription, record, reason) for record, reason in causes],
    )
    tx.run("UPDATE push_subscription SET failures = 0, next_us = ? WHERE id = ?", (next_us, subscription))


def failed(tx: Transaction, subscription: int, next_us: int) -> None:
    """Nobody took it: once more then."""
    tx.run(
        "UPDATE push_subscription SET failures = failures + 1, next_us = ? WHERE id = ?",
        (next_us, subscription),
    )


def remove(tx: Transaction, subscription: int) -> None:
    """The browser is gone, and with it what was to be sent there."""
    tx.run("DELETE FROM push_subscription WHERE id = ?", (subscription,))
