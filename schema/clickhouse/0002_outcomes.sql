-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE IF NOT EXISTS outcomes
(
    outcome_id        String COMMENT 'Derived from what makes it the same outcome when it is decided again',
    kind              LowCardinality(String) COMMENT 'segment_entered, segment_left, enrollment_started, enrollment_ended, step_entered, action_decided, action_delivered, action_failed, action_suppressed, exposure_recorded, goal_converted',
    user_token        String COMMENT 'The user',
    at                DateTime64(3, 'UTC') COMMENT 'Moment of record: the time of the event, or the due time of the timer, that caused it',
    recorded_at       DateTime64(3, 'UTC') COMMENT 'Wall clock when the outcome was published',
    sequence          UInt64 COMMENT 'Position in ONRAMP_OUTCOMES: the order in which the outcomes of a user were recorded',
    cause_event_id    String COMMENT 'The event that caused it; empty where time alone did',
    cause_received_at DateTime64(3, 'UTC') COMMENT 'When that event was received; 1970 where time alone caused it',
    playbook          LowCardinality(String) COMMENT 'Content hash of the playbook that decided',
    journey           LowCardinality(String) COMMENT 'Key of the journey',
    journey_version   LowCardinality(String) COMMENT 'Version of the journey the enrollment is pinned to',
    enrollment_id     String COMMENT 'One passage of one user through one journey',
    step_key          LowCardinality(String) COMMENT 'Key of the step',
    action            LowCardinality(String) COMMENT 'Name of the action',
    action_id         String COMMENT 'The same on every attempt of one action',
    segment           LowCardinality(String) COMMENT 'Key of the segment',
    experiment        LowCardinality(String) COMMENT 'Key of the experiment',
    variant           LowCardinality(String) COMMENT 'Key of the variant',
    bucket            Float64 COMMENT 'In [0,1): where the hash of the user fell',
    goal              LowCardinality(String) COMMENT 'Name of the goal',
    reason            LowCardinality(String) COMMENT 'Why: of an end, a failure, a suppression, a change of segment',
    details           String COMMENT 'JSON object: what belongs to the kind alone; empty where there is nothing',
    version           UInt64 MATERIALIZED bitNot(sequence) COMMENT 'Greatest for the earliest row, so that the first record of an outcome wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (kind, user_token, outcome_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'What happened to users: the record of every decision. Read outcomes_unique: this table may hold a row more than once';

CREATE VIEW IF NOT EXISTS outcomes_unique AS
SELECT
    outcome_id, kind, user_token, at, recorded_at, sequence, cause_event_id, cause_received_at, playbook, journey,
    journey_version, enrollment_id, step_key, action, action_id, segment, experiment, variant, bucket, goal, reason, details
FROM outcomes FINAL
COMMENT 'Every outcome once; of two records of one outcome the first';

-- +goose Down
DROP VIEW IF EXISTS outcomes_unique;
DROP TABLE IF EXISTS outcomes;
