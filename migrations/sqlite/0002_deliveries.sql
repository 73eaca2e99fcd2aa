-- The audit. Jobs that were delivered at the first try leave one row for each call, with the hashes of their ids sorted
-- in `id_hashes` (8 bytes each, big-endian); every other attempt leaves a row of its own. Times are milliseconds since 1970.
CREATE TABLE deliveries (
    entry      INTEGER PRIMARY KEY,
    account    TEXT    NOT NULL,
    queue      TEXT    NOT NULL,
    kind       TEXT    NOT NULL,  -- empty where the job had none
    call_id    INTEGER NOT NULL,  -- rows of one call share it
    started_ms INTEGER NOT NULL,
    ended_ms   INTEGER NOT NULL,
    jobs       INTEGER NOT NULL,
    outcome    TEXT    NOT NULL,  -- delivered, retry, snooze, bury
    id_hashes  BLOB,
    job_id     TEXT,
    id_hash    INTEGER,
    attempt    INTEGER,
    code       TEXT,
    status     INTEGER,
    pointer    TEXT
) STRICT;
CREATE INDEX deliveries_of_job ON deliveries (id_hash) WHERE id_hash IS NOT NULL;
CREATE INDEX deliveries_of_kind ON deliveries (account, kind, ended_ms);
CREATE INDEX deliveries_by_age ON deliveries (ended_ms);

-- How many bytes of deliveries ended in each span of ten minutes: their sum is the size of the audit, which a
-- database that keeps the room of deleted rows cannot tell.
CREATE TABLE delivery_spans (
    span_ms INTEGER PRIMARY KEY,
    bytes   INTEGER NOT NULL
) STRICT;
