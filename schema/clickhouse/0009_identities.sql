-- +goose NO TRANSACTION
-- +goose Up

-- Who became somebody else counts as that one, with all they did before. The rows of events and outcomes keep the token under which they
-- came; the views that count users look up who that is by now. Segments need no looking up: who becomes another leaves them by an outcome,
-- and the other enters.

CREATE VIEW IF NOT EXISTS identity_links AS
SELECT merged_token, argMax(into_token, link_sequence) AS person_token, min(link_at) AS linked_at
FROM
(
    SELECT arrayJoin(JSONExtract(details, 'tokens', 'Array(String)')) AS merged_token, user_token AS into_token, sequence AS link_sequence, at AS link_at
    FROM outcomes FINAL
    WHERE kind = 'user_merged'
)
GROUP BY merged_token
COMMENT 'Every visitor and user who became one with another: under which token they came, who they are by now, and since when they are not on their own. Nobody who is not merged';

CREATE VIEW IF NOT EXISTS user_events AS
SELECT
    if(l.person_token = '', e.user_token, l.person_token) AS user_token, e.user_token AS came_as, e.event_id AS event_id, e.event_name AS event_name,
    e.occurred_at AS occurred_at, e.received_at AS received_at, e.sequence AS sequence, e.lateness AS lateness, e.clamped AS clamped, e.source AS source,
    e.properties AS properties, e.traits AS traits
FROM events_unique AS e
LEFT JOIN identity_links AS l ON e.user_token = l.merged_token
COMMENT 'Every valid event once, under the user who it is of by now. came_as is the token under which it came: that of a visitor who became the user later';

CREATE OR REPLACE VIEW exposures AS
SELECT
    experiment,
    person AS user_token,
    argMin(o.variant, (o.at, o.sequence)) AS variant,
    min(o.at) AS exposed_at,
    argMin(o.journey, (o.at, o.sequence)) AS journey,
    argMin(o.bucket, (o.at, o.sequence)) AS bucket,
    uniqExact(o.variant) > 1 AS mixed
FROM
(
    SELECT x.*, if(l.person_token = '', x.user_token, l.person_token) AS person
    FROM (SELECT experiment, user_token, variant, at, sequence, journey, bucket FROM outcomes FINAL WHERE kind = 'exposure_recorded' AND experiment != '') AS x
    LEFT JOIN identity_links AS l ON x.user_token = l.merged_token
) AS o
GROUP BY experiment, person
COMMENT 'The first exposure of every user to every experiment: first wins, and what somebody met before they became this user counts. mixed flags users that met more than one variant';

CREATE OR REPLACE VIEW conversions AS
SELECT person AS user_token, goal, min(at) AS first_at, max(at) AS last_at
FROM
(
    SELECT if(l.person_token = '', x.user_token, l.person_token) AS person, x.goal AS goal, x.at AS at
    FROM (SELECT user_token, goal, at FROM outcomes FINAL WHERE kind = 'goal_converted') AS x
    LEFT JOIN identity_links AS l ON x.user_token = l.merged_token
)
GROUP BY person, goal
COMMENT 'Every user and goal once: when the user first and last met it';

CREATE OR REPLACE VIEW exposures_first AS
SELECT
    experiment,
    person AS user_token,
    argMin(o.variant, (o.at, o.sequence)) AS variant,
    min(o.at) AS exposed_at,
    argMin(o.journey, (o.at, o.sequence)) AS journey,
    argMin(o.playbook, (o.at, o.sequence)) AS playbook,
    argMin(o.bucket, (o.at, o.sequence)) AS bucket,
    argMin(JSONExtract(o.details, 'segments', 'Array(String)'), (o.at, o.sequence)) AS segments,
    argMin(JSONExtract(o.details, 'levels', 'Map(String, String)'), (o.at, o.sequence)) AS levels,
    argMin(JSONExtractBool(o.details, 'counterfactual'), (o.at, o.sequence)) AS counterfactual,
    multiIf(uniqExact(o.variant) > 1, 'met_two_variants', argMin(JSONExtractBool(o.details, 'forced'), (o.at, o.sequence)), 'forced', '') AS excluded
