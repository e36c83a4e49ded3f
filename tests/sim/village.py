"""People made by hand: a member who follows everybody, and what they do in the course of days."""

from __future__ import annotations

import asyncio
import random

from appliance.devnet.network import Network
from appliance.devnet.records import POST, REPOST
from appliance.devnet.state import Hosted
from appliance.devnet.times import iso_ms
from appliance.protocol.tid import tid_of

_DAY_US = 86_400_000_000


class Village:
    """``member`` follows everybody; the others live on all servers in turn."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self.chance = random.Random(f"village {seed}")
        self.member: Hosted
        self.people: list[Hosted] = []
        self.deeds = 0

    def settle(self, people: int, posts: int, *, on: list[int] | None = None) -> None:
        """So many people with so many posts each, made over the past month."""
        places = on or list(range(len(self.network.pds)))
        self.member = self.network.create_account("reader.test", places[0])
        for number in range(people):
            account = self.network.create_account(
                f"person{number}.test", places[number % len(places)], records=self.past(posts)
            )
            self.people.append(account)
            self.network.follow(self.member.did, account.did)

    def past(self, posts: int) -> dict[str, object]:
        """Records of a past: path to value."""
        now_us = self.network.state.clock.now_us()
        found: dict[str, object] = {}
        for number in range(posts):
            at_us = now_us - _DAY_US * 30 * (posts - number) // (posts + 1)
            value = {"$type": POST, "text": f"long ago {number}", "createdAt": iso_ms(at_us)}
            found[f"{POST}/{tid_of(at_us, number % 1000)}"] = value
        return found

    def act(self, account: Hosted | None = None) -> str:
        """One of them, or this one, does one thing; which. Nothing is done by who can't."""
        who = account or self.chance.choice(self.people)
        if not who.active:
            return "nothing"
        self.deeds += 1
        rkeys = sorted(self.network.state.repository(who.did).collections.get(POST, {}))
        kind = self.chance.choices(("post", "delete", "update", "repost"), (70, 14, 6, 10))[0]
        if kind == "delete" and len(rkeys) > 2:
            self.network.delete(f"at://{who.did}/{POST}/{self.chance.choice(rkeys)}")
        elif kind == "update" and rkeys:
            rkey = self.chance.choice(rkeys)
            before = self.network.record(f"at://{who.did}/{POST}/{rkey}")
            assert before is not None, "it was just listed"
            self.network.put(who.did, POST, before | {"text": f"edited {self.deeds}"}, rkey)
        elif kind == "repost" and (other := self._post_of_another(who)) is not None:
            self.network.repost(who.did, other)
        else:
            kind = "post"
            self.network.post(who.did, f"deed {self.deeds}")
        return kind

    async def live(self, seconds: float, every_s: float) -> None:
        """They go on like this for so long; about one deed in that time."""
        loop = asyncio.get_running_loop()
        end_s = loop.time() + seconds
        while (wait_s := self.chance.expovariate(1 / every_s)) < end_s - loop.time():
            await asyncio.sleep(wait_s)
            self.act()
        await asyncio.sleep(max(end_s - loop.time(), 0))

    def _post_of_another(self, who: Hosted) -> str | None:
        """One that this person has not passed on yet: twice would be one row."""
        other = self.chance.choice(self.people)
        posts = sorted(self.network.state.repository(other.did).collections.get(POST, {}))
        if other is who or not other.active or not posts:
            return None
        uri = f"at://{other.did}/{POST}/{self.chance.choice(posts)}"
        mine = self.network.state.repository(who.did).collections.get(REPOST, {})
        known = {
            str((self.network.record(f"at://{who.did}/{REPOST}/{r}") or {}).get("subject")) for r in mine
        }
        return None if any(uri in subject for subject in known) else uri
