"""One recorded scenario: who, what happened in which order, what was asked, what was answered."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, NamedTuple

import msgspec
import orjson

from appliance.protocol.keys import PrivateKey

Json = dict[str, Any]


class Person(msgspec.Struct):
    """An account of the recording. The key is a test key, published with the recording."""

    did: str
    handle: str | None
    key: PrivateKey
    resolves_to: str | None
    documents: list[tuple[int, Json]]  # (from this seq on, DID document), in order

    def document_at(self, seq: int) -> Json:
        """The DID document as of an event."""
        return [document for since, document in self.documents if since <= seq][-1]


class Query(msgspec.Struct):
    """One recorded request with its recorded answer."""

    id: int
    phase: str
    nsid: str
    viewer: str | None
    auth: str | None
    params: Json
    headers: dict[str, str]
    status: int
    error: str | None
    labelers: str | None
    rev: str | None
    body: Any


class Step(NamedTuple):
    """A frame, a private write or the name of a phase, at this point of the stream."""

    kind: Literal["event", "action", "phase"]
    seq: int
    what: Any


THINGS = ("app.bsky.graph.list", "app.bsky.feed.generator")


def _uri(commit: Json) -> str:
    return f"at://{commit['did']}/{commit['collection']}/{commit['rkey']}"


class Scenario:
    """A folder of the recording."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.about: Json = orjson.loads((folder / "scenario.json").read_bytes())
        self.name: str = self.about["name"]
        self.accounts: dict[str, str] = {
            name: account["did"] for name, account in self.about["accounts"].items()
        }
        self.edited = self._posts_written_again()
        self.doubled = self._written_again("app.bsky.feed.repost")
        self.quoted_otherwise = self._quoted_otherwise()
        self.liked_again = self._written_again("app.bsky.feed.like")
        self.wanted = self._wanted()
        commits = [
            line["commit"] | {"did": line["did"]} for line in self._lines("events.jsonl") if "commit" in line
        ]
        self.deleted = frozenset(_uri(commit) for commit in commits if commit["operation"] == "delete")
        self.edited_things = frozenset(
            _uri(commit)
            for commit in commits
            if commit["operation"] == "update" and commit["collection"] in THINGS
        )
        self.people = {person.did: person for person in self._people()}

    def _posts_written_again(self) -> frozenset[str]:
        """Addresses of posts that were edited, or deleted and made anew under the same key."""
        seen: set[str] = set()
        again: set[str] = set()
        for line in self._lines("events.jsonl"):
            commit = line.get("commit", {})
            if commit.get("collection") != "app.bsky.feed.post" or commit["operation"] == "delete":
                continue
            uri = f"at://{line['did']}/{commit['collection']}/{commit['rkey']}"
            if uri in seen:
                again.add(uri)
            seen.add(uri)
        return frozenset(again)

    def _wanted(self) -> dict[str, dict[str, Json]]:
        """By phase and account: the preferences of notifications that were set by then."""
        found: dict[str, dict[str, Json]] = {}
        now: dict[str, Json] = {}
        for step in self.steps():
            if step.kind == "action" and step.what["nsid"].endswith(".putPreferencesV2"):
                did = step.what["viewer"]
                now = {**now, did: now.get(did, {}) | step.what["input"]}
            elif step.kind == "phase":
                found[step.what] = now
        return found

    def _written_again(self, collection: str) -> frozenset[str]:
        """Addresses of likes or reposts of what the same account had liked or reposted already."""
        living: dict[str, tuple[str, str]] = {}
        again: set[str] = set()
        for line in self._lines("events.jsonl"):
            commit = line.get("commit", {})
            if commit.get("collection") != collection:
                continue
            uri = f"at://{line['did']}/{commit['collection']}/{commit['rkey']}"
            if commit["operation"] == "delete":
                living.pop(uri, None)
                continue
            pair = (line["did"], commit["record"]["subject"]["uri"])
            if pair in living.values():
                again.add(uri)
            living[uri] = pair
        return frozenset(again)

    def _quoted_otherwise(self) -> frozenset[str]:
        """Posts that somebody quotes by a CID which is not that of the version at the end."""
        present = {
            f"at://{line['did']}/{line['collection']}/{line['rkey']}": line["cid"]
            for line in self._lines("records.jsonl")
        }
        found = set()
        for line in self._lines("records.jsonl"):
            embed = line["record"].get("embed") or {}
            quoted = embed.get("record") or {}
            quoted = quoted.get("record", quoted)
            if quoted.get("uri") in present and present[quoted["uri"]] != quoted.get("cid"):
                found.add(quoted["uri"])
        return frozenset(found)

    def _people(self) -> Iterator[Person]:
        log: dict[str, list[tuple[int, Json]]] = {}
        for line in self._lines("identity_log.jsonl"):
            log.setdefault(line["did"], []).append((line["afterSeq"], line["didDoc"]))
        for line in self._lines("identities.jsonl"):
            later = log.get(line["did"], [])
            first = line["didDoc"]
            if later:
                # The log has the documents after each change; the one before had the oldest claim.
                first = {**later[0][1], "alsoKnownAs": line["plcAudit"][0]["operation"]["alsoKnownAs"]}
            yield Person(
                line["did"],
                line["handle"],
                PrivateKey.from_hex(line["signingKeyHex"]),
                line["handleResolvesTo"],
                [(0, first), *later],
            )

    def frames(self) -> list[tuple[int, bytes]]:
        """(seq, subscribeRepos frame) in order."""
        return [(line["seq"], base64.b64decode(line["frame_b64"])) for line in self._lines("firehose.jsonl")]

    def actions(self) -> list[Json]:
        """Private writes in order; ``afterSeq`` says after which event each came."""
        return list(self._lines("actions.jsonl"))

    def labels(self) -> list[Json]:
        """The label store at the end."""
        return list(self._lines("labels.jsonl"))

    def phases(self) -> list[tuple[str, int]]:
        """(name, last event of it) in order."""
        return [(phase["phase"], phase["afterSeq"]) for phase in self.about["phases"]]

    def steps(self) -> Iterator[Step]:
        """Everything in the order in which it happened.

        The recording does not say between which private writes a phase's requests were put. It
        gives the times of the writes; asking hundreds of questions takes longer than the pauses
        between writes made in a row, so the longest pauses are the phases.
        """
        times = {line["seq"]: _seconds(line["time"]) for line in self._lines("events.jsonl")}
        actions = self.actions()
        phases = self.phases()
        frames = self.frames()
        for number, (seq, raw) in enumerate(frames):
            yield Step("event", seq, raw)
            end = frames[number + 1][0] if number + 1 < len(frames) else float("inf")
            here = [action for action in actions if seq <= action["afterSeq"] < end]
            asked = [phase for phase, after in phases if seq <= after < end]
            later = [time for at, time in times.items() if at > seq]
            moments = [times.get(seq, 0.0), *(_seconds(action["time"]) for action in here)]
            moments.append(min(later, default=float("inf")))
            pauses = [after - before for before, after in itertools.pairwise(moments)]
            longest = sorted(range(len(pauses)), key=lambda i: -pauses[i])[: len(asked)]
            waiting = iter(asked)
            for place in range(len(pauses)):
                if place > 0:
                    yield Step("action", seq, here[place - 1])
                if place in longest:
                    yield Step("phase", seq, next(waiting))

    def queries(self) -> Iterator[Query]:
        """Every request in order."""
        for line in self._lines("index.jsonl"):
            answer = orjson.loads((self.folder / line["file"]).read_bytes())["response"]
            yield Query(
                line["id"],
                line["phase"],
                line["nsid"],
                line["viewer"],
                line.get("auth"),
                line["params"],
                line.get("headers") or {},
                line["status"],
                line.get("error"),
                line.get("resLabelers"),
                line.get("resRev"),
                answer["body"],
            )

    def ended_us(self) -> int:
        """A while after the last event."""
        last = max(_seconds(line["time"]) for line in self._lines("events.jsonl"))
        return round((last + 3600) * 1_000_000)

    def _lines(self, name: str) -> Iterator[Json]:
        for line in (self.folder / name).read_bytes().splitlines():
            if line:
                yield orjson.loads(line)


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
