-- +goose NO TRANSACTION
-- +goose Up

CREATE VIEW IF NOT EXISTS exposures_first AS
SELECT
    experiment,
    user_token,
    argMin(o.variant, (o.at, o.sequence)) AS variant,
    min(o.at) AS exposed_at,
    argMin(o.journey, (o.at, o.sequence)) AS journey,
    argMin(o.playbook, (o.at, o.sequence)) AS playbook,
    argMin(o.bucket, (o.at, o.sequence)) AS bucket,
    argMin(JSONExtract(o.details, 'segments', 'Array(String)'), (o.at, o.sequence)) AS segments,
    argMin(JSONExtract(o.details, 'levels', 'Map(String, String)'), (o.at, o.sequence)) AS levels,
    argMin(JSONExtractBool(o.details, 'counterfactual'), (o.at, o.sequence)) AS counterfactual,
    multiIf(uniqExact(o.variant) > 1, 'met_two_variants', argMin(JSONExtractBool(o.details, 'forced'), (o.at, o.sequence)), 'forced', '') AS excluded
FROM outcomes AS o FINAL
WHERE kind = 'exposure_recorded' AND experiment != ''
GROUP BY experiment, user_token
COMMENT 'The first exposure of every user to every experiment, with the segments the user was in at that moment. excluded says why the user is in no arm; empty: the user counts';

CREATE VIEW IF NOT EXISTS exposures_excluded AS
SELECT experiment, excluded AS reason, count() AS users, groupArraySorted(10)(user_token) AS sample
FROM exposures_first
WHERE excluded != ''
GROUP BY experiment, reason
ORDER BY experiment, reason
COMMENT 'Per experiment: users who are in no arm, why, and the first ten of them';

-- The hash is FNV-1a, 32 bits, as the GrowthBook specification has it: version 2 hashes seed and id, then the decimal digits of
-- that; version 1 hashes id and seed. Variant i has the buckets from the weights before it on, coverage times its own weight long.
CREATE VIEW IF NOT EXISTS assignment_check AS
WITH
    (text -> arrayFold((h, c) -> bitAnd(bitXor(h, c) * toUInt64(16777619), toUInt64(4294967295)),
        arrayMap(i -> toUInt64(reinterpretAsUInt8(substring(text, i, 1))), range(1, length(text) + 1)), toUInt64(2166136261))) AS fnv
SELECT
    experiment, user_token, at, variant, bucket, expected_bucket, expected_variant, seed, hash_version, place,
    multiIf(
        forced, 'forced',
        hash_version NOT IN (1, 2), 'not_recorded',
        abs(bucket - expected_bucket) > 1e-12, 'wrong_bucket',
        namespace != '' AND (place < namespace_range[1] OR place >= namespace_range[2]), 'wrong_namespace',
        empty(variants), 'order_not_recorded',
        expected_variant != variant, 'wrong_variant',
        'ok') AS verdict
FROM
(
    SELECT
        experiment, user_token, at, variant, bucket,
        JSONExtractString(details, 'seed') AS seed,
        JSONExtractInt(details, 'hash_version') AS hash_version,
        JSONExtractBool(details, 'forced') AS forced,
        JSONExtractFloat(details, 'coverage') AS coverage,
        JSONExtract(details, 'variants', 'Array(String)') AS variants,
        JSONExtract(details, 'weights', 'Map(String, Float64)') AS by_variant,
        arrayMap(v -> by_variant[v], variants) AS weights,
        if(hash_version = 1, (fnv(concat(user_token, seed)) % 1000) / 1000, (fnv(toString(fnv(concat(seed, user_token)))) % 10000) / 10000) AS expected_bucket,
        arrayMap(i -> if(i = 1, 0., arrayCumSum(weights)[i - 1]), arrayEnumerate(weights)) AS starts,
        arrayFirst((v, s, w) -> expected_bucket >= s AND expected_bucket < s + coverage * w, variants, starts, weights) AS expected_variant,
        JSONExtractString(details, 'namespace', 'name') AS namespace,
        JSONExtract(details, 'namespace', 'range', 'Array(Float64)') AS namespace_range,
        multiIf(
            namespace = '', 0.,
            JSONExtractInt(details, 'namespace', 'hash_version') = 1, (fnv(concat(user_token, '__', namespace)) % 1000) / 1000,
            (fnv(toString(fnv(concat(namespace, user_token)))) % 10000) / 10000) AS place
    FROM outcomes FINAL
    WHERE kind = 'exposure_recorded' AND experiment != ''
)
COMMENT 'Every exposure worked out again from the seed, weights, coverage and hash version on its row. verdict is ok, forced, wrong_bucket, wrong_variant, wrong_namespace, or not_recorded and order_not_recorded where the row does not say enough';

