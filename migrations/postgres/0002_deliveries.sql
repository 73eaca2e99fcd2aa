-- The audit. Jobs that were delivered at the first try leave one row for each call, with the hashes of their ids sorted
-- in `id_hashes` (8 bytes each, big-endian); every other attempt leaves a row of its own. Times are milliseconds since 1970.
CREATE TABLE deliveries (
    entry      BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account    TEXT   NOT NULL,
    queue      TEXT   NOT NULL,
    kind       TEXT   NOT NULL,  -- empty where the job had none
    call_id    BIGINT NOT NULL,  -- rows of one call share it
    started_ms BIGINT NOT NULL,
    ended_ms   BIGINT NOT NULL,
    jobs       BIGINT NOT NULL,
    outcome    TEXT   NOT NULL,  -- delivered, retry, snooze, bury
    id_hashes  BYTEA,
    job_id     TEXT,
    id_hash    BIGINT,
    attempt    BIGINT,
    code       TEXT,
    status     BIGINT,
    pointer    TEXT
);
-- Hashes are random: compressing them costs time and saves nothing.
ALTER TABLE deliveries ALTER COLUMN id_hashes SET STORAGE EXTERNAL;
CREATE INDEX deliveries_of_job ON deliveries (id_hash) WHERE id_hash IS NOT NULL;
CREATE INDEX deliveries_of_kind ON deliveries (account, kind, ended_ms);
CREATE INDEX deliveries_by_age ON deliveries (ended_ms);

-- How many bytes of deliveries ended in each span of ten minutes: their sum is the size of the audit, which a
-- database that keeps the room of deleted rows cannot tell.
CREATE TABLE delivery_spans (
    span_ms BIGINT PRIMARY KEY,
    bytes   BIGINT NOT NULL
);
