-- What proves a timeline: coverage of the streams, audits, and what they found.

ALTER TABLE repo ADD COLUMN doubt_us INTEGER;
ALTER TABLE repo ADD COLUMN window_us INTEGER;
-- So far the reason alone told of a history that was not read whole.
UPDATE repo SET window_us = CAST(strftime('%s', substr(reason, 15)) AS INTEGER) * 1000000
 WHERE reason LIKE 'history since ____-__-__';
ALTER TABLE repo ADD COLUMN head_rev TEXT NOT NULL DEFAULT '';

-- owner: ingest · state · what each connection to an upstream carried, from when to when: the proof behind
-- repo.cover_us. ``filter`` names the set of accounts that was asked for; '' is all of them.
CREATE TABLE coverage (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  upstream TEXT NOT NULL,          -- upstream.name
  mode TEXT NOT NULL CHECK (mode IN ('FULL', 'DIDS', 'DIDS-V2')),
  filter TEXT NOT NULL DEFAULT '', -- hash of the sorted DIDs
  accounts INTEGER,                -- how many they are; NULL where it is all
  opened_us INTEGER NOT NULL,      -- our clock
  from_seq INTEGER,                -- the start cursor; NULL: the live tip
  from_us INTEGER,                 -- the same as upstream time: the coverage point of what the filter added
  live_us INTEGER,                 -- our clock, when it had caught up; NULL: not yet
  sealed_us INTEGER,               -- our clock, when a second connection had covered its cutover (v1)
  to_us INTEGER,                   -- upstream time of its last committed event; NULL while open
  closed_us INTEGER,               -- our clock; NULL while open
  why TEXT NOT NULL DEFAULT ''     -- what ended it
) STRICT;
CREATE INDEX coverage_open ON coverage (upstream) WHERE closed_us IS NULL;

-- owner: backfill · state · when each account was last compared with its own PDS, how, and when it is due again.
CREATE TABLE audit (
  actor INTEGER NOT NULL REFERENCES actor (id),
  level TEXT NOT NULL CHECK (level IN ('rev', 'tail', 'listing', 'signed')),
  due_us INTEGER NOT NULL,
  at_us INTEGER,                   -- when it last gave a verdict; NULL: never
  outcome TEXT NOT NULL DEFAULT '' CHECK (outcome IN ('', 'equal', 'undecided', 'differs', 'failed')),
  rev TEXT,                        -- what the PDS named then
  PRIMARY KEY (actor, level)
) STRICT, WITHOUT ROWID;
CREATE INDEX audit_due ON audit (due_us, level);

-- owner: backfill · state · gap-means-job: each difference between our rows and a repository that an audit or
-- a repeated scan met, and what became of it. An operator may read here what was lost, where, and when.
CREATE TABLE finding (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  actor INTEGER NOT NULL REFERENCES actor (id),
  collection INTEGER NOT NULL REFERENCES collection (id),
  rkey TEXT NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('missing', 'extra', 'differs')),
  ours TEXT,                       -- our cid; NULL: we had none
  theirs TEXT,                     -- the repository's; NULL: it has none
  level TEXT NOT NULL,             -- what found it: an audit's level, or 'scan'
  rev TEXT NOT NULL,               -- of the repository when it was seen
  door TEXT NOT NULL,              -- what should have delivered it: upstream.name, or 'scan'
  from_us INTEGER,                 -- the interval of coverage in which it should have come (upstream time)
  to_us INTEGER,
  found_us INTEGER NOT NULL,
  outcome TEXT NOT NULL DEFAULT 'open' CHECK (outcome IN ('open', 'repaired', 'late', 'accepted')),
  settled_us INTEGER,              -- when the outcome was known; NULL while open
  note TEXT NOT NULL DEFAULT ''    -- why it was accepted
) STRICT;
CREATE INDEX finding_of_actor ON finding (actor, collection, rkey);
CREATE INDEX finding_by_time ON finding (found_us);
CREATE INDEX finding_open ON finding (actor) WHERE outcome = 'open';
CREATE INDEX finding_in_flight ON finding (found_us) WHERE note = 'in flight';