CREATE VIEW IF NOT EXISTS experiment_counts AS
SELECT e.experiment AS experiment, e.goal AS goal, e.variant AS variant, count() AS users, countIf(c.met = 1 AND c.last_at >= e.exposed_at) AS converted
FROM
(
    SELECT experiment, variant, user_token, exposed_at, arrayJoin(if(empty(goals), [''], goals)) AS goal
    FROM exposures_first CROSS JOIN (SELECT groupUniqArray(toString(goal)) AS goals FROM conversions) AS g
    WHERE excluded = ''
) AS e
LEFT JOIN (SELECT user_token, toString(goal) AS goal, last_at, 1 AS met FROM conversions) AS c ON e.user_token = c.user_token AND e.goal = c.goal
GROUP BY experiment, goal, variant
ORDER BY experiment, goal, variant
COMMENT 'Per experiment, goal and variant: the users who count, and those of them who met the goal at or after their exposure. experiment_arms counts those in two variants too';

-- The formulas of package experiment, at alpha 0.05 and N* 5000: the numbers are those of `onramp results` to nine digits. Where
-- an arm has fewer than 30 conversions, or fewer than 30 users who did not convert, the normal approximation carries nothing and
-- all is NULL: the exact answer is in onramp results.
CREATE VIEW IF NOT EXISTS experiment_results AS
WITH
    0.05 AS alpha,
    1.959963984540054 AS z,
    (-2 * log(alpha) + log(1 - 2 * log(alpha))) / 5000 AS rho2
SELECT
    experiment, goal, control, treatment, control_users, control_converted, treatment_users, treatment_converted,
    if(control_users = 0, NULL, control_converted / control_users) AS control_rate,
    if(treatment_users = 0, NULL, treatment_converted / treatment_users) AS treatment_rate,
    multiIf(
        control_users = 0 OR treatment_users = 0, 'empty_arm',
        least(control_converted, control_users - control_converted, treatment_converted, treatment_users - treatment_converted) < 30, 'few_conversions',
        'ok') AS state,
    if(state = 'ok', treatment_rate - control_rate, NULL) AS difference,
    sqrt(control_rate * (1 - control_rate) / control_users + treatment_rate * (1 - treatment_rate) / treatment_users) AS se,
    (control_users + treatment_users) * rho2 AS x,
    greatest(sqrt(2 * (x + 1) / x * (log(x + 1) / 2 - log(alpha))), z) AS reach,
    difference - reach * se AS difference_low,
    difference + reach * se AS difference_high,
    difference - z * se AS difference_fixed_low,
    difference + z * se AS difference_fixed_high,
    erfc(abs(difference / se) / sqrt(2)) AS fixed_p_value,
    if(state = 'ok', greatest(least(1, sqrt(x + 1) * exp(-pow(difference / se, 2) / 2 * x / (x + 1))), fixed_p_value), NULL) AS p_value,
    if(state = 'ok' AND control_rate > z * sqrt(control_rate * (1 - control_rate) / control_users), difference / control_rate, NULL) AS lift,
    sqrt(treatment_rate * (1 - treatment_rate) / treatment_users + pow(treatment_rate / control_rate, 2) * control_rate * (1 - control_rate) / control_users) / control_rate AS lift_se,
    lift - reach * lift_se AS lift_low,
    lift + reach * lift_se AS lift_high,
    lift - z * lift_se AS lift_fixed_low,
    lift + z * lift_se AS lift_fixed_high
FROM
(
    SELECT
        a.experiment AS experiment, a.goal AS goal, c.control.1 AS control, a.variant AS treatment,
        toInt64(c.control.2) AS control_users, toInt64(c.control.3) AS control_converted, toInt64(a.users) AS treatment_users, toInt64(a.converted) AS treatment_converted
    FROM experiment_counts AS a
    INNER JOIN
    (
        SELECT k.experiment AS experiment, k.goal AS goal, argMin((k.variant, k.users, k.converted), (k.variant NOT IN ('control', 'held_out'), k.variant)) AS control
        FROM experiment_counts AS k
        GROUP BY experiment, goal
    ) AS c ON a.experiment = c.experiment AND a.goal = c.goal
    WHERE a.variant != c.control.1
)
ORDER BY experiment, goal, treatment
COMMENT 'Per experiment, goal and treatment: rates, difference and lift against control, with the always-valid interval (low, high), which may be looked at every day, and that for one planned look (fixed). What state does not let be read is NULL. Metrics of the playbook are in analysis_snapshots';

CREATE VIEW IF NOT EXISTS segment_metrics AS
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
        user_token, count() AS events, uniqExact(toDate(occurred_at)) AS active_days,
        arrayDifference(arraySort(groupArray(toUnixTimestamp64Milli(occurred_at)))) AS gaps,
        1 + arrayCount(g -> g >= 1800000, gaps) AS sessions,
        arraySum(g -> if(g < 1800000, g, 0), gaps) / 1000 AS session_seconds
    FROM events FINAL
    GROUP BY user_token
) AS u ON s.user_token = u.user_token
LEFT JOIN (SELECT user_token, 1 AS met FROM conversions GROUP BY user_token) AS c ON s.user_token = c.user_token
GROUP BY segment
ORDER BY segment
COMMENT 'Per segment, of the users in it now: events, active days, sessions (a gap of 30 minutes ends one) and their length, and how many ever met a goal';

