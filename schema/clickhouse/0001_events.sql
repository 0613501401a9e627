-- +goose NO TRANSACTION
-- +goose Up

-- A row may be written more than once: streams and retries deliver at least once. The rows of one key collapse to the one
-- first received, in merges and under FINAL. Nothing is partitioned by time, because rows of two partitions never merge.
CREATE TABLE IF NOT EXISTS events
(
    event_id    String COMMENT 'Identity of the event: event_id of the publisher, else the Nats-Msg-Id header, else seq-<sequence>',
    event_name  LowCardinality(String) COMMENT 'Object and past-tense action, such as project_created',
    user_token  String COMMENT 'The user; the raw id stands in users alone',
    occurred_at DateTime64(3, 'UTC') COMMENT 'Event time, corrected for the clock of the publisher and bounded',
    received_at DateTime64(3, 'UTC') COMMENT 'When ONRAMP_EVENTS took the event',
    sequence    UInt64 COMMENT 'Position in ONRAMP_EVENTS: the order of record',
    lateness    LowCardinality(String) COMMENT 'on_time, late (over 15 min), or historic (over 72 h or marked backfill: never causes an action)',
    clamped     Bool COMMENT 'The event claimed to come from the future and was taken as received_at',
    source      LowCardinality(String) COMMENT 'The service that published it: what follows onramp.events. in the subject',
    properties  String COMMENT 'JSON object as published, without white space; empty where there was none',
    traits      String COMMENT 'JSON object as published, without white space; empty where there was none',
    version     UInt64 MATERIALIZED bitNot(sequence) COMMENT 'Greatest for the earliest row, so that the first body of an event_id wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (user_token, event_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every valid event. Read events_unique: this table may hold a row more than once';

CREATE TABLE IF NOT EXISTS users
(
    user_token String COMMENT 'The user everywhere else',
    user_id    SimpleAggregateFunction(any, String) COMMENT 'The raw id as the services know it. Personal: erased on request',
    first_seen SimpleAggregateFunction(min, DateTime64(3, 'UTC')) COMMENT 'Event time of the earliest event'
)
ENGINE = AggregatingMergeTree
ORDER BY user_token
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'The only place that turns a user token back into a raw id. Read users_unique';

CREATE VIEW IF NOT EXISTS events_unique AS
SELECT event_id, event_name, user_token, occurred_at, received_at, sequence, lateness, clamped, source, properties, traits
FROM events FINAL
COMMENT 'Every valid event once; of two bodies with one event_id the first';

CREATE VIEW IF NOT EXISTS users_unique AS
SELECT user_token, any(user_id) AS user_id, min(first_seen) AS first_seen
FROM users
GROUP BY user_token
COMMENT 'Every user once';

-- +goose Down
DROP VIEW IF EXISTS users_unique;
DROP VIEW IF EXISTS events_unique;
DROP TABLE IF EXISTS users;
DROP TABLE IF EXISTS events;
