-- The whole truth about the database. One file, WAL mode, one writer.
--
-- Integer keys inside, AT-URIs at the edges. Times are integers since 1970 UTC: *_us in
-- microseconds, *_ms in milliseconds. Each table names its owner (the package that writes it),
-- the invariant it serves (docs/invariants.md) and how precious it is:
--   index    can be rebuilt from the network
--   private  exists only here: backup and export must have it
--   state    where we are; losing it costs a new scan, never a record

-- ---------------------------------------------------------------- who

-- owner: identity (ingest adds bare rows) · index · one row a DID, handles confirmed both ways.
-- A bare row (known = 0) is somebody only mentioned by others: it exists for nobody who asks.
CREATE TABLE actor (
  id INTEGER PRIMARY KEY,
  did TEXT NOT NULL UNIQUE,
  known INTEGER NOT NULL DEFAULT 0,
  handle TEXT,                     -- lower case; NULL shows as handle.invalid
  pds TEXT,                        -- origin, from the DID document
  signing_key TEXT,                -- did:key of #atproto
  resolved_us INTEGER,             -- when document and handle were last fetched; NULL: due; < 0: due at -resolved_us
  status TEXT,                     -- NULL while active, else the protocol's word
  status_upstream TEXT,            -- who numbered the last account event taken
  status_seq INTEGER NOT NULL DEFAULT 0,  -- its number there; numbers of two upstreams don't compare
  takedown TEXT,                   -- reference of our own takedown; NULL: none
  rev TEXT,                        -- newest rev applied here (Atproto-Repo-Rev)
  indexed_ms INTEGER               -- first sight
) STRICT;
CREATE UNIQUE INDEX actor_handle ON actor (handle) WHERE handle IS NOT NULL;
CREATE INDEX actor_due ON actor (id) WHERE known = 1 AND resolved_us IS NULL;
CREATE INDEX actor_put_off ON actor (resolved_us) WHERE resolved_us < 0;
CREATE INDEX actor_deleted ON actor (id) WHERE status = 'deleted';

-- owner: members · private · who belongs here. Their follows decide what is tracked.
CREATE TABLE member (
  actor INTEGER PRIMARY KEY REFERENCES actor (id),
  via TEXT NOT NULL,               -- allow-list, invite, open, operator
  admitted_us INTEGER NOT NULL,
  behind INTEGER NOT NULL DEFAULT 0  -- records up to this id are still to be looked through for what concerns them
) STRICT;
-- Whoever keeps the set of members in memory sees by this that it changed, also where that was undone.
CREATE TRIGGER member_came AFTER INSERT ON member BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('members', hex(randomblob(12)));
END;
CREATE TRIGGER member_went AFTER DELETE ON member BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('members', hex(randomblob(12)));
END;

