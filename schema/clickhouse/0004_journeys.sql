-- +goose NO TRANSACTION
-- +goose Up

-- One row for each thing (enrollment, action), and the summaries over all of them. A report since some moment filters the
-- former by the moment the thing began, so that it never counts half of it.

CREATE VIEW IF NOT EXISTS enrollments AS
SELECT
    enrollment_id,
    any(user_token) AS user_token,
    argMinIf(journey, sequence, kind = 'enrollment_started') AS journey,
    argMinIf(journey_version, sequence, kind = 'enrollment_started') AS journey_version,
    minIf(at, kind = 'enrollment_started') AS started_at,
    countIf(kind = 'enrollment_ended') > 0 AS ended,
    minIf(at, kind = 'enrollment_ended') AS ended_at,
    argMinIf(reason, sequence, kind = 'enrollment_ended') AS ended_reason,
    countIf(kind = 'goal_converted') > 0 AS converted,
    minIf(at, kind = 'goal_converted') AS converted_at
FROM outcomes FINAL
WHERE kind IN ('enrollment_started', 'enrollment_ended', 'goal_converted') AND enrollment_id != ''
GROUP BY enrollment_id
HAVING countIf(kind = 'enrollment_started') > 0
COMMENT 'Every enrollment once: when it began, whether and why it ended, whether its goal was met. Moments that have not come are 1970';

CREATE VIEW IF NOT EXISTS enrollment_steps AS
SELECT
    enrollment_id,
    step_key,
    row_number() OVER (PARTITION BY enrollment_id ORDER BY first_sequence) AS position,
    entered_at
FROM
(
    SELECT enrollment_id, step_key, min(sequence) AS first_sequence, min(at) AS entered_at
    FROM outcomes FINAL
    WHERE kind = 'step_entered' AND enrollment_id != ''
    GROUP BY enrollment_id, step_key
)
COMMENT 'Every step an enrollment reached, once, with its place in the order of reaching them';

CREATE VIEW IF NOT EXISTS journeys_summary AS
SELECT
    journey,
    count() AS enrollments,
    countIf(NOT e.ended) AS open,
    countIf(e.converted) AS converted,
    sumMap(if(e.ended, map(toString(e.ended_reason), toUInt64(1)), CAST(map(), 'Map(String, UInt64)'))) AS ended_by_reason
FROM enrollments AS e
GROUP BY journey
ORDER BY journey
COMMENT 'Per journey: how many enrollments began, how many are still open, and why the others ended';

CREATE VIEW IF NOT EXISTS funnel AS
SELECT journey, position, step, users, if(enrolled = 0, 0, users / enrolled) AS share
FROM
(
    SELECT
        journey,
        row_number() OVER (PARTITION BY journey ORDER BY rank, place, users DESC, step) - 1 AS position,
        step,
        users,
        max(if(rank = 0, users, 0)) OVER (PARTITION BY journey) AS enrolled
    FROM
    (
        SELECT toString(journey) AS journey, 0 AS rank, 0. AS place, 'enrolled' AS step, uniqExact(user_token) AS users
        FROM enrollments GROUP BY journey
        UNION ALL
        SELECT toString(e.journey) AS journey, 1 AS rank, avg(s.position) AS place, toString(s.step_key) AS step, uniqExact(e.user_token) AS users
        FROM enrollment_steps AS s INNER JOIN enrollments AS e USING (enrollment_id) GROUP BY journey, step
        UNION ALL
        SELECT toString(journey) AS journey, 2 AS rank, 0. AS place, 'converted' AS step, uniqExactIf(user_token, converted) AS users
        FROM enrollments GROUP BY journey
    )
)
ORDER BY journey, position
COMMENT 'Per journey, in order: users enrolled, users that reached each step (in the order in which steps are reached on average), users converted';

CREATE VIEW IF NOT EXISTS actions AS
SELECT
    action_id,
    any(user_token) AS user_token,
    any(action) AS action,
    min(at) AS begun_at,
    countIf(kind = 'action_decided') > 0 AS decided,
    countIf(kind = 'action_delivered') > 0 AS delivered,
    countIf(kind = 'action_failed') > 0 AS failed,
    countIf(kind = 'action_suppressed') > 0 AS suppressed,
    argMinIf(reason, sequence, kind = 'action_suppressed') AS reason
FROM outcomes FINAL
WHERE kind IN ('action_decided', 'action_delivered', 'action_failed', 'action_suppressed')
GROUP BY action_id
COMMENT 'Every action once: when it was decided and what became of it. reason is that of suppression';

CREATE VIEW IF NOT EXISTS actions_summary AS
SELECT
    action,
    countIf(a.decided) AS decided,
    countIf(a.delivered) AS delivered,
    countIf(a.failed) AS failed,
    countIf(a.suppressed) AS suppressed,
    sumMap(if(a.suppressed, map(toString(a.reason), toUInt64(1)), CAST(map(), 'Map(String, UInt64)'))) AS suppressed_by_reason
FROM actions AS a
GROUP BY action
ORDER BY action
COMMENT 'Per action: how many were decided, delivered, failed and suppressed, and why they were suppressed';

CREATE VIEW IF NOT EXISTS decision_latency AS
SELECT at, recorded_at, kind, user_token, cause_event_id, dateDiff('millisecond', cause_received_at, recorded_at) AS latency_ms
FROM outcomes FINAL
WHERE cause_event_id != '' AND cause_received_at > toDateTime64(0, 3, 'UTC')
COMMENT 'Milliseconds from the receipt of an event to the record of each outcome it caused. Historic events are left out: their outcomes carry no cause_received_at';

-- +goose Down
DROP VIEW IF EXISTS decision_latency;
DROP VIEW IF EXISTS actions_summary;
DROP VIEW IF EXISTS actions;
DROP VIEW IF EXISTS funnel;
DROP VIEW IF EXISTS journeys_summary;
DROP VIEW IF EXISTS enrollment_steps;
DROP VIEW IF EXISTS enrollments;
