"""The judge is judged: with nothing wrong it is silent, and each wrong that is planted makes it complain."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from tests.sim import virtual
from tests.sim.oracle import Oracle, Report
from tests.sim.rig import sim

Plant = Callable[[sqlite3.Connection], str]
# A post of somebody who is followed and certified, and lives.
_ANY = (
    "SELECT r.id, a.did, r.rkey FROM record r JOIN actor a ON a.id = r.actor JOIN repo p ON p.actor = a.id"
    " WHERE r.collection = 1 AND r.state = 1 AND p.state = 'LIVE' AND p.cert_rev IS NOT NULL"
    " AND a.id NOT IN (SELECT actor FROM member) ORDER BY r.id LIMIT 1"
)


def wrong_row(db: sqlite3.Connection) -> str:
    record, did, _ = db.execute(_ANY).fetchone()
    db.execute("UPDATE record SET cid = 'bafyreiwrong' WHERE id = ?", (record,))
    return f"{did} is certified at"


def missing_row(db: sqlite3.Connection) -> str:
    record, _, rkey = db.execute(_ANY).fetchone()
    db.execute("UPDATE record SET state = 0 WHERE id = ?", (record,))
    return f"app.bsky.feed.post/{rkey} is None"


def extra_row(db: sqlite3.Connection) -> str:
    record, _, _ = db.execute(_ANY).fetchone()
    db.execute(
        "INSERT INTO record (actor, collection, rkey, state, epoch, rev, n, cid)"
        " SELECT actor, 1, '2222222222222', 1, epoch, '2222222222222', 0, cid FROM record WHERE id = ?",
        (record,),
    )
    return "app.bsky.feed.post/2222222222222 is"


def false_certificate(db: sqlite3.Connection) -> str:
    _, did, _ = db.execute(_ANY).fetchone()
    db.execute(
        "UPDATE repo SET cert_rev = '2222222222222' WHERE actor = (SELECT id FROM actor WHERE did = ?)",
        (did,),
    )
    return f"{did} is certified at 2222222222222, which never was"


def false_digest(db: sqlite3.Connection) -> str:
    _, did, _ = db.execute(_ANY).fetchone()
    db.execute(
        "UPDATE repo SET cert_digest = x'00' WHERE actor = (SELECT id FROM actor WHERE did = ?)", (did,)
    )
    return f"{did}: certified"


def moved_row(db: sqlite3.Connection) -> str:
    record, did, rkey = db.execute(_ANY).fetchone()
    db.execute("UPDATE record SET sort_ms = sort_ms + 1 WHERE id = ?", (record,))
    return f"{did}/app.bsky.feed.post/{rkey} moved"


def unfounded_epoch(db: sqlite3.Connection) -> str:
    """A tombstone of an older epoch in the place of what lives."""
    record, _, rkey = db.execute(_ANY).fetchone()
    db.execute("UPDATE record SET state = 2, epoch = epoch - 1 WHERE id = ?", (record,))
    return f"app.bsky.feed.post/{rkey} is None"


def resurrected_row(db: sqlite3.Connection) -> str:
    record, did, rkey = db.execute(
        "SELECT r.id, a.did, r.rkey FROM record r JOIN actor a ON a.id = r.actor WHERE r.state = 2"
    ).fetchone()
    db.execute("UPDATE record SET state = 1 WHERE id = ?", (record,))
    return f"{did}/app.bsky.feed.post/{rkey} is back"


def lost_operation(db: sqlite3.Connection) -> str:
    """The newest post of all is as if it had never come."""
    record, rkey = db.execute(
        "SELECT id, rkey FROM record WHERE collection = 1 AND state = 1 ORDER BY rev DESC LIMIT 1"
    ).fetchone()
    db.execute("UPDATE record SET state = 0 WHERE id = ?", (record,))
    return f"create of app.bsky.feed.post/{rkey}"


def hidden_from_the_timeline(db: sqlite3.Connection) -> str:
    record, _, _ = db.execute(_ANY).fetchone()
    db.execute("DELETE FROM item WHERE id = ?", (record,))
    return "lacks: 1"


def out_of_order(db: sqlite3.Connection) -> str:
    (record,) = db.execute(
        "SELECT i.id FROM item i JOIN record r USING (id) WHERE r.collection = 1"
    ).fetchone()
    db.execute("UPDATE item SET sort_ms = 0 WHERE id = ?", (record,))
    return "stands above"


def at_another_time(db: sqlite3.Connection) -> str:
    (record,) = db.execute(
        "SELECT i.id FROM item i JOIN record r USING (id) WHERE r.collection = 1 ORDER BY i.sort_ms DESC"
    ).fetchone()
    for table in ("item", "record"):
        db.execute(f"UPDATE {table} SET sort_ms = sort_ms + 1 WHERE id = ?", (record,))
    return ", made at"


ROWS: tuple[Plant, ...] = (
    wrong_row,
    missing_row,
    extra_row,
    false_certificate,
    false_digest,
    moved_row,
    unfounded_epoch,
    resurrected_row,
)
SHOWN: tuple[Plant, ...] = (hidden_from_the_timeline, out_of_order, at_another_time)
LONG_AGO_S = 10 * 86_400.0


def write(path: Path, plant: Plant) -> str:
    with closing(sqlite3.connect(path, timeout=20)) as db, db:
        return plant(db)


def test_each_planted_wrong_is_named_and_without_one_there_is_no_complaint(tmp_path: Path) -> None:
    async def main() -> dict[str, tuple[str, Report]]:
        found: dict[str, tuple[str, Report]] = {}
        async with sim(tmp_path, 3, accounts=12, posts=5) as made:
            oracle = Oracle(made)
            await made.until(lambda: oracle.look().certified >= 8, within_s=600)
            author = next(a for a in made.network.state.accounts.values() if oracle.follows(a.did))
            gone = made.network.post(author.did, "soon gone")
            await made.pass_s(60)
            oracle.look()
            made.network.delete(gone)
            made.network.post(author.did, "and another")
            await made.pass_s(60)
            clean = await oracle.final()
            assert clean.complaints == []
            assert oracle.checks["certificates"] > 0
            assert oracle.checks["digests of certificates"] > 0
            assert (oracle.checks["timelines"], oracle.checks["operations"] > 0) == (2, True)
            for plant in ROWS:
                copy = tmp_path / f"{plant.__name__}.db"
                with closing(sqlite3.connect(made.appliance.database)) as db:
                    db.execute("VACUUM INTO ?", (str(copy),))
                oracle.database = copy
                found[plant.__name__] = write(copy, plant), oracle.look()
            lost = Oracle(made, tmp_path / "lost.db")
            with closing(sqlite3.connect(made.appliance.database)) as db:
                db.execute("VACUUM INTO ?", (str(lost.database),))
            found["lost_operation"] = write(lost.database, lost_operation), lost.look()
            oracle.database = made.appliance.database
            for plant in SHOWN:
                told = write(oracle.database, plant)
                await made.appliance.stop()
                await made.appliance.start()
                found[plant.__name__] = told, await oracle.final()
        return found

    found, passed = virtual.run(main, 3)
    print(passed)
    for name, (told, report) in found.items():
        assert any(told in complaint for complaint in report.complaints), (name, told, report.complaints)


def test_an_operation_that_a_stream_swallowed_is_excused_for_the_promised_time_and_no_longer(
    tmp_path: Path,
) -> None:
    async def main() -> tuple[Report, Report]:
        async with sim(tmp_path, 4, accounts=8, posts=3) as made:
            oracle = Oracle(made)
            await made.until(lambda: oracle.look().certified >= 5, within_s=600)
            author = next(a for a in made.network.state.accounts.values() if oracle.follows(a.did))
            made.network.streams["jetstream_v2"].losses.switch({"lose_next": 1, "only_did": author.did})
            made.network.post(author.did, "never told")
            await made.pass_s(60)
            assert [lost.did for lost in oracle.lost()] == [author.did]
            return oracle.look(promised_s=3600), oracle.look(promised_s=30)

    (within, after), _ = virtual.run(main, 4)
    assert within.complaints == []
    assert ["has left no trace" in complaint for complaint in after.complaints] == [True]
