"""The world's past: people, whom they follow, and weeks of posts, written in one commit each."""

from __future__ import annotations

import math
from bisect import bisect_right
from itertools import accumulate
from random import Random

import orjson

from appliance.devnet import pictures, records, writing
from appliance.devnet.options import Options
from appliance.devnet.people import Person, invent
from appliance.devnet.records import Attached, Ref
from appliance.devnet.state import Hosted, State
from appliance.devnet.times import iso_ms
from appliance.protocol import cbor
from appliance.protocol.tid import tid_of

DAYS = 28
DAY_US = 86_400_000_000
POOL = 24
# The notes under which the seed leaves what the living world goes on with.
DONE = "seeded"
PEOPLE = "people"
PICTURES = "pictures"


class Seeding:
    """Makes everything from the seed; the same seed and clock give the same world."""

    def __init__(self, state: State, options: Options) -> None:
        self._state = state
        self._options = options
        self._random = Random(options.seed)  # noqa: S311 -- a world to play in, not a secret
        self._now_us = state.clock.now_us()
        self._people = invent(self._random, options.accounts)
        self._accounts: list[Hosted] = []
        self._drafts: list[dict[str, bytes]] = []
        self._follows: list[list[int]] = []
        self._clock = 0
        self._pool: list[pictures.Picture] = []

    def run(self) -> None:
        """Write it all; the last note says that it is whole."""
        if not self._people:
            self._state.note(DONE, "yes")
            return
        self._pool = [pictures.landscape(self._random) for _ in range(min(POOL, 4 + len(self._people) // 2))]
        for index, person in enumerate(self._people):
            self._begin(index, person)
        self._befriend()
        posts = self._talk()
        self._like(posts)
        self._disturb(posts)
        for account, draft in zip(self._accounts, self._drafts, strict=True):
            self._state.fill(account.did, draft)
        self._remember()
        self._depart()
        self._state.note(DONE, "yes")

    def _begin(self, index: int, person: Person) -> None:
        random = self._random
        created_us = self._now_us - int((DAYS + random.uniform(1, 300)) * DAY_US)
        account = self._state.new_account(
            person.handle,
            index % self._options.pds,
            created_us=created_us,
            curve="p256" if index % 10 == 7 else "k256",
        )
        self._accounts.append(account)
        avatar = banner = None
        if random.random() < 0.92:
            avatar = self._attach(account, pictures.avatar(random, person.name))
        if random.random() < 0.6:
            banner = self._attach(account, random.choice(self._pool))
        block = records.profile(person.name, person.bio, created_us, avatar=avatar, banner=banner)
        self._drafts.append({f"{records.PROFILE}/self": block})

    def _befriend(self) -> None:
        """A few are followed by many; the first member follows nearly everybody."""
        random, count = self._random, len(self._people)
        weights = [random.paretovariate(1.3) for _ in range(count)]
        sums = list(accumulate(weights))
        for index in range(count):
            if index == 0:
                chosen = {other for other in range(1, count) if random.random() < 0.85}
            else:
                wanted = min(count - 1, max(3, round(random.lognormvariate(math.log(18), 0.6))))
                chosen = set()
                for _ in range(wanted * 3):
                    other = bisect_right(sums, random.random() * sums[-1])
                    if other != index and len(chosen) < wanted:
                        chosen.add(min(other, count - 1))
                chosen.discard(index)
            self._follows.append(sorted(chosen))
            for other in self._follows[-1]:
                at = self._now_us - int(random.uniform(0.5, DAYS + 200) * DAY_US)
                at = max(at, self._accounts[index].entry.created_us)
                self._put(index, records.FOLLOW, at, records.follow(self._accounts[other].did, at))

    def _talk(self) -> list[tuple[int, int, Ref]]:
        """All posts and reposts in the order of time: (when, who, post)."""
        random, count = self._random, len(self._people)
        total = count * self._options.posts
        times = sorted(self._moment() for _ in range(total))
        sums = list(accumulate(person.pace for person in self._people))
        followed = [set(follows) for follows in self._follows]
        posts: list[tuple[int, int, Ref]] = []
        for at in times:
            who = min(bisect_right(sums, random.random() * sums[-1]), count - 1)
            seen = self._recent(posts, who, followed[who])
            kind = random.random()
            if seen is not None and kind < 0.13:
                self._put(who, records.REPOST, at, records.pointing(records.REPOST, seen, at))
                continue
            block = self._post(who, at, seen, kind)
            rkey = self._put(who, records.POST, at, block)
            posts.append((at, who, records.ref_of(self._accounts[who].did, rkey, block)))
        return posts

    def _post(self, who: int, at: int, seen: Ref | None, kind: float) -> bytes:
        random, person, account = self._random, self._people[who], self._accounts[who]
        if seen is not None and kind < 0.38:
            mine = seen.did == account.did
            draft = writing.follow_up(random) if mine else writing.reply(random, person, seen.language)
            return records.post(draft, at, parent=seen)
        if seen is not None and kind < 0.45 and seen.did != account.did:
            media = None
            if random.random() < 0.15:
                media = records.images([self._attach(account, random.choice(self._pool))])
            return records.post(writing.quote(random), at, embed=records.quote(seen, media))
        if kind < 0.50 and self._follows[who]:
            other = self._accounts[random.choice(self._follows[who])]
            return records.post(writing.mention(random, other.handle, other.did), at)
        topic = random.choice(person.topics)
        if kind < 0.57:
            draft, preview = writing.link(random, topic)
            thumb = self._attach(account, random.choice(self._pool)) if random.random() < 0.6 else None
            return records.post(draft, at, embed=records.card(preview, thumb))
        draft = writing.post(random, person, topic)
        if topic == "photo" or random.random() < 0.12:
            number = random.choice((1, 1, 1, 2, 2, 3, 4))
            shown = [
                self._attach(account, each)
                for each in random.sample(self._pool, min(number, len(self._pool)))
            ]
            return records.post(draft, at, embed=records.images(shown))
        return records.post(draft, at)

    def _recent(self, posts: list[tuple[int, int, Ref]], who: int, followed: set[int]) -> Ref | None:
        """Something that this person is likely to have just read."""
        for _ in range(8):
            back = int(self._random.expovariate(1 / 40)) + 1
            if back > len(posts):
                continue
            _, author, ref = posts[-back]
            if author in followed or (author == who and self._random.random() < 0.5):
                return ref
        return None

    def _like(self, posts: list[tuple[int, int, Ref]]) -> None:
        random = self._random
        followers: list[list[int]] = [[] for _ in self._people]
        for who, follows in enumerate(self._follows):
            for other in follows:
                followers[other].append(who)
        for at, author, ref in posts:
            crowd = followers[author]
            number = min(len(crowd), int(random.paretovariate(1.1)) - 1 + (random.random() < 0.5), 25)
            for who in random.sample(crowd, number):
                when = min(at + int(random.expovariate(1 / 5) * 3_600_000_000), self._now_us)
                self._put(who, records.LIKE, when, records.pointing(records.LIKE, ref, when))

    def _disturb(self, posts: list[tuple[int, int, Ref]]) -> None:
        """What a real network has too: pinned posts, reposts made twice, posts that are gone."""
        random = self._random
        for index, account in enumerate(self._accounts):
            mine = [ref for _, who, ref in posts if who == index]
            path = f"{records.PROFILE}/self"
            if mine and index % 6 == 2:
                profile = cbor.decode(self._drafts[index][path])
                pinned = random.choice(mine)
                self._drafts[index][path] = cbor.encode(profile | {"pinnedPost": pinned.strong})
            reposts = [path for path in self._drafts[index] if path.startswith(records.REPOST)]
            if reposts and index % 8 == 3:
                block = self._drafts[index][random.choice(reposts)]
                again = cbor.decode(block) | {"createdAt": iso_ms(self._now_us - DAY_US)}
                self._put(index, records.REPOST, self._now_us - DAY_US, cbor.encode(again))
            if len(mine) > 3 and index % 4 == 1:
                gone = random.choice(mine)
                self._drafts[index].pop(gone.uri.removeprefix(f"at://{account.did}/"))

    def _depart(self) -> None:
        """One account sleeps and one is gone, where there are enough."""
        if len(self._accounts) >= 12:
            self._state.set_status(self._accounts[-1].did, "deactivated")
            self._state.set_status(self._accounts[-2].did, "deleted")

    def _remember(self) -> None:
        people = [
            {
                "did": account.did,
                "handle": person.handle,
                "name": person.name,
                "bio": person.bio,
                "topics": person.topics,
                "languages": person.languages,
                "pace": person.pace,
            }
            for account, person in zip(self._accounts, self._people, strict=True)
        ]
        # All of them, also what nobody has shown yet: somebody will.
        pool = [
            {"data": self._state.keep_bytes(each.data), "width": each.width, "height": each.height}
            | {"alt": each.alt}
            for each in self._pool
        ]
        self._state.note(PEOPLE, orjson.dumps(people).decode())
        self._state.note(PICTURES, orjson.dumps(pool).decode())

    def _moment(self) -> int:
        """A time in the past weeks, rather by day than by night, rather lately than long ago."""
        random = self._random
        while True:
            back_us = int(random.betavariate(1, 1.6) * DAYS * DAY_US)
            at = self._now_us - back_us - 30_000_000
            hour = at // 3_600_000_000 % 24
            if random.random() < (1.0 if 7 <= hour <= 22 else 0.25):
                return at

    def _attach(self, account: Hosted, picture: pictures.Picture) -> Attached:
        blob = self._state.store_blob(account.did, picture.data, "image/jpeg")
        return Attached(blob, picture.width, picture.height, picture.alt)

    def _put(self, who: int, collection: str, at: int, block: bytes) -> str:
        # The clock id tells apart what one person did in one microsecond.
        self._clock = (self._clock + 1) % 1024
        rkey = tid_of(at, self._clock)
        self._drafts[who][f"{collection}/{rkey}"] = block
        return rkey
