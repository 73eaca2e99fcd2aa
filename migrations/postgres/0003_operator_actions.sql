-- What operators did, copied from Redis. `stream_id` is the record's place there: what is copied twice is kept once.
CREATE TABLE operator_actions (
    entry     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    account   TEXT    NOT NULL,
    stream_id TEXT    NOT NULL,
    at_ms     BIGINT  NOT NULL,
    actor     TEXT    NOT NULL,
    action    TEXT    NOT NULL,
    target    TEXT    NOT NULL,
    touched   BIGINT  NOT NULL,
    detail    TEXT    NOT NULL,  -- JSON
    UNIQUE (account, stream_id)
);
CREATE INDEX operator_actions_by_time ON operator_actions (account, at_ms);
