-- +goose NO TRANSACTION
-- +goose Up

CREATE VIEW IF NOT EXISTS exposures AS
SELECT
    experiment,
    user_token,
    argMin(o.variant, (o.at, o.sequence)) AS variant,
    min(o.at) AS exposed_at,
    argMin(o.journey, (o.at, o.sequence)) AS journey,
    argMin(o.bucket, (o.at, o.sequence)) AS bucket,
    uniqExact(o.variant) > 1 AS mixed
FROM outcomes AS o FINAL
WHERE kind = 'exposure_recorded' AND experiment != ''
GROUP BY experiment, user_token
COMMENT 'The first exposure of every user to every experiment: first wins. mixed flags users that met more than one variant';

CREATE VIEW IF NOT EXISTS conversions AS
SELECT user_token, goal, min(at) AS first_at, max(at) AS last_at
FROM outcomes FINAL
WHERE kind = 'goal_converted'
GROUP BY user_token, goal
COMMENT 'Every user and goal once: when the user first and last met it';

-- A goal met before the exposure is not a conversion of the variant; met again after it, it is.
CREATE VIEW IF NOT EXISTS experiment_arms AS
SELECT
    e.experiment AS experiment,
    e.variant AS variant,
    e.goal AS goal,
    count() AS users,
    countIf(c.met = 1 AND c.last_at >= e.exposed_at) AS converted,
    countIf(e.mixed) AS mixed
FROM
(
    SELECT experiment, variant, user_token, exposed_at, mixed, arrayJoin(if(empty(goals), [''], goals)) AS goal
    FROM exposures CROSS JOIN (SELECT groupUniqArray(toString(goal)) AS goals FROM conversions) AS g
) AS e
LEFT JOIN (SELECT user_token, toString(goal) AS goal, last_at, 1 AS met FROM conversions) AS c
    ON e.user_token = c.user_token AND e.goal = c.goal
GROUP BY experiment, variant, goal
ORDER BY experiment, goal, variant
COMMENT 'Per experiment, goal and variant: users exposed, and those of them that met the goal at or after their exposure. goal is empty while nobody has met any';

-- +goose Down
DROP VIEW IF EXISTS experiment_arms;
DROP VIEW IF EXISTS conversions;
DROP VIEW IF EXISTS exposures;
