-- Version 2: what is known of the swarm's members, and what is left of tasks that ended long ago.

ALTER TABLE store ADD COLUMN doubtful INTEGER NOT NULL DEFAULT 0; -- 1: put back, and not compared since

CREATE TABLE members (
    peer     TEXT PRIMARY KEY,
    heard_at INTEGER NOT NULL,  -- milliseconds since 1970, to the hour
    have     TEXT               -- JSON: how many writes of each actor it holds
) STRICT, WITHOUT ROWID;

CREATE TABLE tombstones (       -- tasks whose retention is over, until all members know
    key      INTEGER PRIMARY KEY, -- that of the task
    task_id  TEXT NOT NULL,
    state    TEXT NOT NULL,     -- completed or cancelled
    standing BLOB NOT NULL      -- where its record stood: see src/store/row.rs
) STRICT;

DROP VIEW tasks_readable;
CREATE VIEW tasks_readable AS
SELECT key, task_id, workflow_id, name, tags, state, priority, attempt,
       datetime(created_at / 1000, 'unixepoch') AS created_at_utc,
       iif(state IN ('completed', 'cancelled'), NULL,
           datetime(not_before / 1000, 'unixepoch')) AS not_before_utc,
       iif(state IN ('completed', 'cancelled'),
           datetime(coalesce(not_before, created_at) / 1000, 'unixepoch'), NULL) AS ended_at_utc,
       holder, worker, depends_on, requires, error, note,
       (SELECT body FROM payloads WHERE task = key) AS payload,
       (SELECT body FROM results WHERE task = key) AS result
FROM tasks;