-- owner: members · private · codes that admit.
CREATE TABLE invite (
  code TEXT PRIMARY KEY,
  uses_left INTEGER NOT NULL CHECK (uses_left >= 0),
  created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- ---------------------------------------------------------------- what

-- owner: store · index · short numbers for collection names.
CREATE TABLE collection (
  id INTEGER PRIMARY KEY,
  nsid TEXT NOT NULL UNIQUE
) STRICT;
INSERT INTO collection (id, nsid) VALUES  -- the constants of store/collections.py
  (1, 'app.bsky.feed.post'),
  (2, 'app.bsky.feed.repost'),
  (3, 'app.bsky.feed.like'),
  (4, 'app.bsky.graph.follow'),
  (5, 'app.bsky.actor.profile'),
  (6, 'app.bsky.graph.block'),
  (7, 'app.bsky.feed.threadgate'),
  (8, 'app.bsky.feed.postgate'),
  (9, 'app.bsky.graph.list'),
  (10, 'app.bsky.graph.listitem'),
  (11, 'app.bsky.graph.listblock'),
  (12, 'app.bsky.feed.generator'),
  (13, 'app.bsky.graph.starterpack'),
  (14, 'app.bsky.labeler.service'),
  (15, 'app.bsky.notification.declaration'),
  (16, 'chat.bsky.actor.declaration'),
  (17, 'com.germnetwork.declaration'),
  (18, 'app.bsky.graph.verification'),
  (19, 'app.bsky.actor.status'),
  (20, 'app.bsky.actor.contentVisibilityDeclaration');

-- owner: ingest · index · newest-wins, deleted-stays-deleted, replay-is-harmless.
-- One row a record key for ever: living, tombstone, or merely mentioned by another record.
-- sort_ms, tie and arrival are assigned when a key first lives and never change.
CREATE TABLE record (
  id INTEGER PRIMARY KEY,
  actor INTEGER NOT NULL REFERENCES actor (id),
  collection INTEGER NOT NULL REFERENCES collection (id),
  rkey TEXT NOT NULL,
  state INTEGER NOT NULL,          -- 0 mentioned, 1 living, 2 deleted, 3 living but not valid for its lexicon
  epoch INTEGER,                   -- (epoch, rev, n) is the version; NULL while mentioned
  rev TEXT,
  n INTEGER,                       -- place in the commit; 2147483647 for snapshot rows
  cid TEXT,
  body BLOB,                       -- JSON, byte for byte as it came
  sort_ms INTEGER,                 -- min(createdAt, first seen)
  tie INTEGER,                     -- order of equal times: order_key of the cid first stored
  arrival INTEGER,                 -- running number of first arrival: late rows can be told
  indexed_us INTEGER,              -- when the network showed us this version
  scan INTEGER,                    -- the last scan that saw the key
  takedown TEXT,                   -- reference of our own takedown; NULL: none
  UNIQUE (actor, collection, rkey)
) STRICT;
CREATE INDEX record_dead ON record (indexed_us) WHERE state = 2;
-- What a profile card is made of: one short range for each actor. Written as rkey = 'self' the
-- condition would make SQLite plan every statement with rkey = ? anew at each execution.
CREATE INDEX record_self ON record (actor, collection, cid, takedown) WHERE rkey || '' = 'self' AND state = 1;
-- The feed generators, few among millions; the condition is written so for the same reason.
CREATE INDEX record_feed ON record (sort_ms) WHERE collection + 0 = 12 AND state = 1;

-- owner: ingest · index · what timelines and author feeds list: each living post, and each living
-- repost unless its subject is known to be deleted.
-- subject = id for a post, the reposted post's record id for a repost.
-- flags: 1 repost, 2 reply, 4 images or gallery, 8 video, 16 quote, 128 reposted before by the same account
-- (quote: of a post)
CREATE TABLE item (
  id INTEGER PRIMARY KEY REFERENCES record (id),
  actor INTEGER NOT NULL,
  sort_ms INTEGER NOT NULL,
  tie INTEGER NOT NULL,
  subject INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  arrival INTEGER NOT NULL
) STRICT;
CREATE INDEX item_of_actor ON item (actor, sort_ms, tie, id, flags, subject);
CREATE INDEX item_by_arrival ON item (arrival);
CREATE INDEX item_of_subject ON item (subject) WHERE flags & 1;

-- owner: ingest · index · how a living post hangs together with others (record ids).
CREATE TABLE post (
  id INTEGER PRIMARY KEY REFERENCES record (id),
  actor INTEGER NOT NULL,
  root INTEGER,
  parent INTEGER,
  quote INTEGER,                   -- of any kind of record
  sort_ms INTEGER NOT NULL,
  tie INTEGER NOT NULL,
  flags INTEGER NOT NULL           -- as item.flags; 32 violates its thread gate, 64 its post gate; 256 has a thread gate, 512 a post gate
) STRICT;
CREATE INDEX post_by_parent ON post (parent, sort_ms, tie) WHERE parent IS NOT NULL;
CREATE INDEX post_by_root ON post (root) WHERE root IS NOT NULL;
CREATE INDEX post_by_quote ON post (quote, sort_ms, tie) WHERE quote IS NOT NULL;

-- owner: ingest · index · every living record that points from an actor at one thing.
-- kind: 1 like, 2 repost (subject: record) · 3 follow, 4 block (subject: actor)
--       5 list block (subject: the list's record)
--       6 list item (actor: the list's record id, subject: actor)
--       7 joined by a starter pack (subject: record; the link is the profile's)
--       8 verification (subject: actor); later kinds get their number here
-- Of several records for one pair the first to arrive counts; the others wait (waiting = 1).
CREATE TABLE link (
  id INTEGER PRIMARY KEY REFERENCES record (id),
  kind INTEGER NOT NULL,
  actor INTEGER NOT NULL,
  subject INTEGER NOT NULL,
  sort_ms INTEGER NOT NULL,
  tie INTEGER NOT NULL,
  waiting INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE UNIQUE INDEX link_pair ON link (kind, actor, subject) WHERE waiting = 0;
CREATE INDEX link_waiting ON link (kind, actor, subject, id) WHERE waiting = 1;
CREATE INDEX link_by_subject ON link (kind, subject, sort_ms, tie, actor) WHERE waiting = 0;
CREATE INDEX link_by_actor ON link (kind, actor, sort_ms, tie, subject) WHERE waiting = 0;

-- owner: ingest · index · changes only together with the row that it counts.
CREATE TABLE post_count (
  id INTEGER PRIMARY KEY REFERENCES record (id),
  likes INTEGER NOT NULL DEFAULT 0,
  reposts INTEGER NOT NULL DEFAULT 0,
  replies INTEGER NOT NULL DEFAULT 0,
  quotes INTEGER NOT NULL DEFAULT 0,
  bookmarks INTEGER NOT NULL DEFAULT 0
) STRICT;

-- owner: ingest · index · changes only together with the row that it counts.
CREATE TABLE actor_count (
  actor INTEGER PRIMARY KEY REFERENCES actor (id),
  follows INTEGER NOT NULL DEFAULT 0,
  followers INTEGER NOT NULL DEFAULT 0,
  posts INTEGER NOT NULL DEFAULT 0
) STRICT;

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

-- owner: labels · index · newest statement of a labeler about a subject.
CREATE TABLE label (
  src TEXT NOT NULL,
  uri TEXT NOT NULL,
  val TEXT NOT NULL,
  cid TEXT NOT NULL DEFAULT '',
  neg INTEGER NOT NULL DEFAULT 0,
  cts TEXT NOT NULL,
  exp TEXT,
  sig BLOB,                        -- the labeler's signature, checked before
  cts_us INTEGER NOT NULL DEFAULT 0,  -- cts as a number: of several about one thing the latest holds
  PRIMARY KEY (uri, src, val, cid)
) STRICT, WITHOUT ROWID;

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

-- ---------------------------------------------------------------- private things of a viewer

-- owner: xrpc · private · accounts that a viewer does not want to read.
CREATE TABLE mute (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  subject INTEGER NOT NULL REFERENCES actor (id),
  created_us INTEGER NOT NULL,
  only INTEGER NOT NULL DEFAULT 0, -- 0 everything, else bits: 1 reposts, 2 quote posts
  PRIMARY KEY (viewer, subject)
) STRICT, WITHOUT ROWID;

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

-- owner: xrpc · private · counted in post_count.bookmarks in the same transaction.
CREATE TABLE bookmark (
  viewer INTEGER NOT NULL REFERENCES actor (id),
  post INTEGER NOT NULL REFERENCES record (id),
  cid TEXT NOT NULL,
  created_us INTEGER NOT NULL,
  PRIMARY KEY (viewer, post)
) STRICT, WITHOUT ROWID;
CREATE INDEX bookmark_of_post ON bookmark (post);

-- owner: auth · private, secret · a sign-in at a member's PDS; its tokens sealed (secrets-stay-in).
CREATE TABLE pds_session (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  actor INTEGER NOT NULL REFERENCES actor (id),
  pds TEXT NOT NULL,
  sealed BLOB NOT NULL,            -- access and refresh token, AES-GCM under a key outside the database
  created_us INTEGER NOT NULL,
  refreshed_us INTEGER NOT NULL,
  dead TEXT,                       -- why it can't be used any more; NULL: usable
  issuer TEXT,                     -- the authorization server, for a sign-in by OAuth
  kid TEXT,                        -- our key as a client, to which such a sign-in is bound
  scope TEXT                       -- what it allows
) STRICT;
CREATE INDEX pds_session_of_actor ON pds_session (actor);

-- owner: auth · private · our own sessions: a browser's cookie or an XRPC client's token pair.
-- An id is never used again: access tokens name it.
CREATE TABLE session (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  kind TEXT NOT NULL CHECK (kind IN ('web', 'xrpc')),
  token BLOB NOT NULL UNIQUE,      -- SHA-256 of the cookie or of the current refresh token's id
  previous BLOB,                   -- the one before the last rotation, good for a short while
  rotated_us INTEGER NOT NULL,
  actor INTEGER NOT NULL REFERENCES actor (id),
  pds_session INTEGER NOT NULL REFERENCES pds_session (id) ON DELETE CASCADE,
  about TEXT NOT NULL DEFAULT '',  -- which program, in its own words, for the list of sessions
  created_us INTEGER NOT NULL,
  seen_us INTEGER NOT NULL,
  expires_us INTEGER NOT NULL
) STRICT;
CREATE INDEX session_by_previous ON session (previous) WHERE previous IS NOT NULL;
CREATE INDEX session_of_pds_session ON session (pds_session);
CREATE INDEX session_of_actor ON session (actor);
CREATE INDEX session_by_end ON session (expires_us);

-- owner: auth · private · sign-ins by OAuth under way: from leaving for the member's server to coming back.
CREATE TABLE oauth_flow (
  state BLOB PRIMARY KEY,          -- SHA-256 of the state that comes back
  browser BLOB NOT NULL,           -- SHA-256 of the cookie of the browser that left
  sealed BLOB NOT NULL,            -- server, account, verifier, key, the way back
  created_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_flow_by_age ON oauth_flow (created_us);

-- ---------------------------------------------------------------- how far, and what is open

-- owner: ingest · state · position-with-rows: changes only in the transaction of its rows.
CREATE TABLE upstream (
  name TEXT PRIMARY KEY,           -- wire and address, e.g. "jetstream-v2 wss://host/…"; of a list also " dids " and its hash
  wire TEXT NOT NULL CHECK (wire IN ('jetstream-v1', 'jetstream-v2', 'relay')),
  seq INTEGER,                     -- where the wire numbers its events (one host's own numbers)
  time_us INTEGER,                 -- the upstream's clock at that event
  events INTEGER NOT NULL DEFAULT 0,
  updated_us INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- owner: ingest · state · gap-means-job: an interval that an upstream did not deliver.
CREATE TABLE gap (
  id INTEGER PRIMARY KEY,
  upstream TEXT NOT NULL,
  from_us INTEGER NOT NULL,
  to_us INTEGER NOT NULL,
  reason TEXT NOT NULL,
  noticed_us INTEGER NOT NULL,
  closed_us INTEGER
) STRICT;

-- owner: ingest · state · an event that could not be applied; its account is SUSPECT.
CREATE TABLE dead_letter (
  id INTEGER PRIMARY KEY,
  upstream TEXT NOT NULL,
  position INTEGER,
  did TEXT,
  raw BLOB NOT NULL,
  error TEXT NOT NULL,
  at_us INTEGER NOT NULL
) STRICT;

-- owner: ingest and backfill · state · the state machine of each tracked repository.
-- refs = 1 while the actor is a member + number of members with a living follow of it.
CREATE TABLE repo (
  actor INTEGER PRIMARY KEY REFERENCES actor (id),
  state TEXT NOT NULL CHECK (state IN
    ('QUEUED', 'SCANNING', 'LIVE', 'SUSPECT', 'WAIT', 'INACTIVE', 'GONE', 'PRUNING')),
  reason TEXT NOT NULL DEFAULT '',
  since_us INTEGER NOT NULL,
  refs INTEGER NOT NULL CHECK (refs >= 0),
  unwanted_us INTEGER,             -- since when refs = 0
  priority INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_at_us INTEGER NOT NULL DEFAULT 0,
  epoch INTEGER NOT NULL DEFAULT 0,
  base_rev TEXT NOT NULL DEFAULT '',  -- the rev at which the last complete scan began
  seen_rev TEXT NOT NULL DEFAULT '',
  doubt TEXT NOT NULL DEFAULT '',  -- met while not LIVE: the snapshot under way can't certify
  data_cid TEXT,                   -- tree root after head_rev; NULL: not told, as by a listing
  cover_us INTEGER,                -- the stream is kept without a break since this upstream time; NULL: not proved yet
  cert_rev TEXT,
  cert_us INTEGER,
  cert_method TEXT,                -- listing, signed
  cert_digest BLOB,
  cert_count INTEGER,
  doubt_us INTEGER,                -- upstream time from which on something may be missing; NULL: no doubt, or since ever
  window_us INTEGER,                -- what is older was not read, by BACKFILL_DAYS; NULL: nothing was left out
  head_rev TEXT NOT NULL DEFAULT '',  -- newest commit of the chain: scanned, or checked on a wire that tells trees
  shown_digest BLOB,                -- as cert_digest, of the collections that are read of everybody: whoever asks is told these
  shown_count INTEGER
) STRICT;
CREATE INDEX repo_due ON repo (next_at_us, priority) WHERE state IN ('QUEUED', 'WAIT', 'SUSPECT');
CREATE INDEX repo_scanning ON repo (actor) WHERE state = 'SCANNING';
CREATE INDEX repo_aside ON repo (next_at_us) WHERE state IN ('INACTIVE', 'GONE');
CREATE INDEX repo_unwanted ON repo (unwanted_us) WHERE unwanted_us IS NOT NULL;
CREATE INDEX repo_uncovered ON repo (actor) WHERE cover_us IS NULL;

-- Who is tracked has a name that no other set of tracked accounts ever had (ingest/tracked.py).
CREATE TRIGGER repo_tracked AFTER INSERT ON repo BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('tracked', hex(randomblob(12)));
END;
CREATE TRIGGER repo_untracked AFTER DELETE ON repo BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('tracked', hex(randomblob(12)));
END;
CREATE TRIGGER repo_epoch AFTER UPDATE OF epoch ON repo WHEN OLD.epoch <> NEW.epoch BEGIN
  INSERT OR REPLACE INTO meta (name, value) VALUES ('tracked', hex(randomblob(12)));
END;

-- owner: backfill · state · what a complete scan proved of one collection: a key without a row is
-- older than (epoch, rev, ∞).
CREATE TABLE floor (
  actor INTEGER NOT NULL REFERENCES actor (id),
  collection INTEGER NOT NULL REFERENCES collection (id),
  epoch INTEGER NOT NULL,
  rev TEXT NOT NULL,
  PRIMARY KEY (actor, collection)
) STRICT, WITHOUT ROWID;

-- owner: backfill · state · a running snapshot; moves on in the transaction of each page.
CREATE TABLE scan (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  actor INTEGER NOT NULL UNIQUE REFERENCES actor (id),
  epoch INTEGER NOT NULL,
  host TEXT NOT NULL,
  method TEXT NOT NULL CHECK (method IN ('listing', 'signed')),
  base_rev TEXT NOT NULL,
  collections TEXT NOT NULL,       -- JSON array of those still to read, the current one first
  cursor TEXT,
  pages INTEGER NOT NULL DEFAULT 0,
  rows INTEGER NOT NULL DEFAULT 0,
  partial INTEGER NOT NULL DEFAULT 0,  -- 1: some collection was not read to its end
  started_us INTEGER NOT NULL
) STRICT;

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

-- owner: backfill · state · strangers' records and profiles that some page wants to show.
CREATE TABLE fetch (
  kind TEXT NOT NULL CHECK (kind IN ('record', 'actor')),
  target INTEGER NOT NULL,         -- record.id or actor.id
  priority INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  next_at_us INTEGER NOT NULL DEFAULT 0,
  wanted_us INTEGER NOT NULL,
  outcome TEXT NOT NULL DEFAULT '',-- '' open, gone, refused
  PRIMARY KEY (kind, target)
) STRICT, WITHOUT ROWID;
CREATE INDEX fetch_due ON fetch (priority, next_at_us) WHERE outcome = '';

-- owner: store · state · named counters and marks (arrival, writer lease, quick_check time).
CREATE TABLE meta (
  name TEXT PRIMARY KEY,
  value TEXT NOT NULL
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
