"""Everything one answer needs to know, read in batches from one snapshot of the database."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from appliance.store import actor_reads, list_reads, outside_counts, post_reads, thing_reads, thread_reads
from appliance.store.actor_reads import ActorRow, SelfRecord, Verification
from appliance.store.collections import NSIDS, POST_GATE, THREAD_GATE
from appliance.store.database import Reader
from appliance.store.outside_counts import OutsideCounts
from appliance.store.post_reads import LIVING, MENTIONED, LabelRow, RecordRow
from appliance.timeline import cards, posts, relations, surroundings, things
from appliance.timeline.asker import Asker
from appliance.timeline.cards import Card
from appliance.timeline.gates import PostGate, ThreadGate
from appliance.timeline.labelers import Labeler, is_over
from appliance.timeline.names import POST
from appliance.timeline.shared import Relations, Rows, Shared

# A viewer whom no row mentions: signed in, but nothing here is theirs.
STRANGER = -1
KNOWN_LIKERS_AMONG = 500
OUTSIDE_GOOD_FOR_US = 600_000_000

_NO_GATES: dict[int, ThreadGate | PostGate] = {}
_REVIEW = "needs-review"
_IMPERSONATION = "impersonation"
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
        self.verified = rows.verified
        self.blocks, self._pairs = rows.blocks, rows.pairs
        self._list_blocks = rows.list_blocks
        self.things, self.sayings = rows.things, rows.sayings
        self.gates = rows.gates
        viewer = STRANGER if self.viewer is None else self.viewer
        known = rows.viewers.get(viewer)
        if known is None:
            known = rows.viewers[viewer] = Relations()
        self.relations = known
        self.following, self.followed_by = known.following, known.followed_by
        self.blocking, self.blocked_by = known.blocking, known.blocked_by
        self.muted, self.bookmarked = known.muted, known.bookmarked
        self.likes, self.reposts = known.likes, known.reposts
        self.list_sizes: dict[int, int] = {}
        self.joined: dict[int, tuple[int, int]] = {}  # by starter pack: ever, and in the last week
        self.packs: dict[str, int] = {}  # starter packs by which accounts came, by address
        self.known_likers: dict[int, tuple[int, list[int]]] = {}  # all of them, and those to be shown
        self.gate_lists: dict[str, int] = {}  # lists that gates name, by address

        self.outside: dict[str, OutsideCounts] = {}  # by address or DID, where such numbers are shown
        self.uncounted: list[str] = []  # of which newer ones are to be asked for

        self.labelers = self._labelers_that_count(asker)
        self.labels: dict[str, list[LabelRow]] = {}
        self.hidden: set[str] = set()
        self.doubted: set[str] = set()
        self.impersonating: set[str] = set()
        # What this answer is about, of all that the snapshot's rows hold.
        self._records: set[int] = set()
        self.shown: set[int] = set()
        self.lists: set[int] = set()
        self.people: set[int] = set()
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
        self.shown.update(wanted)
        return self._found(wanted)

    def _found(self, ids: Iterable[int | None]) -> list[RecordRow]:
        records = self.records
        return [records[i] for i in ids if i is not None and i in records]

    def finish(
        self,
        *,
        actors: Iterable[int] = (),
        pairs: Iterable[tuple[int, int]] = (),
        named: Iterable[str] = (),
    ) -> None:
        """Load what belongs to the records and actors: cards, texts, the viewer's bits, labels.

        ``pairs`` are actors of whom it matters whether one blocks the other; ``named`` are addresses of other
        records whose labels matter.
        """
        records = self.records
        roots = self._roots()
        self.load_records(roots)
        everybody = {records[i].actor for i in self._records if i in records}
        everybody.update(actors)
        self.load_actors(everybody)
        self._load_texts()
        surroundings.load_things(self, self.shown)
        self.load_pairs([*pairs, *self._quote_pairs()])
        surroundings.load_gates(self, roots)
        if self.viewer is not None and self.viewer != STRANGER:
            self._load_relations(self.viewer, everybody, roots)
        surroundings.load_lists(self)
        self._load_labels(named)
        if self.shared.counts_outside:
            self.load_outside(self.texts[i].uri for i in self.shown if i in self.texts)

    def load_outside(self, targets: Iterable[str]) -> None:
        """What an index outside counts of these posts and accounts."""
        missing = [target for target in targets if target not in self.outside]
        if not missing or not self.shared.counts_outside:
            return
        self.outside.update(outside_counts.find(self.reader, missing))
        old_us = self.shared.clock.now_us() - OUTSIDE_GOOD_FOR_US
        for target in missing:
            known = self.outside.get(target)
            if known is None or known.asked_us < old_us:
                self.uncounted.append(target)

    def load_actors(self, ids: Collection[int]) -> None:
        """Actors and their cards."""
        self.people.update(ids)
        wanted = {*ids, *self._verifiers_of(ids)} if self.shared.verifiers else ids
        missing = [i for i in wanted if i not in self.actors]
        if not missing:
            return
        rows = actor_reads.actors(self.reader, missing)
        records: dict[int, list[SelfRecord]] = {}
        for record in actor_reads.self_records(self.reader, missing):
            if record.takedown is None or self.operator:
                records.setdefault(record.actor, []).append(record)
        self.cards.update(self._cards(rows, records))
        self.actors.update((row.id, row) for row in rows)

    def _verifiers_of(self, ids: Collection[int]) -> set[int]:
        """Read who of the trusted verifiers vouches for these: actors of whom names are shown."""
        missing = [i for i in ids if i not in self.verified]
        if missing:
            issuers = [actor_reads.find_actor(self.reader, did) for did in self.shared.verifiers]
            found: dict[int, list[Verification]] = {}
            known = [i for i in issuers if i is not None]
            for row in actor_reads.verifications(self.reader, missing, known):
                if row.takedown is None:
                    found.setdefault(row.subject, []).append(row)
            self.verified.update((i, tuple(found.get(i, ()))) for i in missing)
        return {row.issuer for i in ids for row in self.verified[i]}

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
        for i in self.shown:
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
        for i in self.shown:
            row = self.records.get(i)
            quoted = None if row is None or row.quote is None else self.records.get(row.quote)
            if row is not None and quoted is not None:
                pairs.append((row.actor, quoted.actor))
        return pairs

    def load_pairs(self, pairs: Iterable[tuple[int, int]]) -> None:
        """Which of these block each other, whichever way."""
        wanted = {pair for a, b in pairs if a != b for pair in ((a, b), (b, a))}
        both = wanted - self._pairs
        if both:
            self._pairs |= both
            self.blocks |= actor_reads.blocking_pairs(self.reader, both)
            if list_reads.any_blocks(self.reader):
                for a, b, by in list_reads.blocking_pairs(self.reader, both):
                    self._list_blocks.setdefault((a, b), []).append(by)
        if self._list_blocks:
            for pair in wanted:
                self.lists.update(self._list_blocks.get(pair, ()))

    def _load_relations(self, viewer: int, everybody: set[int], roots: set[int]) -> None:
        known = self.relations
        kept = relations.load_people(self.reader, known, viewer, everybody)
        kept += relations.load_posts(self.reader, known, viewer, self.shown)
        self._rows.relations_kept += kept
        relations.load_threads(self.reader, known, viewer, roots)
        for lists in (known.on_lists, known.blocking_lists):
            for person in everybody & lists.keys():
                self.lists.update(lists[person])

    def _roots(self) -> set[int]:
        """The threads of the posts that may be shown."""
        rows = self._found(self.shown)
        return {row.id if row.root is None else row.root for row in rows if row.flags is not None}

    def load_things(self, ids: Iterable[int]) -> None:
        """Lists, feeds, starter packs and labelers that may be shown, with whose they are."""
        self._show(ids)

    def load_lists(self, ids: Iterable[int]) -> None:
        """Lists that stand between people, with what decides whether they count."""
        self.lists.update(ids)
        surroundings.load_lists(self)

    def load_known_likers(self, post: int) -> None:
        """Who of those whom the viewer follows likes the post."""
        if self.viewer is None or self.viewer == STRANGER:
            return
        found = thread_reads.known_likers(self.reader, self.viewer, post, KNOWN_LIKERS_AMONG)
        if found:
            self.finish(actors=found)
            found = [i for i in found if self.actors[i].status != "deleted"]
            shown = [i for i in found if self.sees_actor(i) and not self.blocked(i)]
            if found:
                self.known_likers[post] = (len(found), shown)

    def load_packs(self, actors: Iterable[int]) -> None:
        """The starter packs by which these accounts came, as far as they are here."""
        self.load_actors(list(actors))
        for actor in actors:
            uri = self.cards[actor].joined_uri if actor in self.cards else None
            pack = None if uri is None else thing_reads.find(self.reader, uri)
            if uri is not None and pack is not None:
                self.packs[uri] = pack
        self._show(self.packs.values())

    def thread_gate(self, root: int) -> ThreadGate | None:
        """The gate of the thread that begins with this post."""
        gate = self.gates.get(root, _NO_GATES).get(THREAD_GATE)
        return gate if isinstance(gate, ThreadGate) else None

    def post_gate(self, post: int) -> PostGate | None:
        """The gate of this post against quotes."""
        gate = self.gates.get(post, _NO_GATES).get(POST_GATE)
        return gate if isinstance(gate, PostGate) else None

    def _load_labels(self, named: Iterable[str]) -> None:
        if not self.labelers or not post_reads.has_labels(self.reader):
            return
        texts, cards_by_actor = self.texts, self.cards
        uris = {texts[i].uri for i in self.shown if i in texts}
        uris |= {self.sayings[i].uri for i in self.shown | self.lists if i in self.sayings}
        uris.update(named)
        for actor in self.people:
            card = cards_by_actor.get(actor)
            if card is not None:
                uris.add(card.did)
                uris.add(card.labels_uri)
                if card.status is not None:
                    uris.add(card.status.uri)
        uris -= self._labels_of
        self._labels_of |= uris
        now_us = self.shared.clock.now_us()
        redacting = {each.did for each in self.labelers if each.redact}
        seen: set[tuple[str, str, str]] = set()
        for row in post_reads.labels(self.reader, uris, [each.did for each in self.labelers]):
            if (row.exp is not None and is_over(row.exp, now_us)) or (row.uri, row.src, row.val) in seen:
                continue
            seen.add((row.uri, row.src, row.val))
            self.labels.setdefault(row.uri, []).append(row)
            if row.val in _HIDING and row.src in redacting:
                self.hidden.add(row.uri)
            elif row.val == _REVIEW and row.src in redacting:
                self.doubted.add(row.uri)
            elif row.val == _IMPERSONATION and row.src in redacting:
                self.impersonating.add(row.uri)

    def lacks(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Ids of records and actors that were looked at to be shown, and of which only the name is here."""
        records, actors = self.records, self.actors
        named = [i for i in self.shown if i in records and records[i].state == MENTIONED]
        owners = {records[i].actor for i in named}
        people = [i for i in self.people if i in actors and not actors[i].known and i not in owners]
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

    def needs_review(self, record: int) -> bool:
        """Whether a labeler that may hide things asks to look at the post or its author first.

        Whoever follows the author sees it all the same.
        """
        text, row = self.texts.get(record), self.records.get(record)
        if not self.doubted or text is None or row is None or row.actor in self.following:
            return False
        return row.actor != self.viewer and not self.doubted.isdisjoint(
            (text.uri, self.actors[row.actor].did)
        )

    def sees_record(self, record: int) -> bool:
        """Whether this record of any kind lives and is not taken down."""
        row = self.records.get(record)
        return row is not None and row.state == LIVING and (row.takedown is None or self.operator)

    def sees_thing(self, record: int | None) -> bool:
        """Whether this is a list, feed, starter pack or labeler that exists for the caller."""
        row = self.things.get(record) if record is not None else None
        if row is None:
            return False
        if not self.operator and (row.takedown is not None or self.sayings[row.id].uri in self.hidden):
            return False
        return self.sees_actor(row.actor)

    def blocked(self, actor: int) -> bool:
        """Whether the viewer and this account block each other, either way, by list too."""
        if actor in self.blocking or actor in self.blocked_by:
            return True
        known = self.relations
        if not (known.blocked_lists or known.holding):
            return False
        return self.blocking_list(actor) is not None or self.is_blocked_by_list(actor)

    def is_muted(self, actor: int) -> bool:
        """Whether the viewer mutes all of this account, by list too."""
        return actor in self.muted or self.muting_list(actor) is not None

    def muting_list(self, actor: int) -> int | None:
        """The list by which the viewer mutes this account."""
        known = self.relations
        if not known.muted_lists:
            return None
        lists = known.on_lists.get(actor, ())
        return next((i for i in lists if i in known.muted_lists and self.list_counts(i)), None)

    def blocking_list(self, actor: int) -> int | None:
        """The list by which the viewer blocks this account."""
        known = self.relations
        if not known.blocked_lists:
            return None
        lists = known.on_lists.get(actor, ())
        return next((i for i in lists if i in known.blocked_lists and self.list_counts(i)), None)

    def is_blocked_by_list(self, actor: int) -> bool:
        """Whether this account blocks the viewer by a list."""
        return any(self.list_counts(i) for i in self.relations.blocking_lists.get(actor, ()))

    def list_counts(self, record: int) -> bool:
        """Whether mutes and blocks by this list hold: it lives, moderates, and its owner is active."""
        said = self.sayings.get(record)
        return said is not None and said.purpose == things.MODERATING and self.sees_thing(record)

    def blocking_each_other(self, one: int, other: int) -> bool:
        """Whether these two do, by list too; the pair must have been loaded."""
        if (one, other) in self.blocks or (other, one) in self.blocks:
            return True
        if not self._list_blocks:
            return False
        lists = (*self._list_blocks.get((one, other), ()), *self._list_blocks.get((other, one), ()))
        return any(self.list_counts(i) for i in lists)

    @property
    def any_blocks(self) -> bool:
        """Whether any two of those who were looked at block each other."""
        return bool(self.blocks or self._list_blocks)

    def actor_of(self, record: int | None) -> int | None:
        """Whose record that is."""
        row = self.records.get(record) if record is not None else None
        return None if row is None else row.actor
