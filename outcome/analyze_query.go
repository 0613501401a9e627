package outcome

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/segment"
)

// momentsAt says which aggregates make up moments.
type momentsAt struct {
	users          int
	sums, products []int
	decimals       []int
}

// moments adds the aggregates of columns, of the users who meet a condition; an empty one is met by all.
func (b *builder) moments(columns []valueColumn, condition string) momentsAt {
	sum := func(expression string) int {
		if condition == "" {
			return b.sum("sum(" + expression + ")")
		}
		return b.sum("sumIf(" + expression + ", " + condition + ")")
	}
	m := momentsAt{users: b.sum("count()")}
	if condition != "" {
		m.users = b.sum("countIf(" + condition + ")")
	}
	for i, x := range columns {
		m.sums, m.decimals = append(m.sums, sum(x.name)), append(m.decimals, x.decimals)
		for _, y := range columns[i:] {
			wide := "toInt128"
			if x.decimals+y.decimals > 0 {
				wide = "toInt256"
			}
			m.products = append(m.products, sum(fmt.Sprintf("%s(%s) * %s", wide, x.name, y.name)))
		}
	}
	return m
}

// traitColumns turns the traits that adjust effects into values of a user: the one that was known at the exposure, by order of
// record. Who had none has zero, and a one in a column that says so.
func (b *builder) traitColumns() {
	for _, trait := range b.covariates {
		b.user("known_"+trait, fmt.Sprintf("arraySort(c -> c.1, arrayFilter(c -> c.2 <= t0, c_%s))", trait))
		b.user("x_"+trait, fmt.Sprintf("if(empty(known_%s), toInt64(0), known_%[1]s[-1].3)", trait))
		b.user("unknown_"+trait, fmt.Sprintf("toUInt8(empty(known_%s))", trait))
	}
}

// eventsLayer gathers the events of a user. A row of events is looked at once, whatever the number of metrics.
func (b *builder) eventsLayer() string {
	var rows, gathered []string
	for _, p := range b.picks {
		if p.value == "" {
			rows = append(rows, fmt.Sprintf("%s AS %s_c", p.condition, p.name))
			gathered = append(gathered, fmt.Sprintf("groupArrayIf(ms, %s_c) AS %[1]s_t", p.name))
			continue
		}
		rows = append(rows, fmt.Sprintf("if(%s, %s, NULL) AS %s_n", p.condition, p.value, p.name),
			fmt.Sprintf("isNotNull(%s_n) AS %[1]s_c", p.name),
			fmt.Sprintf("ifNull(if(abs(%s_n) > %g, %s, toInt64(round(%[1]s_n * 1000000))), toInt64(0)) AS %[1]s_x", p.name, playbook.MaxMetricValue, outOfRange))
		gathered = append(gathered, fmt.Sprintf("groupArrayIf(ms, %s_c) AS %[1]s_t", p.name), fmt.Sprintf("groupArrayIf(%s_x, %[1]s_c) AS %[1]s_v", p.name))
	}
	for _, trait := range b.covariates {
		value, _ := segment.PropertySQL("traits", trait, b.plan.Traits[trait])
		rows = append(rows, fmt.Sprintf("if(traits = '', NULL, %s) AS n_%s", value, trait))
		gathered = append(gathered, fmt.Sprintf("groupArrayIf((sequence, ms, toInt64(round(toFloat64(assumeNotNull(n_%s)) * 1000000))), isNotNull(n_%[1]s) AND abs(n_%[1]s) <= %g) AS c_%[1]s",
			trait, playbook.MaxMetricValue))
	}
	where := fmt.Sprintf("toUnixTimestamp64Milli(occurred_at) <= %d", b.exposed.until)
	if !b.anyEvent {
		where += " AND " + b.named()
	}
	token, from := b.exposed.person("events")
	if !b.everyone && !b.exposed.linked {
		where += fmt.Sprintf(" AND user_token IN (SELECT user_token FROM outcomes WHERE kind = 'exposure_recorded' AND experiment = %s)", segment.QuoteSQL(b.exposed.key))
	}
	if !b.everyone && b.exposed.linked {
		where += " AND person IN (SELECT user_token FROM exposed)"
	}
	return fmt.Sprintf(`SELECT person AS user_token,
        %s
    FROM
    (
        SELECT %s AS person, sequence, toUnixTimestamp64Milli(occurred_at) AS ms,
            %s
        FROM %s
        WHERE %s
    )
    GROUP BY person`, list(gathered, "        "), token, list(rows, "            "), from, where)
}

