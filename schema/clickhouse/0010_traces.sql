-- +goose NO TRANSACTION
-- +goose Up

-- The trace of an event and of what follows from it: a trace that somebody looks at in their tracing system leads to its rows, and a row
-- to its trace. Rows from before have none.
ALTER TABLE events ADD COLUMN IF NOT EXISTS trace_id String DEFAULT ''
    COMMENT 'Id of the distributed trace that the event was published in, 32 hexadecimal digits; empty for none';

ALTER TABLE outcomes ADD COLUMN IF NOT EXISTS trace_id String DEFAULT ''
    COMMENT 'Id of the distributed trace of the event that caused it; empty where that had none, or time alone caused it';

CREATE OR REPLACE VIEW events_unique AS
SELECT event_id, event_name, user_token, occurred_at, received_at, sequence, lateness, clamped, source, properties, traits, trace_id
FROM events FINAL
COMMENT 'Every valid event once; of two bodies with one event_id the first';

CREATE OR REPLACE VIEW outcomes_unique AS
SELECT
    outcome_id, kind, user_token, at, recorded_at, sequence, cause_event_id, cause_received_at, playbook, journey,
    journey_version, enrollment_id, step_key, action, action_id, segment, experiment, variant, bucket, goal, reason, details, trace_id
FROM outcomes FINAL
COMMENT 'Every outcome once; of two records of one outcome the first';

-- +goose Down
CREATE OR REPLACE VIEW outcomes_unique AS
SELECT
    outcome_id, kind, user_token, at, recorded_at, sequence, cause_event_id, cause_received_at, playbook, journey,
    journey_version, enrollment_id, step_key, action, action_id, segment, experiment, variant, bucket, goal, reason, details
FROM outcomes FINAL
COMMENT 'Every outcome once; of two records of one outcome the first';

CREATE OR REPLACE VIEW events_unique AS
SELECT event_id, event_name, user_token, occurred_at, received_at, sequence, lateness, clamped, source, properties, traits
FROM events FINAL
COMMENT 'Every valid event once; of two bodies with one event_id the first';

ALTER TABLE outcomes DROP COLUMN IF EXISTS trace_id;

ALTER TABLE events DROP COLUMN IF EXISTS trace_id;