FROM
(
    SELECT x.*, if(l.person_token = '', x.user_token, l.person_token) AS person
    FROM (SELECT experiment, user_token, variant, at, sequence, journey, playbook, bucket, details FROM outcomes FINAL WHERE kind = 'exposure_recorded' AND experiment != '') AS x
    LEFT JOIN identity_links AS l ON x.user_token = l.merged_token
) AS o
GROUP BY experiment, person
COMMENT 'The first exposure of every user to every experiment, with the segments the user was in at that moment; what somebody met before they became this user counts. excluded says why the user is in no arm; empty: the user counts';

CREATE OR REPLACE VIEW enrollments AS
SELECT
    enrollment_id,
    if(l.person_token = '', e.token, l.person_token) AS user_token,
    journey, journey_version, started_at, ended, ended_at, ended_reason, converted, converted_at
FROM
(
    SELECT
        enrollment_id,
        argMinIf(user_token, sequence, kind = 'enrollment_started') AS token,
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
) AS e
LEFT JOIN identity_links AS l ON e.token = l.merged_token
COMMENT 'Every enrollment once: when it began, whether and why it ended, whether its goal was met. Moments that have not come are 1970. One that somebody began before they became another user is that one''s';

CREATE OR REPLACE VIEW segment_sizes AS
SELECT m.segment AS segment, countIf(m.member) AS members, uniqExact(if(l.person_token = '', m.user_token, l.person_token)) AS ever
FROM segment_members AS m
LEFT JOIN identity_links AS l ON m.user_token = l.merged_token
GROUP BY m.segment
ORDER BY m.segment
COMMENT 'Per segment: users in it now, and users that ever were';

CREATE OR REPLACE VIEW segment_metrics AS
SELECT
    s.segment AS segment,
    count() AS members,
    sum(u.events) AS events,
    sum(u.events) / count() AS events_per_member,
    sum(u.active_days) / count() AS active_days_per_member,
    sum(u.sessions) / count() AS sessions_per_member,
    if(sum(u.sessions) = 0, 0, sum(u.session_seconds) / sum(u.sessions)) AS seconds_per_session,
    countIf(c.met = 1) AS converted,
    countIf(c.met = 1) / count() AS conversion_rate
FROM (SELECT segment, user_token FROM segment_members WHERE member) AS s
LEFT JOIN
(
    SELECT
        person, count() AS events, uniqExact(toDate(at)) AS active_days,
        arrayDifference(arraySort(groupArray(toUnixTimestamp64Milli(at)))) AS gaps,
        1 + arrayCount(g -> g >= 1800000, gaps) AS sessions,
        arraySum(g -> if(g < 1800000, g, 0), gaps) / 1000 AS session_seconds
    FROM
    (
        SELECT if(l.person_token = '', x.user_token, l.person_token) AS person, x.occurred_at AS at
        FROM (SELECT user_token, occurred_at FROM events FINAL) AS x
        LEFT JOIN identity_links AS l ON x.user_token = l.merged_token
    )
    GROUP BY person
) AS u ON s.user_token = u.person
LEFT JOIN (SELECT user_token, 1 AS met FROM conversions GROUP BY user_token) AS c ON s.user_token = c.user_token
GROUP BY segment
ORDER BY segment
COMMENT 'Per segment, of the users in it now: events, active days, sessions (a gap of 30 minutes ends one) and their length, and how many ever met a goal';

-- +goose Down
-- The views as they were are in 0004 to 0007; without the links they cannot be asked.
DROP VIEW IF EXISTS segment_metrics;
DROP VIEW IF EXISTS segment_sizes;
DROP VIEW IF EXISTS enrollments;
DROP VIEW IF EXISTS exposures_first;
DROP VIEW IF EXISTS conversions;
DROP VIEW IF EXISTS exposures;
DROP VIEW IF EXISTS user_events;
DROP VIEW IF EXISTS identity_links;