// named keeps the events that some metric or trait asks for.
func (b *builder) named() string {
	var either []string
	if len(b.events) > 0 {
		either = append(either, "event_name IN ("+strings.Trim(quoteList(slices.Sorted(maps.Keys(b.events))), "[]")+")")
	}
	if len(b.covariates) > 0 {
		either = append(either, "traits != ''")
	}
	if len(either) == 0 {
		return "false"
	}
	return "(" + strings.Join(either, " OR ") + ")"
}

// layers are the common table expressions up to that of users.
func (b *builder) layers() string {
	columns := append([]string{"x.user_token AS user_token", "x.variant AS variant", "x.t0 AS t0", "x.segments AS segments"}, b.users...)
	if len(b.picks) == 0 && len(b.covariates) == 0 { // no metric: users alone
		return fmt.Sprintf("WITH exposed AS\n    (\n    %s\n    ),\nusers AS\n    (\n    SELECT %s\n    FROM exposed AS x\n    )",
			b.exposed.arms(b.variants), list(columns, "        "))
	}
	return fmt.Sprintf("WITH exposed AS\n    (\n    %s\n    ),\nevents_by_user AS\n    (\n    %s\n    ),\nusers AS\n    (\n    SELECT\n        %s\n    FROM events_by_user AS e RIGHT JOIN exposed AS x ON e.user_token = x.user_token\n    )",
		b.exposed.arms(b.variants), b.eventsLayer(), list(columns, "        "))
}

// query is the whole: a row per variant and segment with all aggregates as texts, since nothing else holds such integers.
func (b *builder) query() string {
	sums, gathered, samples := make([]string, len(b.sums)), make([]string, len(b.arrays)), "CAST([], 'Array(Array(Float64))')"
	for i, text := range b.sums {
		sums[i] = "toInt256(" + text + ")"
	}
	for i, text := range b.arrays {
		gathered[i] = fmt.Sprintf(",\n        %s AS q%d", text, i)
	}
	if len(b.arrays) > 0 {
		sorted := make([]string, len(b.arrays))
		for i := range b.arrays {
			sorted[i] = fmt.Sprintf("arraySort(groupArrayArrayIf(arrayMap(v -> toFloat64(v), q%d), segment = ''))", i)
		}
		samples = "[" + list(sorted, "     ") + "]"
	}
	return fmt.Sprintf(`%s,
cells AS
    (
    SELECT variant, segments,
        [%s] AS sums%s
    FROM users
    GROUP BY variant, segments
    )
SELECT toString(variant) AS variant, segment,
    arrayMap(x -> toString(x), sumForEach(sums)) AS totals,
    %s AS samples
FROM
    (
    SELECT *, arrayJoin(arrayConcat([''], arrayFilter((s, i) -> bitTest(segments, i - 1), %s, arrayEnumerate(%[5]s)))) AS segment
    FROM cells
    )
GROUP BY variant, segment
ORDER BY variant, segment`, b.layers(), list(sums, "         "), strings.Join(gathered, ""), samples, b.keys())
}

func (b *builder) keys() string {
	if len(b.exposed.segments) == 0 {
		return "CAST([], 'Array(String)')"
	}
	return quoteList(b.exposed.segments)
}

// perUser is the query of one row per user with the value of each metric, in natural units.
func (b *builder) perUser() string {
	columns := []string{
		"user_token", "variant", "fromUnixTimestamp64Milli(t0, 'UTC') AS exposed_at",
		fmt.Sprintf("arrayFilter((s, i) -> bitTest(segments, i - 1), %s, arrayEnumerate(%[1]s)) AS exposed_in", b.keys()),
	}
	seen := make(map[string]bool)
	natural := func(c valueColumn) {
		if seen[c.name] {
			return
		}
		seen[c.name] = true
		text := c.name
		if c.decimals > 0 {
			text = fmt.Sprintf("toFloat64(%s) / 1e%d", c.name, c.decimals)
		}
		columns = append(columns, text+" AS `"+c.label+"`")
	}
	for _, m := range b.metrics {
		for _, c := range slices.Concat(m.outcome, m.covariates) {
			natural(c)
		}
	}
	return b.layers() + "\nSELECT\n    " + list(columns, "    ") + "\nFROM users\nORDER BY user_token"
}
