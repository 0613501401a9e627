package outcome

import (
	"fmt"
	"strings"

	"github.com/onramphq/onramp/segment"
)

// exposedSQL writes the queries that read exposures. The first exposure of a user wins: variant, moment and segments are those
// of it.
type exposedSQL struct {
	key          string
	since, until int64
	segments     []string
	linked       bool // there are users who became one with others: each row is looked up by who that is
}

// person is who a row is of, and the table to read it from: of somebody who became another the other.
func (x exposedSQL) person(table string) (token, from string) {
	if !x.linked {
		return "user_token", table + " FINAL"
	}
	return "if(l.person_token = '', r.user_token, l.person_token)", table + " AS r FINAL LEFT JOIN identity_links AS l ON r.user_token = l.merged_token"
}

// rows is a subquery with one row for each user who met the experiment.
func (x exposedSQL) rows() string {
	token, from := x.person("outcomes")
	return fmt.Sprintf(`SELECT
        person AS user_token,
        argMin(v, moment) AS variant,
        toUnixTimestamp64Milli(min(moment.1)) AS t0,
        argMin(mask, moment) AS segments,
        argMin(setting, moment) AS settings,
        argMin(early_row, moment) AS early,
        argMin(share, moment) AS coverage,
        argMin(is_forced, moment) AS forced,
        min(v) != max(v) AS mixed,
        min(setting) != max(setting) AS moved
    FROM
    (
        SELECT
            %s AS person, variant AS v, (at, sequence) AS moment, JSONExtractBool(details, 'forced') AS is_forced,
            toUnixTimestamp64Milli(recorded_at) + 1000 < toUnixTimestamp64Milli(at) AS early_row, JSONExtractFloat(details, 'coverage') AS share,
            (JSONExtractString(details, 'seed'), JSONExtractInt(details, 'hash_version'), JSONExtractRaw(details, 'weights')) AS setting,
            %s AS mask
        FROM %s
        WHERE kind = 'exposure_recorded' AND experiment = %s AND toUnixTimestamp64Milli(at) <= %d
    )
    GROUP BY person
    HAVING t0 >= %d`, token, x.mask(), from, segment.QuoteSQL(x.key), x.until, x.since)
}

// mask has one bit for each segment that the user was in at the exposure.
func (x exposedSQL) mask() string {
	if len(x.segments) == 0 {
		return "toUInt64(0)"
	}
	return fmt.Sprintf("arraySum(s -> if(has(%[1]s, s), bitShiftLeft(toUInt64(1), toUInt8(indexOf(%[1]s, s) - 1)), toUInt64(0)), JSONExtract(details, 'segments', 'Array(String)'))",
		quoteList(x.segments))
}

// quoteList writes texts as an array of ClickHouse.
func quoteList(list []string) string {
	quoted := make([]string, len(list))
	for i, text := range list {
		quoted[i] = segment.QuoteSQL(text)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// arms is rows without the users who are in no arm.
func (x exposedSQL) arms(variants []string) string {
	return fmt.Sprintf("SELECT user_token, variant, t0, segments FROM\n    (\n    %s\n    )\n    WHERE NOT mixed AND NOT forced AND has(%s, variant)",
		x.rows(), quoteList(variants))
}

// phases lists the settings under which users came in.
func (x exposedSQL) phases() string {
	return fmt.Sprintf(`SELECT settings.1 AS seed, settings.2 AS hash_version, max(coverage) AS coverage, settings.3 AS weights,
    min(t0) AS since, max(t0) AS until, toInt64(count()) AS users, toInt64(countIf(early)) AS early
FROM
    (
    %s
    )
WHERE NOT mixed AND NOT forced
GROUP BY settings
ORDER BY since, settings`, x.rows())
}

// exclusions lists the reasons for which users are in no arm. The sample is of the smallest tokens, so that it is the same each
// time.
func (x exposedSQL) exclusions(variants []string) string {
	return fmt.Sprintf(`SELECT multiIf(mixed AND moved, 'met_two_settings', mixed, 'met_two_variants', forced, 'forced', 'unknown_variant') AS reason,
    count() AS users, groupArraySorted(10)(user_token) AS sample
FROM
    (
    %s
    )
WHERE mixed OR forced OR NOT has(%s, variant)
GROUP BY reason
ORDER BY reason`, x.rows(), quoteList(variants))
}
