-- A copy of the ledger of operations that are not safe to repeat. The ledger itself lives in Redis, beside the queue.
-- Nothing writes here yet: the table is there before the kinds that need it.
CREATE TABLE ledger (
    account   TEXT    NOT NULL,
    kind      TEXT    NOT NULL,
    job_id    TEXT    NOT NULL,
    state     TEXT    NOT NULL,  -- begun, done
    remote_id TEXT,              -- what Klaviyo calls the result
    begun_ms  INTEGER NOT NULL,
    done_ms   INTEGER,
    PRIMARY KEY (account, kind, job_id)
) STRICT;
