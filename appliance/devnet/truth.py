"""What a complete timeline holds, from the repositories alone: the judge's side.

A member's timeline is every post and repost in the repositories of the member and of every active
account they follow, less those named in ``dropped``. Order is not judged here; rows carry what it needs.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import httpx

from appliance.devnet.state import State
from appliance.protocol import cbor, cid, datamodel, lexicons

POST = "app.bsky.feed.post"
REPOST = "app.bsky.feed.repost"
FOLLOW = "app.bsky.graph.follow"
BLOCK = "app.bsky.graph.block"
COLLECTIONS = (POST, REPOST, FOLLOW, BLOCK)
# A judge reads beside the limits and delays of the PDSs, as an operator's key does at the reference.
BYPASS = {"x-ratelimit-bypass": "devnet"}

Reason: TypeAlias = Literal["subject-gone", "subject-inactive", "duplicate-repost", "blocked", "invalid"]


@dataclass(frozen=True, slots=True)
class Row:
    """One row that must be shown. Of a repost made several times any one of ``instead`` may stand for it."""

    uri: str
    cid: str
    kind: Literal["post", "repost"]
    did: str
    subject: str
    created_at: str
    instead: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Dropped:
    """One record that is rightly absent, and why."""

    uri: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Timeline:
    """All of one member's."""

    member: str
    rows: tuple[Row, ...]
    dropped: tuple[Dropped, ...]

    def compare(self, shown: Iterable[str]) -> Difference:
        """Against the URIs of the posts and reposts that somebody showed."""
        uris = list(shown)
        left = set(uris)
        missing: list[str] = []
        for row in self.rows:
            fitting = left & (row.instead or {row.uri})
            if fitting:
                left.discard(min(fitting))
            else:
                missing.append(row.uri)
        twice = sorted(uri for uri, times in Counter(uris).items() if times > 1)
        return Difference(tuple(missing), tuple(sorted(left)), tuple(twice))


@dataclass(frozen=True, slots=True)
class Difference:
    """Nothing in it means: complete, and nothing too much."""

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    twice: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.twice)


@dataclass(slots=True)
class Account:
    """One account's records by collection and record key: (cid, data-model value)."""

    active: bool
    records: Mapping[str, Mapping[str, tuple[str, Any]]]


class Network:
    """All repositories at one moment."""

    def __init__(self, accounts: Mapping[str, Account]) -> None:
        self.accounts = accounts

    def timeline(self, member: str) -> Timeline:
        """What this member must be shown."""
        follows = {member} | {
            subject for subject in self._subjects(member, FOLLOW) if isinstance(subject, str)
        }
        hidden = self._hidden(member)
        rows: list[Row] = []
        dropped: list[Dropped] = []
        for did in sorted(follows):
            account = self.accounts.get(did)
            if account is None or not account.active:
                continue
            for rkey, (name, value) in account.records.get(POST, {}).items():
                uri = f"at://{did}/{POST}/{rkey}"
                if did in hidden:
                    dropped.append(Dropped(uri, "blocked"))
                elif not _valid(POST, value):
                    dropped.append(Dropped(uri, "invalid"))
                else:
                    rows.append(Row(uri, name, "post", did, uri, value["createdAt"]))
            self._reposts(did, account, hidden, rows, dropped)
        return Timeline(member, tuple(rows), tuple(dropped))

    def _reposts(
        self, did: str, account: Account, hidden: set[str], rows: list[Row], dropped: list[Dropped]
    ) -> None:
        groups: dict[str, list[str]] = {}
        reposts = account.records.get(REPOST, {})
        for rkey, (_, value) in sorted(reposts.items()):
            if not _valid(REPOST, value):
                dropped.append(Dropped(f"at://{did}/{REPOST}/{rkey}", "invalid"))
                continue
            groups.setdefault(value["subject"]["uri"], []).append(rkey)
        for subject, rkeys in groups.items():
            uris = [f"at://{did}/{REPOST}/{rkey}" for rkey in rkeys]
            reason = self._why_not(did, subject, hidden)
            if reason is not None:
                dropped += [Dropped(uri, reason) for uri in uris]
                continue
            name, value = reposts[rkeys[0]]
            row = Row(uris[0], name, "repost", did, subject, value["createdAt"], frozenset(uris))
            rows.append(row)
            dropped += [Dropped(uri, "duplicate-repost") for uri in uris[1:]]

    def _why_not(self, did: str, subject: str, hidden: set[str]) -> Reason | None:
        author, _, path = subject.removeprefix("at://").partition("/")
        collection, _, rkey = path.partition("/")
        if did in hidden or author in hidden:
            return "blocked"
        account = self.accounts.get(author)
        if account is not None and not account.active:
            return "subject-inactive"
        posts = account.records.get(POST, {}) if account is not None and collection == POST else {}
        if rkey not in posts or not _valid(POST, posts[rkey][1]):
            return "subject-gone"
        return None

    def _subjects(self, did: str, collection: str) -> list[Any]:
        account = self.accounts.get(did)
        records = account.records.get(collection, {}) if account is not None and account.active else {}
        return [value.get("subject") for _, value in records.values() if _valid(collection, value)]

    def _hidden(self, member: str) -> set[str]:
        blocked = {subject for subject in self._subjects(member, BLOCK) if isinstance(subject, str)}
        blocking = {did for did in self.accounts if member in self._subjects(did, BLOCK)}
        return (blocked | blocking) - {member}


