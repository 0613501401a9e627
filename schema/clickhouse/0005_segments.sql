-- +goose NO TRANSACTION
-- +goose Up

CREATE VIEW IF NOT EXISTS segment_members AS
SELECT
    segment,
    user_token,
    argMax(kind, sequence) = 'segment_entered' AS member,
    argMax(at, sequence) AS since
FROM outcomes FINAL
WHERE kind IN ('segment_entered', 'segment_left')
GROUP BY segment, user_token
COMMENT 'Every user that ever was in a segment, whether the user is in it now, and since when. The last change in the order of record counts: two changes may share a millisecond';

CREATE VIEW IF NOT EXISTS segment_sizes AS
SELECT segment, countIf(member) AS members, count() AS ever
FROM segment_members
GROUP BY segment
ORDER BY segment
COMMENT 'Per segment: users in it now, and users that ever were';

CREATE VIEW IF NOT EXISTS segment_timeline AS
SELECT
    segment,
    minute,
    entered,
    left,
    sum(toInt64(entered) - toInt64(left)) OVER (PARTITION BY segment ORDER BY minute) AS members
FROM
(
    SELECT segment, toStartOfMinute(at) AS minute, countIf(kind = 'segment_entered') AS entered, countIf(kind = 'segment_left') AS left
    FROM outcomes FINAL
    WHERE kind IN ('segment_entered', 'segment_left')
    GROUP BY segment, minute
)
ORDER BY segment, minute
COMMENT 'Per segment and minute in which it changed: users that entered, users that left, users in it afterwards';

-- +goose Down
DROP VIEW IF EXISTS segment_timeline;
DROP VIEW IF EXISTS segment_sizes;
DROP VIEW IF EXISTS segment_members;
