"""Everything one answer needs to know, read in batches from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from appliance.store import actor_reads, post_reads
from appliance.store.actor_reads import BLOCK, ActorRow, SelfRecord
from appliance.store.collections import NSIDS
from appliance.store.database import Reader
from appliance.store.post_reads import LIKE, LIVING, MENTIONED, LabelRow, RecordRow
from appliance.timeline import cards, posts
from appliance.timeline.asker import Asker
from appliance.timeline.cards import Card
from appliance.timeline.json_text import instant
from appliance.timeline.labelers import Labeler
from appliance.timeline.names import POST
from appliance.timeline.shared import Relations, Rows, Shared

# A viewer whom no row mentions: signed in, but nothing here is theirs.
STRANGER = -1

_HIDING = frozenset({"!takedown", "!suspend"})


class State:
    """What one answer needs. Filled by the ``load_`` functions, then only looked at.

    The rows themselves are kept for the next answers until a commit changes them."""

    def __init__(self, reader: Reader, shared: Shared, asker: Asker) -> None:
        self.reader = reader
        self.shared = shared
        self.viewer_did = asker.did
        self.viewer: int | None = None
        if asker.did is not None:
            found = actor_reads.find_actor(reader, asker.did)
            self.viewer = STRANGER if found is None else found
        self.operator = asker.operator
        # The operator sees other rows than everybody: his are not kept.
        rows = Rows(0, 0) if asker.operator else shared.rows(reader)
        self._rows = rows
        self.records, self.texts = rows.records, rows.texts
        self.actors, self.cards = rows.actors, rows.cards
        self.blocks, self._pairs = rows.blocks, rows.pairs
        viewer = STRANGER if self.viewer is None else self.viewer
        relations = rows.viewers.get(viewer)
        if relations is None:
            relations = rows.viewers[viewer] = Relations()
        self.relations = relations
        self.following, self.followed_by = relations.following, relations.followed_by
        self.blocking, self.blocked_by = relations.blocking, relations.blocked_by
        self.muted, self.bookmarked = relations.muted, relations.bookmarked
        self.likes, self.reposts = relations.likes, relations.reposts

        self.labelers = self._labelers_that_count(asker)
        self.labels: dict[str, list[LabelRow]] = {}
        self.hidden: set[str] = set()
        # What this answer is about, of all that the snapshot's rows hold.
        self._records: set[int] = set()
        self._shown: set[int] = set()
        self._people: set[int] = set()
        self._labels_of: set[str] = set()

    def _labelers_that_count(self, asker: Asker) -> tuple[Labeler, ...]:
        if asker.labelers is None:
            return self.shared.labelers
        return tuple(
            each
            for each in asker.labelers
            if each.did in self.shared.own_labelers or self._is_active(each.did)
        )

    def _is_active(self, did: str) -> bool:
        found = actor_reads.find_actor(self.reader, did)
        if found is None:
            return False
        (row,) = actor_reads.actors(self.reader, [found])
        return bool(row.known) and row.status is None and row.takedown is None

    # ------------------------------------------------------------ loading

    def load_records(self, ids: Iterable[int | None]) -> None:
        """Record rows by id."""
        wanted = {i for i in ids if i is not None}
        self._records |= wanted
        records = self.records
        missing = [i for i in wanted if i not in records]
        if missing:
            for row in post_reads.records(self.reader, missing):
                records[row.id] = row

    def load_posts(self, ids: Iterable[int], *, with_context: bool) -> None:
        """Posts with what they quote, two deep; ``with_context`` also what they reply to."""
        shown = self._show(ids)
        if with_context:
            wanted = [i for row in shown for i in (row.parent, row.root, row.quote)]
            self.load_records(wanted)
            parents = self._found(row.parent for row in shown)
            shown = self._show(wanted)
            # Of what the parent answers only the author is shown; of its root the author decides.
            self.load_records([i for row in parents for i in (row.parent, row.root)])
        else:
            shown = self._show(row.quote for row in shown)
        shown = self._show(row.quote for row in shown)
        if with_context:
            self._show(row.quote for row in shown)

    def _show(self, ids: Iterable[int | None]) -> list[RecordRow]:
        """Load these as posts that may be shown, not only looked at."""
        wanted = list(dict.fromkeys(i for i in ids if i is not None))
        self.load_records(wanted)
        self._shown.update(wanted)
        return self._found(wanted)

    def _found(self, ids: Iterable[int | None]) -> list[RecordRow]:
        records = self.records
        return [records[i] for i in ids if i is not None and i in records]

    def finish(self, *, actors: Iterable[int] = (), pairs: Iterable[tuple[int, int]] = ()) -> None:
        """Load what belongs to the records and actors: cards, texts, the viewer's bits, labels.

        ``pairs`` are actors of whom it matters whether one blocks the other.
        """
        records = self.records
        everybody = {records[i].actor for i in self._records if i in records}
        everybody.update(actors)
        self.load_actors(everybody)
        self._load_texts()
        self.load_pairs([*pairs, *self._quote_pairs()])
        if self.viewer is not None and self.viewer != STRANGER:
            self._load_relations(self.viewer, everybody)
        self._load_labels()

    def load_actors(self, ids: Collection[int]) -> None:
        """Actors and their cards."""
        self._people.update(ids)
        missing = [i for i in ids if i not in self.actors]
        if not missing:
            return
        rows = actor_reads.actors(self.reader, missing)
        records: dict[int, list[SelfRecord]] = {}
        for record in actor_reads.self_records(self.reader, missing):
            if record.takedown is None or self.operator:
                records.setdefault(record.actor, []).append(record)
        self.cards.update(self._cards(rows, records))
        self.actors.update((row.id, row) for row in rows)

    def _cards(self, rows: list[ActorRow], records: dict[int, list[SelfRecord]]) -> dict[int, Card]:
        cache = self.shared.fragments
        found: dict[int, Card] = {}
        unknown: list[tuple[tuple[object, ...], ActorRow, list[SelfRecord]]] = []
        for row in rows:
            own = records.get(row.id, [])
            key: tuple[object, ...] = (
                "card",
                row.id,
                row.did,
                row.handle,
                *[part for r in own for part in (r.id, r.cid)],
            )
            card = cache.get(key)
            if card is None:
                unknown.append((key, row, own))
            else:
                found[row.id] = card
        if unknown:
            bodies = post_reads.bodies(self.reader, [r.id for _, _, own in unknown for r in own])
            for key, row, own in unknown:
                by_name = {NSIDS[r.collection]: (r, bodies[r.id]) for r in own}
                card = cards.build(row, by_name, self.shared.images)
                cache.put(key, card, card.weight)
                found[row.id] = card
        return found

    def _load_texts(self) -> None:
        """What the posts say that may be shown."""
        unknown: list[tuple[tuple[object, ...], RecordRow]] = []
        cache, texts = self.shared.fragments, self.texts
        for i in self._shown:
            row = None if i in texts else self.records.get(i)
            if row is None or row.flags is None or row.cid is None:
                continue
            key: tuple[object, ...] = (i, row.actor, row.rkey, row.cid)
            text = cache.get(key)
            if text is None:
                unknown.append((key, row))
            else:
                texts[i] = text
        if unknown:
            bodies = post_reads.bodies(self.reader, [row.id for _, row in unknown])
            for key, row in unknown:
                assert row.cid is not None
                did, body = self.actors[row.actor].did, bodies[row.id]
                uri = f"at://{did}/{POST}/{row.rkey}"
                text = posts.build(
                    did, uri, row.cid, body.sort_ms, body.json, self.shared.images, self.shared.videos
                )
                cache.put(key, text, text.weight)
                texts[row.id] = text

    def _quote_pairs(self) -> list[tuple[int, int]]:
        pairs = []
        for i in self._shown:
            row = self.records.get(i)
            quoted = None if row is None or row.quote is None else self.records.get(row.quote)
            if row is not None and quoted is not None:
                pairs.append((row.actor, quoted.actor))
        return pairs

    def load_pairs(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Which of these block each other, whichever way."""
        both = {pair for a, b in pairs if a != b for pair in ((a, b), (b, a))} - self._pairs
        if both:
            self._pairs |= both
            self.blocks |= actor_reads.blocking_pairs(self.reader, both)

    def _load_relations(self, viewer: int, everybody: set[int]) -> None:
        reader, relations = self.reader, self.relations
        people = everybody - relations.people
        self._rows.relations_kept += len(people)
        if people:
            relations.people |= people
            for kind, actor, rkey in actor_reads.from_viewer(reader, viewer, people):
                (self.blocking if kind == BLOCK else self.following)[actor] = rkey
            for kind, actor, rkey in actor_reads.to_viewer(reader, viewer, people):
                (self.blocked_by if kind == BLOCK else self.followed_by)[actor] = rkey
            self.muted |= actor_reads.muted(reader, viewer, people)
        posts_shown = self._shown - relations.posts
        self._rows.relations_kept += len(posts_shown)
        if posts_shown:
            relations.posts |= posts_shown
            for kind, post, rkey in post_reads.viewer_marks(reader, viewer, posts_shown):
                (self.likes if kind == LIKE else self.reposts)[post] = rkey
            self.bookmarked |= post_reads.bookmarked(reader, viewer, posts_shown)

    def _load_labels(self) -> None:
        if not self.labelers or not post_reads.has_labels(self.reader):
            return
        texts, cards_by_actor = self.texts, self.cards
        uris = {texts[i].uri for i in self._shown if i in texts}
        for actor in self._people:
            card = cards_by_actor.get(actor)
            if card is not None:
                uris.add(card.did)
                uris.add(card.labels_uri)
        uris -= self._labels_of
        self._labels_of |= uris
        now = instant(self.shared.clock.now_us() // 1000)
        redacting = {each.did for each in self.labelers if each.redact}
        seen: set[tuple[str, str, str]] = set()
        for row in post_reads.labels(self.reader, uris, [each.did for each in self.labelers]):
            if (row.exp is not None and row.exp <= now) or (row.uri, row.src, row.val) in seen:
                continue
            seen.add((row.uri, row.src, row.val))
            self.labels.setdefault(row.uri, []).append(row)
            if row.val in _HIDING and row.src in redacting:
                self.hidden.add(row.uri)

    def lacks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of records and actors that were looked at to be shown, and of which only the name is here."""
        records, actors = self.records, self.actors
        named = [i for i in self._shown if i in records and records[i].state == MENTIONED]
        owners = {records[i].actor for i in named}
        people = [i for i in self._people if i in actors and not actors[i].known and i not in owners]
        return tuple(named), tuple(people)

    # ------------------------------------------------------------ rules

    def sees_actor(self, actor: int) -> bool:
        """Whether this account exists for the caller."""
        row = self.actors.get(actor)
        if row is None or not row.known:
            return False
        if self.operator:
            return True
        return row.status is None and row.takedown is None and row.did not in self.hidden

    def sees_post(self, record: int | None) -> bool:
        """Whether this is a living post that exists for the caller."""
        if record is None:
            return False
        text = self.texts.get(record)
        if text is None:
            return False
        row = self.records[record]
        if not self.operator and (row.takedown is not None or text.uri in self.hidden):
            return False
        return self.sees_actor(row.actor)

    def sees_record(self, record: int) -> bool:
        """Whether this record of any kind lives and is not taken down."""
        row = self.records.get(record)
        return row is not None and row.state == LIVING and (row.takedown is None or self.operator)

    def blocked(self, actor: int) -> bool:
        """Whether the viewer and this account block each other, either way."""
        return actor in self.blocking or actor in self.blocked_by

    def blocking_each_other(self, one: int, other: int) -> bool:
        """Whether these two do; the pair must have been loaded."""
        return (one, other) in self.blocks or (other, one) in self.blocks

    def actor_of(self, record: int | None) -> int | None:
        """Whose record that is."""
        row = self.records.get(record) if record is not None else None
        return None if row is None else row.actor