CREATE VIEW IF NOT EXISTS actions_daily AS
SELECT
    toDate(begun_at) AS day,
    action,
    countIf(a.decided) AS decided,
    countIf(a.delivered) AS delivered,
    countIf(a.failed) AS failed,
    countIf(a.suppressed) AS suppressed,
    sumMap(if(a.suppressed, map(toString(a.reason), toUInt64(1)), CAST(map(), 'Map(String, UInt64)'))) AS suppressed_by_reason
FROM actions AS a
GROUP BY day, action
ORDER BY day, action
COMMENT 'Per day (UTC, of the decision) and action: how many were decided, delivered, failed and suppressed, and why they were suppressed';

CREATE TABLE IF NOT EXISTS analysis_snapshots
(
    analysis_id  String COMMENT 'Derived from the content: the same reading is the same row',
    experiment   LowCardinality(String) COMMENT 'Key of the experiment',
    at           DateTime64(3, 'UTC') COMMENT 'What happened up to this moment was counted',
    since        DateTime64(3, 'UTC') COMMENT 'Users exposed before were left out; 1970: none were',
    published_at DateTime64(3, 'UTC') DEFAULT now64(3) COMMENT 'When the reading was published',
    playbook     LowCardinality(String) COMMENT 'Content hash of the playbook whose metrics these are',
    state        LowCardinality(String) COMMENT 'ok where there is something to read',
    verdict      LowCardinality(String) COMMENT 'winner, loser, keep_running, no_difference, stop, distrust or nothing_to_read',
    headline     String COMMENT 'The verdict in one sentence',
    settings     String COMMENT 'JSON: arms, metrics, alpha, N*, correction, segments and covariates, as decided before the data',
    queries      Map(String, String) COMMENT 'Every query that was asked, by name, as it can be asked again',
    moments      String COMMENT 'JSON: the sums of every metric and arm, from which all figures follow',
    results      String COMMENT 'JSON: the whole reading',
    version      UInt64 MATERIALIZED bitNot(toUnixTimestamp64Milli(published_at)) COMMENT 'Greatest for the earliest row, so that the first publication of a reading wins'
)
ENGINE = ReplacingMergeTree(version)
ORDER BY (experiment, analysis_id)
SETTINGS non_replicated_deduplication_window = 10000
COMMENT 'Every published reading of an experiment: settings, queries, sums and results. Read analysis_snapshots_unique';

CREATE VIEW IF NOT EXISTS analysis_snapshots_unique AS
SELECT analysis_id, experiment, at, since, published_at, playbook, state, verdict, headline, settings, queries, moments, results
FROM analysis_snapshots FINAL
COMMENT 'Every published reading once';

CREATE VIEW IF NOT EXISTS analysis_results AS
SELECT
    experiment, at, published_at, verdict,
    JSONExtractString(m, 'key') AS metric,
    JSONExtractString(m, 'definition') AS definition,
    JSONExtractString(m, 'role') AS role,
    JSONExtractString(e, 'treatment') AS treatment,
    JSONExtractString(e, 'state') AS state,
    JSONExtractFloat(e, 'absolute', 'value') AS difference,
    JSONExtractFloat(e, 'absolute', 'anytime', 'low') AS difference_low,
    JSONExtractFloat(e, 'absolute', 'anytime', 'high') AS difference_high,
    JSONExtractFloat(e, 'relative', 'value') AS lift,
    JSONExtractFloat(e, 'relative', 'anytime', 'low') AS lift_low,
    JSONExtractFloat(e, 'relative', 'anytime', 'high') AS lift_high,
    JSONExtractFloat(e, 'relative', 'fixed', 'low') AS lift_fixed_low,
    JSONExtractFloat(e, 'relative', 'fixed', 'high') AS lift_fixed_high,
    JSONExtractFloat(e, 'adjusted_p') AS adjusted_p,
    JSONExtractString(e, 'verdict') AS effect_verdict,
    JSONExtractString(e, 'sentence') AS sentence
FROM
(
    SELECT experiment, at, published_at, verdict, arrayJoin(JSONExtractArrayRaw(results, 'metrics')) AS m
    FROM (SELECT * FROM analysis_snapshots_unique ORDER BY at DESC, published_at DESC LIMIT 1 BY experiment)
)
ARRAY JOIN JSONExtractArrayRaw(m, 'effects') AS e
ORDER BY experiment, metric, treatment
COMMENT 'The newest published reading of every experiment, a row per metric and treatment: what a dashboard shows';

-- +goose Down
DROP VIEW IF EXISTS analysis_results;
DROP VIEW IF EXISTS analysis_snapshots_unique;
DROP TABLE IF EXISTS analysis_snapshots;
DROP VIEW IF EXISTS actions_daily;
DROP VIEW IF EXISTS segment_metrics;
DROP VIEW IF EXISTS experiment_results;
DROP VIEW IF EXISTS experiment_counts;
DROP VIEW IF EXISTS assignment_check;
DROP VIEW IF EXISTS exposures_excluded;
DROP VIEW IF EXISTS exposures_first;
