-- Version 3: what happened to each task, as this peer saw it.

CREATE TABLE history (
    task     INTEGER NOT NULL,  -- tasks.key
    id       INTEGER NOT NULL,  -- order in which this peer saw it
    at       INTEGER NOT NULL,  -- milliseconds since 1970, on this peer's clock
    actor    INTEGER NOT NULL,  -- actors.id: who wrote it
    phase    INTEGER NOT NULL,  -- 0 pending, 1 leased, 2 failed
    epoch    INTEGER NOT NULL,
    rev      INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    losses   INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    worker   TEXT,              -- that took it
    reason   TEXT,              -- the beginning of the error or note that stood there
    PRIMARY KEY (task, id)
) STRICT, WITHOUT ROWID;