def from_state(state: State) -> Network:
    """From inside the process that plays the network."""
    accounts: dict[str, Account] = {}
    for did, account in state.accounts.items():
        if account.repository is None or account.status == "deleted":
            continue
        found = {
            collection: {
                rkey: (cid.to_text(name), cbor.decode(block))
                for rkey, (name, block) in account.repository.collections.get(collection, {}).items()
            }
            for collection in COLLECTIONS
        }
        accounts[did] = Account(account.active, found)
    return Network(accounts)


async def from_network(info: Mapping[str, Any]) -> Network:
    """From outside, by public XRPC of the PDSs alone; ``info`` is what the info file holds."""
    accounts: dict[str, Account] = {}
    async with httpx.AsyncClient(timeout=60, trust_env=False, headers=BYPASS) as client:
        for origin in info["pds"]:
            for repo in await _pages(client, f"{origin}/xrpc/com.atproto.sync.listRepos", {}, "repos"):
                did, active = repo["did"], repo["active"]
                # An account that moved is known at its old place too, as an inactive one.
                if active or did not in accounts:
                    found = await _records(client, origin, did) if active else {}
                    accounts[did] = Account(active, found)
    return Network(accounts)


def _valid(collection: str, value: Any) -> bool:
    """As the network's servers judge what others wrote; what is not valid is nowhere shown."""
    return lexicons.validate_value(collection, value, published=True) is None


async def _records(client: httpx.AsyncClient, origin: str, did: str) -> dict[str, dict[str, tuple[str, Any]]]:
    found: dict[str, dict[str, tuple[str, Any]]] = {}
    for collection in COLLECTIONS:
        params = {"repo": did, "collection": collection}
        listed = await _pages(client, f"{origin}/xrpc/com.atproto.repo.listRecords", params, "records", 100)
        found[collection] = {
            record["uri"].rpartition("/")[2]: (record["cid"], datamodel.from_parsed(record["value"]))
            for record in listed
        }
    return found


async def _pages(
    client: httpx.AsyncClient, url: str, params: dict[str, str], field: str, limit: int = 1000
) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        query = params | {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        answer = await client.get(url, params=query)
        if answer.status_code == 429:
            await asyncio.sleep(float(answer.headers.get("retry-after", "1")))
            continue
        if answer.status_code == 400:
            # The account became inactive since it was listed.
            return items
        answer.raise_for_status()
        page = answer.json()
        items += page[field]
        cursor = page.get("cursor")
        if not cursor or not page[field]:
            return items
