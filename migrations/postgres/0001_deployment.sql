-- One random id: a daemon refuses to work beside one that has another database.
CREATE TABLE deployment (
    only_row   BIGINT PRIMARY KEY CHECK (only_row = 1),
    id         TEXT    NOT NULL,
    created_ms BIGINT  NOT NULL
);
