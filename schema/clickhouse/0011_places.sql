-- +goose NO TRANSACTION
-- +goose Up

-- Between which events of a user an outcome was decided, and when: who folds the log with it comes to the same, however late the engine was.
-- Rows from before have neither.
ALTER TABLE outcomes ADD COLUMN IF NOT EXISTS log_sequence UInt64 DEFAULT 0
    COMMENT 'Position in ONRAMP_EVENTS of the newest event of the user that was taken by then, the cause included; 0 where no workflow decided it';

ALTER TABLE outcomes ADD COLUMN IF NOT EXISTS decided_at DateTime64(3, 'UTC') DEFAULT 0
    COMMENT 'Clock of the workflow when it was decided; 1970 where no workflow decided it';

CREATE OR REPLACE VIEW outcomes_unique AS
SELECT
    outcome_id, kind, user_token, at, recorded_at, sequence, cause_event_id, cause_received_at, playbook, journey,
    journey_version, enrollment_id, step_key, action, action_id, segment, experiment, variant, bucket, goal, reason, details, trace_id,
    log_sequence, decided_at
FROM outcomes FINAL
COMMENT 'Every outcome once; of two records of one outcome the first';

-- +goose Down
CREATE OR REPLACE VIEW outcomes_unique AS
SELECT
    outcome_id, kind, user_token, at, recorded_at, sequence, cause_event_id, cause_received_at, playbook, journey,
    journey_version, enrollment_id, step_key, action, action_id, segment, experiment, variant, bucket, goal, reason, details, trace_id
FROM outcomes FINAL
COMMENT 'Every outcome once; of two records of one outcome the first';

ALTER TABLE outcomes DROP COLUMN IF EXISTS decided_at;

ALTER TABLE outcomes DROP COLUMN IF EXISTS log_sequence;
