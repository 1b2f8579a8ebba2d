-- The journal of one node: its records, at most one snapshot, and local cells.

-- The log. `hash` chains a record to the one before; the one before the first is described by log.base_*.
CREATE TABLE record (
  number INTEGER PRIMARY KEY,
  epoch INTEGER NOT NULL,
  events BLOB NOT NULL,
  marks BLOB NOT NULL,
  hash BLOB NOT NULL
);

-- One row. base_*: the record before the first one kept. floor: the log reached at least this far when it was last
-- checkpointed, so that a damaged page cannot shorten it unseen. snapshot: the serial of the valid snapshot, or 0.
CREATE TABLE log (
  one INTEGER PRIMARY KEY CHECK (one = 1),
  base_number INTEGER NOT NULL,
  base_epoch INTEGER NOT NULL,
  base_hash BLOB NOT NULL,
  floor INTEGER NOT NULL,
  snapshot INTEGER NOT NULL
);
INSERT INTO log VALUES (1, 0, 0, zeroblob(16), 0, 0);

-- Local cells, never replicated. `digest` covers name and value. One tree instead of a table and its index, so that
-- there is nothing that could disagree with it.
CREATE TABLE cell (
  name TEXT PRIMARY KEY,
  value BLOB NOT NULL,
  digest BLOB NOT NULL
) WITHOUT ROWID;

-- Snapshots are written piece by piece and become valid when log.snapshot names their serial; all others are waste.
-- `digest` covers number, epoch, hash and the whole state.
CREATE TABLE snapshot (
  serial INTEGER PRIMARY KEY,
  number INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  hash BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  digest BLOB NOT NULL
);

-- key = serial * 2^32 + place of the piece, counted from 0.
CREATE TABLE snapshot_piece (
  key INTEGER PRIMARY KEY,
  body BLOB NOT NULL
);
