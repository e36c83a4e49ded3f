"""A network the size of an appliance that is full: made once by bulk writes, kept between runs.

The rows are those that the merge code makes of such records, written many at a time and in the order of their
tables, because a million records one by one take hours.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
import sqlite3
import time
from bisect import bisect
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import accumulate
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec
import orjson

from appliance.protocol.cid import order_key, to_text
from appliance.protocol.keys import PrivateKey
from appliance.protocol.tid import tid_of
from appliance.store import collections as kinds
from appliance.store import links, notifications, posts, search
from appliance.store.blobs import mention
from appliance.store.database import Database, Transaction

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "build" / "bench"
# Another number whenever other rows are made: what was kept is made anew.
VERSION = 1
CHUNK = 20_000
BLOCKED_LISTS = (1, 5, 9)
START_MS = 1_780_000_000_000
# The first accounts are those whom most follow.
CELEBRITY = 1
SYLLABLES = [
    f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "ll", "nd", "sk")
]
PURPOSES = ("app.bsky.graph.defs#curatelist", "app.bsky.graph.defs#modlist")
# The viewer's key: service tokens are made with it as the viewer's own server would.
KEY = PrivateKey.from_hex("07" * 32)


class Size(msgspec.Struct, frozen=True):
    """How much there is of everything."""

    accounts: int = 50_000
    members: int = 1000
    posts: int = 1_000_000
    likes: int = 1_500_000
    reposts: int = 150_000
    follows: int = 300  # of a member
    follows_of_others: int = 20
    viral: int = 20_000  # likes of the post that everybody saw; replies and quotes are a quarter and a tenth

    def smaller(self, by: int) -> Size:
        """The same in small."""
        return Size(
            accounts=self.accounts // by,
            members=max(20, self.members // by),
            posts=self.posts // by,
            likes=self.likes // by,
            reposts=self.reposts // by,
            viral=max(40, self.viral // by),
        )


class Named(msgspec.Struct, frozen=True):
    """What the benchmark asks for."""

    viewer: str
    celebrity: str
    viral: str
    some: list[str]  # posts of people whom the viewer follows
    people: list[str]
    lists: list[str]
    generators: list[str]
    packs: list[str]
    big_list: str
    labeler: str
    deep: str  # the last of a long chain of replies
    common: str
    rare: str


def did(number: int) -> str:
    """The DID of an account."""
    letters = "abcdefghijklmnopqrstuvwxyz234567"
    text = ""
    for _ in range(24):
        text, number = letters[number % 32] + text, number // 32
    return f"did:plc:{text}"


@cache
def _day(number: int) -> str:
    return datetime.fromtimestamp(number * 86_400, UTC).strftime("%Y-%m-%d")


class _Weighted:
    """Numbers from 1 on, the low ones more often."""

    def __init__(self, chance: random.Random, count: int, power: float) -> None:
        self._random = chance.random
        self._sums = list(accumulate(1 / (place + 3) ** power for place in range(count)))

    def one(self) -> int:
        return bisect(self._sums, self._random() * self._sums[-1]) + 1


class _Maker:
    def __init__(self, tx: Transaction, size: Size) -> None:
        self.tx, self.size = tx, size
        self.chance = random.Random(11)
        self.popular = _Weighted(self.chance, size.accounts, 0.7)
        self.words = _Weighted(self.chance, len(SYLLABLES), 1.0)
        self.dids = [did(n) for n in range(size.accounts + 1)]
        step = size.accounts // size.members
        self.members = {n * step for n in range(1, size.members + 1)}
        self.viewer = step
        self.record = 0
        self.arrival = 0
        self.rows: list[tuple[Any, ...]] = []
        self.counts: Counter[tuple[int, int]] = Counter()  # (record, what)
        self.people: Counter[tuple[int, int]] = Counter()
        self.wanted: Counter[int] = Counter()  # by how many members
        self.told: list[tuple[int, int, int, int, int, int | None]] = []
        # By post: author, cid, root, parent, time
        self.author: list[int] = []
        self.cid: list[str] = []
        self.root: list[int] = []
        self.parent: list[int] = []
        self.ms: list[int] = []
        self.first_post = 0
        self.revs = [""] * (size.accounts + 1)
        self.viral: list[int] = []
        self.deep = 0

    # ------------------------------------------------------------ pieces

    def add(self, actor: int, collection: int, body: dict[str, Any], ms: int, rkey: str = "") -> int:
        """A living record; its id."""
        self.record += 1
        us = ms * 1000 + self.record % 1000
        tid = tid_of(us, self.record & 1023)
        clock = f"{ms // 3_600_000 % 24:02}:{ms // 60_000 % 60:02}:{ms // 1000 % 60:02}"
        created = f"{_day(ms // 86_400_000)}T{clock}.000Z"
        raw = orjson.dumps({"$type": kinds.NSIDS[collection], **body, "createdAt": created})
        cid = to_text(b"\x01\x71\x12\x20" + hashlib.sha256(raw).digest())
        tie, arrival = order_key(cid), None
        if collection in (kinds.POST, kinds.REPOST):
            self.arrival += 1
            arrival = self.arrival
        self.revs[actor] = max(self.revs[actor], tid)
        self.rows.append(
            (self.record, actor, collection, rkey or tid, tid, cid, raw, ms // 1000 * 1000, tie, arrival, us)
        )
        self.last = (cid, tie, arrival, raw, rkey or tid)
        if len(self.rows) >= CHUNK:
            self.flush()
        return self.record

    def flush(self) -> None:
        self.tx.many(
            "INSERT INTO record (id, actor, collection, rkey, state, epoch, rev, n, cid, body, sort_ms, tie,"
            " arrival, indexed_us) VALUES (?, ?, ?, ?, 1, 0, ?, 0, ?, ?, ?, ?, ?, ?)",
            self.rows,
        )
        self.rows.clear()

    def text(self, few: int = 4, many: int = 30) -> str:
        return " ".join(SYLLABLES[self.words.one() - 1] for _ in range(self.chance.randrange(few, many)))

    def uri(self, post: int) -> str:
        author = self.author[post]
        return f"at://{self.dids[author]}/app.bsky.feed.post/{self.keys[post]}"

    def ref(self, post: int) -> dict[str, str]:
        return {"uri": self.uri(post), "cid": self.cid[post]}

    def id_of(self, post: int) -> int:
        return self.ids[post]

    def tell(self, owner: int, ms: int, record: int, reason: int, author: int, subject: int | None) -> None:
        if owner in self.members and owner != author:
            self.told.append((owner, ms, record, reason, author, subject))

    def link(self, rows: Sequence[tuple[int, ...]]) -> None:
        self.tx.many(
            "INSERT INTO link (id, kind, actor, subject, sort_ms, tie) VALUES (?, ?, ?, ?, ?, ?)", rows
        )

    def picture(self, number: int) -> dict[str, Any]:
        cid = to_text(b"\x01\x55\x12\x20" + number.to_bytes(32, "big"))
        return {"$type": "blob", "ref": {"$link": cid}, "mimeType": "image/jpeg", "size": 90_000}

    # ------------------------------------------------------------ everything

    def everybody(self) -> None:
        size = self.size
        self.tx.many(
            "INSERT INTO actor (id, did, known, handle, pds, signing_key, resolved_us, indexed_ms)"
            " VALUES (?, ?, 1, ?, 'http://127.0.0.1:9', ?, 1, ?)",
            (
                (n, self.dids[n], f"{SYLLABLES[n % len(SYLLABLES)]}{n}.test", KEY.did_key, START_MS)
                for n in range(1, size.accounts + 1)
            ),
        )
        self.tx.many(
            "INSERT INTO member (actor, via, admitted_us) VALUES (?, 'operator', ?)",
            ((n, START_MS * 1000) for n in sorted(self.members)),
        )
        for n in range(1, size.accounts + 1):
            name = f"{SYLLABLES[(n * 7) % len(SYLLABLES)]} {SYLLABLES[(n * 13) % len(SYLLABLES)]}"
            body = {"displayName": name, "description": self.text(3, 20), "avatar": self.picture(n)}
            record = self.add(n, kinds.PROFILE, body, START_MS + n, "self")
            mention(self.tx, record, n, self.last[3])
        self.flush()
        for n in range(1, size.accounts + 1):
            search.person(self.tx, n)

    def follows(self) -> None:
        size, rows = self.size, []
        for n in range(1, size.accounts + 1):
            count = size.follows if n in self.members else size.follows_of_others
            wanted = {self.popular.one() for _ in range(count)} | ({CELEBRITY} if n % 10 < 8 else set())
            while len(wanted) < count and n == self.viewer:
                wanted.add(self.popular.one())
            if n % 25 == 0:
                wanted.add(self.viewer)
            wanted.discard(n)
            for other in sorted(wanted):
                ms = START_MS + self.chance.randrange(900_000_000)
                record = self.add(n, kinds.FOLLOW, {"subject": self.dids[other]}, ms)
                rows.append((record, links.FOLLOW, n, other, ms // 1000 * 1000, self.last[1]))
                self.people[n, 0] += 1
                self.people[other, 1] += 1
                if n in self.members:
                    self.wanted[other] += 1
                self.tell(other, ms // 1000 * 1000, record, notifications.FOLLOW, n, None)
                if n == self.viewer:
                    self.followed.append(other)
        self.link(rows)

    def all_posts(self) -> None:
        """In the order of time; a reply or a quote is of something recent, or of the viral one."""
        size, chance = self.size, self.chance
        self.keys: list[str] = []
        self.ids: list[int] = []
        items: list[tuple[Any, ...]] = []
        rows: list[tuple[Any, ...]] = []
        gated: list[int] = []
        viral_at = size.posts // 2
        answers, quotes = size.viral // 4, size.viral // 10
        for number in range(size.posts):
            author = self.popular.one()
            if number % 400 == 7 or number == viral_at:
                author = self.viewer
            ms = START_MS + number * 900
            body: dict[str, Any] = {"text": self.text(), "langs": ["en"]}
            flags = root = 0
            parent = quote = -1
            kind = chance.random()
            since = number - viral_at
            if since == 0:
                self.viral.append(number)
            elif 0 < since <= 2 * answers and since % 2:
                # Most answer the post itself; some each other.
                parent = (
                    viral_at if chance.random() < 0.8 or since < 20 else number - 1 - chance.randrange(18)
                )
            elif 0 < since <= 10 * quotes and since % 10 == 4:
                quote = viral_at
            elif 3 * answers < since <= 3 * answers + 200:
                parent = number - 1  # a chain
                self.deep = number
            elif kind < 0.28 and number > 1000:
                parent = number - 1 - min(int(chance.expovariate(1 / 300)), 999)
            elif kind < 0.33 and number > 1000:
                quote = number - 1 - min(int(chance.expovariate(1 / 300)), 999)
            elif kind < 0.48:
                alt = self.text(2, 8)
                images = [
                    {"image": self.picture(size.accounts + number * 4 + i), "alt": alt}
                    | {"aspectRatio": {"width": 1200, "height": 800}}
                    for i in range(1 + number % 3)
                ]
                body["embed"] = {"$type": "app.bsky.embed.images", "images": images}
                flags = posts.IMAGES
            if parent >= 0:
                root = self.root[parent] if self.root[parent] >= 0 else parent
                body["reply"] = {"root": self.ref(root), "parent": self.ref(parent)}
                flags = posts.REPLY
            else:
                root = -1
            if quote >= 0:
                body["embed"] = {"$type": "app.bsky.embed.record", "record": self.ref(quote)}
                flags = posts.QUOTE
            record = self.add(author, kinds.POST, body, ms)
            cid, tie, arrival, raw, key = self.last
            sort_ms = ms // 1000 * 1000
            self.author.append(author)
            self.cid.append(cid)
            self.root.append(root)
            self.parent.append(parent)
            self.ms.append(sort_ms)
            self.keys.append(key)
            self.ids.append(record)
            ties = [self.ids[n] if n >= 0 else None for n in (root, parent, quote)]
            items.append((record, author, sort_ms, tie, record, flags, arrival))
            rows.append((record, author, *ties, sort_ms, tie, flags))
            search.add(self.tx, record, author, kinds.POST, raw, sort_ms, tie)
            if flags & posts.IMAGES:
                mention(self.tx, record, author, raw)
            self.people[author, 2] += 1
            if parent >= 0:
                self.counts[self.ids[parent], 2] += 1
                self.tell(self.author[parent], sort_ms, record, notifications.REPLY, author, self.ids[parent])
            if quote >= 0:
                self.counts[self.ids[quote], 3] += 1
                self.tell(self.author[quote], sort_ms, record, notifications.QUOTE, author, self.ids[quote])
            if parent < 0 and number % 50 == 9:
                gated.append(number)
            if len(rows) >= CHUNK:
                self._posts(items, rows)
        self._posts(items, rows)
        for number in gated:
            body = {"post": self.uri(number), "allow": [{"$type": "app.bsky.feed.threadgate#mentionRule"}]}
            self.add(self.author[number], kinds.THREAD_GATE, body, self.ms[number], self.keys[number])
        self.flush()
        self.tx.many(
            "UPDATE post SET flags = flags | ? WHERE id = ?",
            ((posts.THREAD_GATE, self.ids[n]) for n in gated),
        )

    def _posts(self, items: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]) -> None:
        self.tx.many(
            "INSERT INTO item (id, actor, sort_ms, tie, subject, flags, arrival)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            items,
        )
        self.tx.many(
            "INSERT INTO post (id, actor, root, parent, quote, sort_ms, tie, flags)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            rows,
        )
        items.clear()
        rows.clear()

    def reactions(self, kind: int, collection: int, count: int, what: int, reason: int, viral: int) -> None:
        size, chance = self.size, self.chance
        seen: set[int] = set()
        rows: list[tuple[int, ...]] = []
        items: list[tuple[Any, ...]] = []
        hot = _Weighted(chance, size.posts // 200, 0.8)
        for number in range(count):
            if number < min(viral, size.accounts - 1):
                actor, post = number + 1, self.viral[0]
            elif number % 700 == 3:
                actor, post = self.viewer, size.posts - 1 - chance.randrange(size.posts // 3)
            elif number % 3 == 0:
                actor, post = self.popular.one(), size.posts - hot.one() * 200 + 7
            else:
                actor, post = self.popular.one(), chance.randrange(size.posts)
            pair = actor * size.posts + post
            if pair in seen:
                continue
            seen.add(pair)
            ms = self.ms[post] + chance.randrange(3_600_000)
            record = self.add(actor, collection, {"subject": self.ref(post)}, ms)
            sort_ms, tie, arrival = ms // 1000 * 1000, self.last[1], self.last[2]
            rows.append((record, kind, actor, self.ids[post], sort_ms, tie))
            if kind == links.REPOST:
                items.append((record, actor, sort_ms, tie, self.ids[post], posts.REPOST, arrival))
            self.counts[self.ids[post], what] += 1
            self.tell(self.author[post], sort_ms, record, reason, actor, self.ids[post])
            if len(rows) >= CHUNK:
                self.link(rows)
                self._posts(items, [])
                rows.clear()
        self.link(rows)
        self._posts(items, [])

    def things(self) -> None:
        """Lists, feeds, starter packs, labelers and labels."""
        size, chance = self.size, self.chance
        rows: list[tuple[int, ...]] = []
        lists = max(100, size.accounts // 50)
        for number in range(lists):
            owner = self.viewer if number % 25 == 0 else self.popular.one()
            ms = START_MS + number * 60_000
            body = {
                "name": self.text(1, 4),
                "purpose": PURPOSES[number % 3 == 1],
                "description": self.text(2, 9),
            }
            made = self.add(owner, kinds.LIST, body, ms)
            uri = f"at://{self.dids[owner]}/app.bsky.graph.list/{self.last[4]}"
            self.lists.append((made, owner, uri))
            on_it = {self.popular.one() for _ in range(min(5000, size.accounts // 4) if number == 0 else 60)}
            if number in BLOCKED_LISTS:
                self.apart |= on_it
            for subject in sorted(on_it):
                item = {"subject": self.dids[subject], "list": uri}
                record = self.add(owner, kinds.LIST_ITEM, item, ms + 1000)
                rows.append(
                    (record, links.LIST_ITEM, made, subject, (ms + 1000) // 1000 * 1000, self.last[1])
                )
            if number % 2 == 0:
                pack = {"name": self.text(1, 4), "list": uri}
                record = self.add(owner, kinds.STARTER_PACK, pack, ms + 2000)
                _, tie, _, raw, key = self.last
                search.add(self.tx, record, owner, kinds.STARTER_PACK, raw, (ms + 2000) // 1000 * 1000, tie)
                self.packs.append(f"at://{self.dids[owner]}/app.bsky.graph.starterpack/{key}")
        for number in range(lists):
            owner = self.popular.one()
            feed = {
                "did": "did:web:feeds.test",
                "displayName": self.text(1, 3),
                "avatar": self.picture(number),
            }
            record = self.add(owner, kinds.GENERATOR, feed, START_MS + number * 1000)
            self.generators.append(f"at://{self.dids[owner]}/app.bsky.feed.generator/{self.last[4]}")
            self.counts[record, 0] += 0
        for number in range(2, 12):
            policies = {"policies": {"labelValues": ["porn", "spam", "rude"]}}
            self.add(number, kinds.LABELER, policies, START_MS, "self")
        self.link(rows)
        self.flush()
        self.tx.many(
            "INSERT OR IGNORE INTO label (src, uri, val, cts) VALUES (?, ?, ?, '2026-06-01T00:00:00Z')",
            (
                (
                    self.dids[2 + n % 10],
                    self.uri(chance.randrange(size.posts)),
                    ("porn", "rude", "spam")[n % 3],
                )
                for n in range(size.posts // 50)
            ),
        )

    def of_the_viewer(self) -> None:
        size, chance, tx, viewer = self.size, self.chance, self.tx, self.viewer
        us = START_MS * 1000
        others = sorted(set(range(3, size.accounts, max(1, size.accounts // 400))) - {viewer})
        tx.many("INSERT INTO mute VALUES (?, ?, ?, 0)", ((viewer, n, us + n) for n in others[::2]))
        rows = []
        for n in others[1::2]:
            record = self.add(viewer, kinds.BLOCK, {"subject": self.dids[n]}, START_MS + n)
            rows.append((record, links.BLOCK, viewer, n, START_MS, self.last[1]))
        self.apart |= set(others[1::2])
        for made, owner, uri in (self.lists[number] for number in BLOCKED_LISTS):
            tx.run("INSERT INTO list_mute VALUES (?, ?, ?)", (viewer, made, us))
            record = self.add(viewer, kinds.LIST_BLOCK, {"subject": uri}, START_MS + owner)
            rows.append((record, links.LIST_BLOCK, viewer, made, START_MS, self.last[1]))
        self.link(rows)
        for n in sorted({chance.randrange(size.posts) for _ in range(500)}):
            tx.run("INSERT INTO bookmark VALUES (?, ?, ?, ?)", (viewer, self.ids[n], self.cid[n], us + n))
            self.counts[self.ids[n], 4] += 1
        for n in sorted({chance.randrange(size.posts) for _ in range(50)}):
            tx.run("INSERT OR IGNORE INTO thread_mute VALUES (?, ?, ?)", (viewer, self.ids[n], us))
        for n in self.followed[:100]:
            key = tid_of(us + n, 1)
            tx.run("INSERT INTO activity_subscription VALUES (?, ?, 1, 0, ?)", (viewer, n, key))
        draft = orjson.dumps({"posts": [{"text": "to be said"}]})
        for n in range(50):
            tx.run("INSERT INTO draft VALUES (?, ?, ?, ?, ?)", (viewer, tid_of(us + n, 2), draft, us, us))

    def settle(self) -> None:
        """What has been counted, and what everybody is told of."""
        tx = self.tx
        self.flush()
        by_record: dict[int, list[int]] = {}
        for (record, what), count in self.counts.items():
            by_record.setdefault(record, [0] * 5)[what] = count
        tx.many(
            "INSERT INTO post_count (id, likes, reposts, replies, quotes, bookmarks)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            ((record, *counts) for record, counts in sorted(by_record.items())),
        )
        by_actor: dict[int, list[int]] = {}
        for (actor, what), count in self.people.items():
            by_actor.setdefault(actor, [0] * 3)[what] = count
        tx.many(
            "INSERT INTO actor_count (actor, follows, followers, posts) VALUES (?, ?, ?, ?)",
            ((actor, *counts) for actor, counts in sorted(by_actor.items())),
        )
        tx.many(
            "INSERT INTO notification (viewer, sort_ms, record, reason, author, subject)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            sorted(self.told, key=itemgetter(0, 1, 2, 3)),
        )
        tx.many(
            "UPDATE actor SET rev = ? WHERE id = ?",
            ((rev, n) for n, rev in enumerate(self.revs) if rev),
        )
        tx.run("INSERT OR REPLACE INTO meta (name, value) VALUES ('arrival', ?)", (str(self.arrival),))
        # Everybody whom a member follows is kept, whole, and compared lately.
        us = (START_MS + self.size.posts * 900) * 1000
        refs = Counter(dict.fromkeys(self.members, 1)) + self.wanted
        tx.many(
            "INSERT INTO repo (actor, state, since_us, refs, cover_us, cert_us, cert_rev, cert_method,"
            " cert_count)"
            " VALUES (?, 'LIVE', ?, ?, ?, ?, ?, 'listing', 0)",
            ((n, us, count, us, us, self.revs[n]) for n, count in sorted(refs.items())),
        )

    def run(self) -> Named:
        self.followed: list[int] = []
        self.lists: list[tuple[int, int, str]] = []
        self.packs: list[str] = []
        self.apart: set[int] = set()  # from the viewer: blocked or muted by list
        self.generators: list[str] = []
        size = self.size
        began = time.monotonic()

        def tell(what: str) -> None:
            print(f"  {time.monotonic() - began:5.0f} s  {what}", flush=True)

        self.everybody()
        tell("accounts")
        self.follows()
        tell("follows")
        self.all_posts()
        tell("posts")
        self.reactions(links.LIKE, kinds.LIKE, size.likes, 0, notifications.LIKE, size.viral)
        tell("likes")
        self.reactions(links.REPOST, kinds.REPOST, size.reposts, 1, notifications.REPOST, size.viral // 4)
        tell("reposts")
        self.things()
        self.of_the_viewer()
        self.settle()
        tell("counts and notifications")
        self.followed = [n for n in self.followed if n not in self.apart]
        followed = set(self.followed)
        some = [n for n in range(size.posts - 1, -1, -1) if self.author[n] in followed][:400]
        return Named(
            viewer=self.dids[self.viewer],
            celebrity=self.dids[CELEBRITY],
            viral=self.uri(self.viral[0]),
            some=[self.uri(n) for n in some],
            people=[self.dids[n] for n in self.followed],
            lists=[uri for _, _, uri in self.lists[1:60]],
            generators=self.generators[:60],
            packs=self.packs[:60],
            big_list=self.lists[0][2],
            labeler=self.dids[2],
            deep=self.uri(self.deep),
            common=SYLLABLES[0],
            rare=SYLLABLES[-1],
        )


def make(path: Path, size: Size) -> Named:
    """Fill a new database file."""

    async def empty() -> None:
        await (await Database.open(path)).close()

    asyncio.run(empty())
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "cache_size=-800000", "temp_store=MEMORY"):
        connection.execute(f"PRAGMA {pragma}")
    later = list(_put_off(connection))
    connection.execute("BEGIN")
    named = _Maker(Transaction(connection), size).run()
    connection.execute("COMMIT")
    for sql in later:
        connection.execute(sql)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.close()
    return named


def _put_off(connection: sqlite3.Connection) -> Iterator[str]:
    """Take away the indexes that are cheaper to make at the end; gives what makes them."""
    for name, sql in connection.execute(
        "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
        " AND tbl_name IN ('item', 'post', 'link', 'record') AND name <> 'record_self'"
    ).fetchall():
        connection.execute(f"DROP INDEX {name}")
        yield sql


def kept(size: Size) -> tuple[Path, Named]:
    """The folder of the database that was made before, or is made now."""
    digest = hashlib.sha256((ROOT / "schema.sql").read_bytes() + f"{VERSION} {size}".encode())
    folder = KEPT / digest.hexdigest()[:16]
    told = folder / "named.json"
    if not told.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.monotonic()
        print(f"\nmaking {size}", flush=True)
        named = make(folder / "appliance.db", size)
        told.write_bytes(msgspec.json.encode(named))
        print(f"made in {time.monotonic() - began:.0f} s", flush=True)
    return folder, msgspec.json.decode(told.read_bytes(), type=Named)