CREATE INDEX repo_uncovered ON repo (actor) WHERE cover_us IS NULL;
-- owner: backfill · state · position-with-rows: bulk history of many accounts out of a Jetstream v2 archive.
-- Moves on in the transaction of its rows; never touches floors or certificates.
CREATE TABLE archive_run (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  source TEXT NOT NULL,            -- origin of the archive
  tip_seq INTEGER,                 -- the last number that is asked for; NULL before the first plan
  after_seq INTEGER NOT NULL DEFAULT 0,  -- whole segments are in up to here
  segment TEXT NOT NULL DEFAULT '',-- the one that is in by part
  checksum TEXT NOT NULL DEFAULT '',  -- and which generation of it
  seq INTEGER NOT NULL DEFAULT 0,  -- its last row that is in
  rows INTEGER NOT NULL DEFAULT 0, -- that were kept
  started_us INTEGER NOT NULL,
  ended_us INTEGER,                -- NULL while it goes on
  outcome TEXT NOT NULL DEFAULT ''
) STRICT;

-- owner: backfill · state · whose history a run brings, and in which epoch; nobody's is brought twice.
CREATE TABLE archive_account (
  actor INTEGER PRIMARY KEY REFERENCES repo (actor) ON DELETE CASCADE,
  run INTEGER NOT NULL REFERENCES archive_run (id),
  epoch INTEGER NOT NULL
) STRICT;
CREATE INDEX archive_account_of_run ON archive_account (run);

-- ---------------------------------------------------------------- what viewers keep, and what their views need

ALTER TABLE mute ADD COLUMN only INTEGER NOT NULL DEFAULT 0;

-- owner: xrpc · private · lists whose members a viewer does not want to read.
CREATE TABLE list_mute (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  list INTEGER NOT NULL REFERENCES record (id),
  created_us INTEGER NOT NULL,
  PRIMARY KEY (viewer, list)
) STRICT, WITHOUT ROWID;
CREATE INDEX list_mute_of_list ON list_mute (list);

-- owner: xrpc · private · threads (by their first post) that a viewer does not want to hear of.
CREATE TABLE thread_mute (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  root INTEGER NOT NULL REFERENCES record (id),
  created_us INTEGER NOT NULL,
  PRIMARY KEY (viewer, root)
) STRICT, WITHOUT ROWID;
CREATE INDEX thread_mute_of_root ON thread_mute (root);

-- owner: xrpc · private · accounts of whose posts or replies a viewer wants to be told.
CREATE TABLE activity_subscription (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  subject INTEGER NOT NULL REFERENCES actor (id),
  post INTEGER NOT NULL,
  reply INTEGER NOT NULL,
  key TEXT NOT NULL,               -- a TID: the order of the list
  PRIMARY KEY (viewer, subject)
) STRICT, WITHOUT ROWID;

UPDATE post SET flags = flags | 256 WHERE EXISTS (
  SELECT 1 FROM record r JOIN record g ON g.actor = r.actor AND g.collection = 7 AND g.rkey = r.rkey
  WHERE r.id = post.id AND g.state = 1);
UPDATE post SET flags = flags | 512 WHERE EXISTS (
  SELECT 1 FROM record r JOIN record g ON g.actor = r.actor AND g.collection = 8 AND g.rkey = r.rkey
  WHERE r.id = post.id AND g.state = 1);
-- Quotes of lists, feeds, labelers and starter packs, as far as those are here.
UPDATE post SET quote = (
  SELECT q.id FROM record r, actor a, record q
  WHERE r.id = post.id AND q.actor = a.id
    AND q.collection IN (9, 12, 13, 14)
    AND coalesce(json_extract(r.body, '$.embed.record.record.uri'), json_extract(r.body, '$.embed.record.uri'))
      = 'at://' || a.did || '/' || (SELECT nsid FROM collection WHERE id = q.collection) || '/' || q.rkey
    AND a.did = substr(coalesce(json_extract(r.body, '$.embed.record.record.uri'), json_extract(r.body, '$.embed.record.uri')), 6,
      instr(substr(coalesce(json_extract(r.body, '$.embed.record.record.uri'), json_extract(r.body, '$.embed.record.uri')), 6), '/') - 1)
) WHERE quote IS NULL AND id IN (
  SELECT id FROM record WHERE collection = 1 AND state = 1 AND instr(CAST(body AS TEXT), 'app.bsky.embed.record') > 0);

