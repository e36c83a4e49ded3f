"""The living world: its people go on posting, answering, liking, following, and taking back."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable
from random import Random
from typing import Any

import orjson

from appliance.devnet import records, writing
from appliance.devnet.people import Person
from appliance.devnet.records import Attached, Ref
from appliance.devnet.repository import Change
from appliance.devnet.seeding import PEOPLE, PICTURES
from appliance.devnet.state import Hosted, State
from appliance.protocol import cbor

RECENT_MAX = 3000
# What happens how often, in hundredths of a percent.
_WEIGHTS = {
    "like": 4400,
    "post": 2200,
    "reply": 1500,
    "repost": 900,
    "quote": 300,
    "follow": 250,
    "unfollow": 120,
    "delete": 200,
    "edit_profile": 100,
    "tell_handle": 30,
}


class World:
    """Acts for everybody but the members, who belong to whoever signs in."""

    def __init__(self, state: State, members: int) -> None:
        self.done: Counter[str] = Counter()
        self._state = state
        self._people: list[tuple[str, Person]] = []
        for entry in orjson.loads(state.notes.get(PEOPLE, "[]")):
            person = Person(
                entry["handle"],
                entry["name"],
                entry["bio"],
                tuple(entry["topics"]),
                tuple(entry["languages"]),
                entry["pace"],
            )
            self._people.append((entry["did"], person))
        self._actors = self._people[members:] if len(self._people) > members else self._people
        self._pool: list[dict[str, Any]] = orjson.loads(state.notes.get(PICTURES, "[]"))
        self._recent: deque[Ref] = deque(self._newest(), maxlen=RECENT_MAX)
        self._random = Random(0)  # noqa: S311 -- a world to play in, not a secret
        self._acts: dict[str, Callable[[Hosted, Person], bool]] = {
            name: getattr(self, f"_{name}") for name in _WEIGHTS
        }

    async def live(self, rate: float) -> None:
        """So many events a second, for ever; may be cancelled at any time."""
        if rate <= 0 or not self._actors:
            return
        clock = self._state.clock
        due = clock.monotonic_s()
        while True:
            due += self._random.expovariate(rate)
            wait = due - clock.monotonic_s()
            if wait > 0:
                await clock.sleep(wait)
            else:
                # Whoever can't keep up doesn't try to make up for it later, nor keep the servers waiting.
                due = max(due, clock.monotonic_s() - 1)
                await asyncio.sleep(0)
            self.act()

    def act(self) -> str:
        """One thing happens; returns what. The same seed and past give the same deed."""
        self._random.seed(f"{self._state.seed}/{self._state.log.end}")
        for _ in range(100):
            name = self._random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
            did, person = self._random.choices(self._actors, [each.pace for _, each in self._actors])[0]
            account = self._state.accounts[did]
            if account.active and self._acts[name](account, person):
                self.done[name] += 1
                return name
        raise AssertionError("nobody in this world can do anything")

    # ---- deeds: True where it happened

    def _post(self, account: Hosted, person: Person) -> bool:
        random, now = self._random, self._state.clock.now_us()
        topic = random.choice(person.topics)
        kind = random.random()
        if kind < 0.1:
            draft, preview = writing.link(random, topic)
            thumb = self._picture(account) if random.random() < 0.5 else None
            return self._write_post(account, records.post(draft, now, embed=records.card(preview, thumb)))
        if kind < 0.18 and (friend := self._friend(account)) is not None:
            draft = writing.mention(random, friend.handle, friend.did)
            return self._write_post(account, records.post(draft, now))
        draft = writing.post(random, person, topic)
        embed = None
        if topic == "photo" or kind > 0.85:
            shown = [self._picture(account) for _ in range(random.choice((1, 1, 2, 3)))]
            embed = records.images([each for each in shown if each is not None])
        return self._write_post(account, records.post(draft, now, embed=embed))

    def _reply(self, account: Hosted, person: Person) -> bool:
        seen = self._seen(account)
        if seen is None:
            return False
        mine = seen.did == account.did
        random, now = self._random, self._state.clock.now_us()
        draft = writing.follow_up(random) if mine else writing.reply(random, person, seen.language)
        return self._write_post(account, records.post(draft, now, parent=seen))

    def _quote(self, account: Hosted, _: Person) -> bool:
        seen = self._seen(account)
        if seen is None:
            return False
        block = records.post(
            writing.quote(self._random), self._state.clock.now_us(), embed=records.quote(seen)
        )
        return self._write_post(account, block)

    def _like(self, account: Hosted, _: Person) -> bool:
        return self._point(account, records.LIKE)

    def _repost(self, account: Hosted, _: Person) -> bool:
        return self._point(account, records.REPOST)

    def _follow(self, account: Hosted, _: Person) -> bool:
        other = self._state.accounts[self._random.choice(self._people)[0]]
        if other is account or not other.active or other.did in self._followed(account):
            return False
        return self._write(account, records.FOLLOW, records.follow(other.did, self._state.clock.now_us()))

    def _unfollow(self, account: Hosted, _: Person) -> bool:
        follows = self._state.repository(account.did).collections.get(records.FOLLOW, {})
        if len(follows) < 4:
            return False
        return self._remove(account, records.FOLLOW, self._random.choice(sorted(follows)))

    def _delete(self, account: Hosted, _: Person) -> bool:
        collection = self._random.choice((records.POST, records.LIKE, records.LIKE, records.REPOST))
        rkeys = sorted(self._state.repository(account.did).collections.get(collection, {}))
        if len(rkeys) < 10:
            return False
        return self._remove(account, collection, self._random.choice(rkeys[-20:]))

    def _edit_profile(self, account: Hosted, person: Person) -> bool:
        found = self._state.repository(account.did).find(records.PROFILE, "self")
        profile = cbor.decode(found[1]) if found else {"$type": records.PROFILE, "displayName": person.name}
        mood = self._random.choice(("", " 🌱", " (away)", " ☀️", " — back soon", " 🍂"))
        profile["displayName"] = person.name + mood
        block = cbor.encode(profile)
        if found is not None and found[1] == block:
            return False
        self._state.write(account.did, [Change(f"{records.PROFILE}/self", block)])
        return True

    def _tell_handle(self, account: Hosted, _: Person) -> bool:
        self._state.change_handle(account.did, account.handle)
        return True

    # ---- means

    def _newest(self) -> list[Ref]:
        """The posts that people may still be talking about, oldest first."""
        found: list[tuple[str, str, bytes]] = []
        for account in self._state.accounts.values():
            if account.active and account.repository is not None:
                posts = account.repository.collections.get(records.POST, {})
                newest = sorted(posts)[-RECENT_MAX:]
                found += [(rkey, account.did, posts[rkey][1]) for rkey in newest]
        found.sort()
        return [records.ref_of(did, rkey, block) for rkey, did, block in found[-RECENT_MAX:]]

    def _followed(self, account: Hosted) -> set[str]:
        follows = self._state.repository(account.did).collections.get(records.FOLLOW, {})
        return {cbor.decode(block)["subject"] for _, block in follows.values()}

    def _friend(self, account: Hosted) -> Hosted | None:
        follows = self._state.repository(account.did).collections.get(records.FOLLOW, {})
        if not follows:
            return None
        subject = cbor.decode(follows[self._random.choice(sorted(follows))][1])["subject"]
        friend = self._state.accounts.get(subject)
        return friend if friend is not None and friend.active else None

    def _seen(self, account: Hosted) -> Ref | None:
        """A living post that this person is likely to have just read."""
        followed = self._followed(account)
        for _ in range(30):
            back = int(self._random.expovariate(1 / 30)) + 1
            if back > len(self._recent):
                continue
            ref = self._recent[-back]
            if ref.did not in followed and not (ref.did == account.did and self._random.random() < 0.2):
                continue
            author = self._state.accounts[ref.did]
            rkey = ref.uri.rpartition("/")[2]
            if author.active and self._state.repository(ref.did).find(records.POST, rkey) is not None:
                return ref
        return None

    def _point(self, account: Hosted, collection: str) -> bool:
        seen = self._seen(account)
        if seen is None:
            return False
        mine = self._state.repository(account.did).collections.get(collection, {})
        newest = sorted(mine)[-100:]
        if any(cbor.decode(mine[rkey][1])["subject"]["uri"] == seen.uri for rkey in newest):
            return False
        block = records.pointing(collection, seen, self._state.clock.now_us())
        return self._write(account, collection, block)

    def _picture(self, account: Hosted) -> Attached | None:
        if not self._pool:
            return None
        shown = self._random.choice(self._pool)
        data = self._state.blob_bytes(shown["data"])
        blob = self._state.store_blob(account.did, data, "image/jpeg")
        return Attached(blob, shown["width"], shown["height"], shown["alt"])

    def _write_post(self, account: Hosted, block: bytes) -> bool:
        rkey = self._state.tid(account.pds)
        self._state.write(account.did, [Change(f"{records.POST}/{rkey}", block)])
        self._recent.append(records.ref_of(account.did, rkey, block))
        return True

    def _write(self, account: Hosted, collection: str, block: bytes) -> bool:
        rkey = self._state.tid(account.pds)
        self._state.write(account.did, [Change(f"{collection}/{rkey}", block)])
        return True

    def _remove(self, account: Hosted, collection: str, rkey: str) -> bool:
        self._state.write(account.did, [Change(f"{collection}/{rkey}", None)])
        return True
