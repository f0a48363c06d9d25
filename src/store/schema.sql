-- Version 1. Comments inside the statements stay in the file: `.schema` shows them.

CREATE TABLE store (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    peer_id TEXT NOT NULL,      -- whose tasks these are
    epoch   TEXT NOT NULL,      -- this life of the store: peer_id/epoch is the actor that writes
    file    TEXT NOT NULL,      -- which file this was when the epoch was made: a copy differs
    unclean INTEGER NOT NULL,   -- 1 while open in relaxed mode: a power cut may have cost commits
    probes  INTEGER NOT NULL    -- trial writes after a failed commit
) STRICT;

CREATE TABLE tasks (
    key         INTEGER PRIMARY KEY,  -- order of arrival
    task_id     TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    name        TEXT NOT NULL,
    tags        TEXT NOT NULL,        -- names, with commas between
    state       TEXT NOT NULL,        -- pending, assigned, completed, failed or cancelled
    priority    INTEGER NOT NULL,     -- in force, 10 first
    attempt     INTEGER NOT NULL,     -- counted from 1
    created_at  INTEGER NOT NULL,     -- milliseconds since 1970, on the submitter's clock
    not_before  INTEGER,              -- milliseconds since 1970; of one that ended: when it did
    holder      TEXT,                 -- peer that holds or completed it
    worker      TEXT,                 -- its worker
    depends_on  TEXT,                 -- JSON list of task ids
    requires    TEXT,                 -- JSON list of capabilities
    error       TEXT,
    note        TEXT,
    record      BLOB NOT NULL         -- hashes, counters, limits: see src/store/row.rs
) STRICT;

CREATE TABLE payloads (
    task INTEGER PRIMARY KEY,   -- tasks.key
    hash BLOB NOT NULL,         -- of the spec that it is part of
    body TEXT NOT NULL          -- JSON
) STRICT;

CREATE TABLE results (
    task INTEGER PRIMARY KEY,   -- tasks.key
    hash BLOB NOT NULL,         -- SHA-256 of body
    body TEXT NOT NULL          -- JSON
) STRICT;

CREATE TABLE clock (
    peer    TEXT PRIMARY KEY,
    counter INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE actors (
    id    INTEGER PRIMARY KEY,  -- what records call it
    actor TEXT NOT NULL,        -- peer_id/epoch
    have  INTEGER               -- its writes up to this one are held here
) STRICT;

CREATE TABLE conflicts (        -- specs that lost against another under the same task_id
    id          INTEGER PRIMARY KEY,
    task_id     TEXT NOT NULL,
    workflow_id TEXT NOT NULL,
    name        TEXT NOT NULL,
    tags        TEXT NOT NULL,
    state       TEXT NOT NULL,
    priority    INTEGER NOT NULL,
    attempt     INTEGER NOT NULL,
    created_at  INTEGER NOT NULL,
    not_before  INTEGER,
    holder      TEXT,
    worker      TEXT,
    depends_on  TEXT,
    requires    TEXT,
    error       TEXT,
    note        TEXT,
    record      BLOB NOT NULL,
    payload     TEXT            -- JSON
) STRICT;

CREATE TABLE duplicates (       -- runs of a task beside the one that counts
    id      INTEGER PRIMARY KEY,
    task_id TEXT NOT NULL,
    peer    TEXT NOT NULL,
    worker  TEXT NOT NULL,
    actor   TEXT NOT NULL,      -- the write that named it:
    counter INTEGER NOT NULL    -- its counter-th
) STRICT;

-- For people: SELECT * FROM tasks_readable WHERE state = 'failed';
CREATE VIEW tasks_readable AS
SELECT key, task_id, workflow_id, name, tags, state, priority, attempt,
       datetime(created_at / 1000, 'unixepoch') AS created_at_utc,
       datetime(not_before / 1000, 'unixepoch') AS not_before_utc,
       holder, worker, depends_on, requires, error, note,
       (SELECT body FROM payloads WHERE task = key) AS payload,
       (SELECT body FROM results WHERE task = key) AS result
FROM tasks;