-- ---------------------------------------------------------------- what members are told of

ALTER TABLE member ADD COLUMN behind INTEGER NOT NULL DEFAULT 0;
UPDATE member SET behind = (SELECT coalesce(max(id), 0) FROM record);
CREATE TRIGGER member_came AFTER INSERT ON member BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('members', hex(randomblob(12)));
END;
CREATE TRIGGER member_went AFTER DELETE ON member BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('members', hex(randomblob(12)));
END;
CREATE INDEX activity_subscription_of ON activity_subscription (subject);

-- owner: ingest · index · what members are told of: made in the transaction of the record that causes it, gone with it.
-- One row for each member, record and reason; of mention, quote and reply a record has one for each member.
-- reason: 1 mention, 2 quote, 3 reply, 4 like, 5 repost, 6 follow, 7 like of their repost, 8 repost of their repost,
--         9 joined by their starter pack, 10 verified, 11 not verified any more, 12 post of a subscribed account
CREATE TABLE notification (
  viewer INTEGER NOT NULL,         -- the member
  sort_ms INTEGER NOT NULL,        -- the record's, but when it ended for reason 11
  record INTEGER NOT NULL,         -- the cause
  reason INTEGER NOT NULL,
  author INTEGER NOT NULL,         -- of the cause
  subject INTEGER,                 -- the member's record that it is about
  PRIMARY KEY (viewer, sort_ms, record, reason)
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_of_record ON notification (record, viewer, reason);

-- owner: xrpc · private · how far a member has seen notifications, and which ones he wants.
CREATE TABLE notification_state (
  viewer INTEGER PRIMARY KEY REFERENCES actor (id),
  seen_ms INTEGER,                 -- NULL: never
  priority INTEGER NOT NULL DEFAULT 0,  -- 1: lists hold only those whom the member follows
  preferences TEXT NOT NULL DEFAULT '{}'  -- JSON: what differs from the defaults of the lexicon
) STRICT;

-- owner: push · private, secret · where a member's browsers take messages (RFC 8030), and with which keys.
CREATE TABLE push_subscription (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  viewer INTEGER NOT NULL REFERENCES actor (id),
  endpoint TEXT NOT NULL UNIQUE,   -- whoever knows it may send: it stays in here
  receiver BLOB NOT NULL,          -- the browser's public key, an uncompressed point of P-256
  secret BLOB NOT NULL,            -- its authentication secret, 16 bytes
  about TEXT NOT NULL DEFAULT '',  -- the client's name for itself
  created_us INTEGER NOT NULL,
  failures INTEGER NOT NULL DEFAULT 0,  -- in a row
  next_us INTEGER NOT NULL DEFAULT 0    -- no message before then
) STRICT;
CREATE INDEX push_subscription_of ON push_subscription (viewer);

-- owner: ingest (push takes them) · state · notifications that are still to be sent; made with them.
CREATE TABLE push_due (
  subscription INTEGER NOT NULL REFERENCES push_subscription (id) ON DELETE CASCADE,
  record INTEGER NOT NULL,
  reason INTEGER NOT NULL,
  PRIMARY KEY (subscription, record, reason)
) STRICT, WITHOUT ROWID;

-- owner: ingest · index · the blobs that living records mention: what /img and /vid give out, and nothing else.
CREATE TABLE blob (
  actor INTEGER NOT NULL,
  cid TEXT NOT NULL,
  record INTEGER NOT NULL REFERENCES record (id) ON DELETE CASCADE,
  PRIMARY KEY (actor, cid, record)
) STRICT, WITHOUT ROWID;
CREATE INDEX blob_of_record ON blob (record);

-- owner: feeds · state · the feeds that we are asked for as a feed generator, as published.
CREATE TABLE own_feed (
  uri TEXT PRIMARY KEY,            -- of the generator record
  publisher TEXT NOT NULL,         -- DID
  kind TEXT NOT NULL CHECK (kind IN ('all', 'no_reposts', 'no_replies', 'media', 'list')),
  list TEXT NOT NULL DEFAULT '',   -- address of the list where kind is list
  published_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX own_feed_of_publisher ON own_feed (publisher);

INSERT OR IGNORE INTO blob (actor, cid, record)
  SELECT r.actor, t.value, r.id FROM record r, json_tree(CAST(r.body AS TEXT)) t
  WHERE r.state = 1 AND r.collection IN (1, 5, 9, 12, 13, 14, 19) AND instr(CAST(r.body AS TEXT), 'bafkrei') > 0
    AND t.key IN ('$link', 'cid') AND t.type = 'text' AND t.value GLOB 'bafkrei*' AND length(t.value) = 59;
-- ---------------------------------------------------------------- search

-- owner: ingest · index · where a post or starter pack stands in searches: the newest have the highest
-- place. place = sort_ms * 2^20 + the upper 20 bits of tie, or the next that is free.
CREATE TABLE searched (
  place INTEGER PRIMARY KEY,
  record INTEGER NOT NULL UNIQUE REFERENCES record (id)
) STRICT;

-- owner: ingest · index · the words of what is searched, by place; changes with the row that has them.
-- It keeps no text: who removes a row has to give its words (protocol/searchable.py) once more.
CREATE VIRTUAL TABLE search USING fts5 (
  words, facts, pack, content = '', columnsize = 0, tokenize = 'ascii'
);

-- owner: ingest and identity · index · what people are found by: folded words of what they show.
CREATE TABLE person (
  actor INTEGER PRIMARY KEY REFERENCES actor (id),
  handle TEXT NOT NULL,
  name TEXT NOT NULL,
  about TEXT NOT NULL
) STRICT;
CREATE VIRTUAL TABLE person_search USING fts5 (
  handle, name, about, content = '', columnsize = 0, tokenize = 'ascii', prefix = '1 2 3'
);

-- Filled from what is here; search_words, search_facts, folded_name and folded_about come with the upgrade.
INSERT INTO searched (place, record)
  SELECT (max(0, sort_ms) << 20) + row_number() OVER (PARTITION BY max(0, sort_ms) ORDER BY sort_ms, tie, id), id
  FROM record WHERE collection IN (1, 13) AND state = 1 AND sort_ms IS NOT NULL
    AND (collection = 13 OR id IN (SELECT id FROM post));
INSERT INTO search (rowid, words, facts, pack)
  SELECT s.place, iif(r.collection = 1, search_words(r.body), ''),
    iif(r.collection = 1, search_facts(r.body, r.actor), ''),
    iif(r.collection = 13, folded_name(r.body) || ' ' || folded_about(r.body), '')
  FROM searched s JOIN record r ON r.id = s.record ORDER BY s.place;
INSERT INTO person (actor, handle, name, about)
  SELECT a.id, coalesce(folded(a.handle), ''), coalesce(folded_name(r.body), ''), coalesce(folded_about(r.body), '')
  FROM actor a LEFT JOIN record r ON r.actor = a.id AND r.collection = 5 AND r.rkey = 'self' AND r.state = 1
  WHERE a.handle IS NOT NULL OR r.id IS NOT NULL;
INSERT INTO person_search (rowid, handle, name, about) SELECT actor, handle, name, about FROM person;

-- owner: xrpc · private · pictures and videos that the operator took down, whoever's record mentions them.
CREATE TABLE blob_takedown (
  actor INTEGER NOT NULL REFERENCES actor (id),
  cid TEXT NOT NULL,
  reference TEXT NOT NULL,
  PRIMARY KEY (actor, cid)
) STRICT, WITHOUT ROWID;

-- owner: xrpc · private · posts that a member has begun and not sent.
CREATE TABLE draft (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  key TEXT NOT NULL,               -- a TID: the order of the list
  body BLOB NOT NULL,              -- JSON
  created_us INTEGER NOT NULL,
  updated_us INTEGER NOT NULL,
  PRIMARY KEY (viewer, key)
) STRICT, WITHOUT ROWID;

ALTER TABLE label ADD COLUMN sig BLOB;
ALTER TABLE label ADD COLUMN cts_us INTEGER NOT NULL DEFAULT 0;

-- owner: labels · state · how far each labeler was heard: its position changes only in the transaction of its labels.
CREATE TABLE labeler (
  did TEXT PRIMARY KEY,
  endpoint TEXT NOT NULL,          -- whose numbers seq counts
  key TEXT NOT NULL,               -- did:key of #atproto_label with which its labels were checked last
  seq INTEGER,                     -- NULL: nothing heard yet
  asked_to INTEGER NOT NULL DEFAULT 0,  -- what it says of actors up to this id was asked for, and comes by the stream since
  labels INTEGER NOT NULL DEFAULT 0,    -- rows of label that are its own
  refused INTEGER NOT NULL DEFAULT 0,   -- labels that were not its own, or not signed by it
  heard_us INTEGER,
  error TEXT NOT NULL DEFAULT ''   -- why it is not heard now
) STRICT, WITHOUT ROWID;

-- owner: labels · private · labelers that members' clients asked for lately.
CREATE TABLE labeler_subscription (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  did TEXT NOT NULL,
  seen_us INTEGER NOT NULL,        -- when it was asked for last, to the day
  PRIMARY KEY (viewer, did)
) STRICT, WITHOUT ROWID;

INSERT INTO link (id, kind, actor, subject, sort_ms, tie, waiting)
  SELECT r.id, 8, r.actor, a.id, r.sort_ms, r.tie,
    row_number() OVER (PARTITION BY r.actor, a.id ORDER BY r.id) > 1
  FROM record r JOIN actor a ON a.did = json_extract(r.body, '$.subject')
  WHERE r.collection = 18 AND r.state = 1 AND r.sort_ms IS NOT NULL;

-- owner: backfill · index · what an outside index of backlinks counts: kept for a while, and never mixed with our own numbers.
CREATE TABLE outside_count (
  target TEXT PRIMARY KEY,         -- address of a post, or a DID
  likes INTEGER NOT NULL,
  reposts INTEGER NOT NULL,
  replies INTEGER NOT NULL,
  quotes INTEGER NOT NULL,
  followers INTEGER NOT NULL,
  asked_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX outside_count_by_age ON outside_count (asked_us);
-- owner: writes · private · what a member had written at their server from here, without content, for a month.
-- The key is kept before it is sent: a lost outcome is settled by looking, and nothing is written twice.
CREATE TABLE written (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  actor INTEGER NOT NULL REFERENCES actor (id),
  form TEXT NOT NULL,              -- which form or button it was; '' where nobody repeats it
  action TEXT NOT NULL CHECK (action IN ('create', 'update', 'delete')),
  collection TEXT NOT NULL,
  rkey TEXT NOT NULL,
  at_us INTEGER NOT NULL,
  outcome TEXT NOT NULL DEFAULT 'sent' CHECK (outcome IN ('sent', 'done', 'refused', 'unknown'))
) STRICT;
CREATE INDEX written_of_form ON written (actor, form);
CREATE INDEX written_by_time ON written (at_us);

-- owner: members · private · who may not come in, whatever the admission setting.
CREATE TABLE ban (
  actor INTEGER PRIMARY KEY REFERENCES actor (id),
  reason TEXT NOT NULL,
  at_us INTEGER NOT NULL
) STRICT;

-- owner: members · private · what was done by the operator: only ever added to.
CREATE TABLE act (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  at_us INTEGER NOT NULL,
  who TEXT NOT NULL,               -- a DID; link, password or command where that was the proof
  address TEXT NOT NULL DEFAULT '',
  name TEXT NOT NULL,
  subject TEXT NOT NULL,
  before TEXT NOT NULL DEFAULT '',
  after TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE TRIGGER act_stays BEFORE UPDATE ON act BEGIN SELECT RAISE (ABORT, 'acts stay as they are'); END;
CREATE TRIGGER act_is_kept BEFORE DELETE ON act BEGIN SELECT RAISE (ABORT, 'acts are kept'); END;

-- owner: members · private · what members reported to the moderators, and what became of it here.
CREATE TABLE report (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  actor INTEGER NOT NULL REFERENCES actor (id),
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  subject TEXT NOT NULL,           -- a DID, or the address of a record
  cid TEXT NOT NULL DEFAULT '',
  at_us INTEGER NOT NULL,
  forwarded INTEGER NOT NULL DEFAULT 0,  -- 1: the member's server has taken it, too
  settled_us INTEGER
) STRICT;
CREATE INDEX report_of_actor ON report (actor);
CREATE INDEX report_open ON report (id) WHERE settled_us IS NULL;
-- owner: web · private · how far a member has read each timeline, and how it is shown. Only the reader moves the
-- marker (marker-is-the-reader-s); it is a place in the order of rows, so it outlives the row that stood there.
CREATE TABLE reading (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  timeline TEXT NOT NULL,          -- '' is home, else the address of a list
  sort_ms INTEGER,                 -- sort_ms, tie, item: the newest row that was read; NULL: nothing marked yet
  tie INTEGER,
  item INTEGER,
  moved_us INTEGER,
  device TEXT NOT NULL DEFAULT '', -- which browser moved it, in its own words
  version INTEGER NOT NULL DEFAULT 0,  -- rises with each move that is not simply forward
  was_ms INTEGER,                  -- where it stood before the last move, for undoing it
  was_tie INTEGER,
  was_item INTEGER,
  arrival INTEGER NOT NULL DEFAULT 0,  -- item.arrival up to which the reader was shown what lies at or below the marker
  hide INTEGER NOT NULL DEFAULT 0, -- bits: 1 reposts, 2 replies, 4 replies to strangers, 8 quotes, 16 all but media, 32 own reposts
  oldest_first INTEGER NOT NULL DEFAULT 0,
  PRIMARY KEY (viewer, timeline)
) STRICT, WITHOUT ROWID;

-- owner: web · private · what a member does not want to read of one account, in every timeline; bits as reading.hide.
CREATE TABLE account_filter (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  subject INTEGER NOT NULL REFERENCES actor (id),
  hide INTEGER NOT NULL,
  PRIMARY KEY (viewer, subject)
) STRICT, WITHOUT ROWID;

-- owner: web · private · rows that came in below a marker after the reader had passed their place, till they are looked at.
CREATE TABLE late_row (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  item INTEGER NOT NULL,           -- a record that may be gone by now
  PRIMARY KEY (viewer, item)
) STRICT, WITHOUT ROWID;

-- owner: web · private, secret · addresses under which members read their timelines as feeds; each can be revoked.
CREATE TABLE feed_key (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  viewer INTEGER NOT NULL REFERENCES actor (id),
  token BLOB NOT NULL UNIQUE,      -- SHA-256 of the key in the address
  timeline TEXT NOT NULL DEFAULT '',  -- as reading.timeline
  created_us INTEGER NOT NULL
) STRICT;
CREATE INDEX feed_key_of_viewer ON feed_key (viewer);
ALTER TABLE repo ADD COLUMN shown_digest BLOB;
ALTER TABLE repo ADD COLUMN shown_count INTEGER;
CREATE INDEX actor_deleted ON actor (id) WHERE status = 'deleted';
-- The feed generators, few among millions; the condition is written so for the same reason.
CREATE INDEX record_feed ON record (sort_ms) WHERE collection + 0 = 12 AND state = 1;
ALTER TABLE pds_session ADD COLUMN issuer TEXT;
ALTER TABLE pds_session ADD COLUMN kid TEXT;
ALTER TABLE pds_session ADD COLUMN scope TEXT;

-- owner: auth · private · sign-ins by OAuth under way: from leaving for the member's server to coming back.
CREATE TABLE oauth_flow (
  state BLOB PRIMARY KEY,          -- SHA-256 of the state that comes back
  browser BLOB NOT NULL,           -- SHA-256 of the cookie of the browser that left
  sealed BLOB NOT NULL,            -- server, account, verifier, key, the way back
  created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_flow_by_age ON oauth_flow (created_us);
