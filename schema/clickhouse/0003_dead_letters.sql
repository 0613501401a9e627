-- +goose NO TRANSACTION
-- +goose Up

CREATE TABLE IF NOT EXISTS dead_letters
(
    stream               LowCardinality(String) COMMENT 'The stream the message was refused from',
    sequence             UInt64 COMMENT 'Its position there: with stream the identity of the message',
    subject              String COMMENT 'The subject it was published on',
    reason               LowCardinality(String) COMMENT 'Code: why it was refused',
    message              String COMMENT 'The same for a person, with what to mend',
    attempts             UInt32 COMMENT 'How often it had been delivered',
    received_at          DateTime64(3, 'UTC') COMMENT 'When its stream took it',
    recorded_at          DateTime64(3, 'UTC') COMMENT 'When it was written off',
    payload              String COMMENT 'The bytes as they came, which need not be text; cut at 64 KiB. May hold personal data',
    sha256               String COMMENT 'Of the whole payload, in lower-case hexadecimal',
    dead_letter_sequence UInt64 COMMENT 'Position in ONRAMP_DEADLETTERS',
    version              UInt64 MATERIALIZED bitNot(dead_letter_sequence) COMMENT 'Greatest for the earliest row, so that the first verdict wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (stream, sequence)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Messages that were refused for good, each with its reason. Read dead_letters_unique';

CREATE VIEW IF NOT EXISTS dead_letters_unique AS
SELECT stream, sequence, subject, reason, message, attempts, received_at, recorded_at, payload, sha256, dead_letter_sequence
FROM dead_letters FINAL
COMMENT 'Every refused message once';

-- +goose Down
DROP VIEW IF EXISTS dead_letters_unique;
DROP TABLE IF EXISTS dead_letters;
