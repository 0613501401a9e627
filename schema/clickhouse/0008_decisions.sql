-- +goose NO TRANSACTION
-- +goose Up

-- The same decision taken again by the same playbook is the same row, and the first time it was taken stays.
CREATE TABLE IF NOT EXISTS decisions
(
    decision_id String COMMENT 'Derived from experiment, playbook, action, variants and shares',
    experiment  LowCardinality(String) COMMENT 'Key of the experiment',
    decided_at  DateTime64(3, 'UTC') COMMENT 'When it was decided first',
    action      LowCardinality(String) COMMENT 'pause: variants get nobody else what they give. stop: the experiment ends, and everybody gets the variant. shares: other weights for the users to come',
    variants    Array(String) COMMENT 'Those paused, the one kept, or those whose shares move',
    shares      Map(String, Float64) COMMENT 'Weight by variant; empty unless the action is shares',
    because     Array(String) COMMENT 'The sentences that led to it, the weightiest first',
    change      String COMMENT 'What to change in the playbook; nothing was changed by the decision itself',
    rule        String COMMENT 'What the playbook lets be decided, in words',
    analysis_id String COMMENT 'The reading it was decided by, in analysis_snapshots',
    playbook    LowCardinality(String) COMMENT 'Content hash of the playbook whose rule decided',
    version     UInt64 MATERIALIZED bitNot(toUInt64(toUnixTimestamp64Milli(decided_at))) COMMENT 'Greatest for the earliest row, so that the first time wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (experiment, decision_id)
COMMENT 'What onramp experiment decide decided. Read experiment_decisions: this table may hold a row more than once';

CREATE VIEW IF NOT EXISTS experiment_decisions AS
SELECT decision_id, experiment, decided_at, action, variants, shares, because, change, rule, analysis_id, playbook
FROM decisions FINAL
COMMENT 'Every decision on an experiment once, as it was taken first';

-- +goose Down
DROP VIEW IF EXISTS experiment_decisions;
DROP TABLE IF EXISTS decisions;
