package playbook_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/playbook"
)

func bundle(files ...string) playbook.Bundle {
	b := playbook.Bundle{Scale: 1, Files: make(map[string]string)}
	for i, text := range files {
		b.Files[fmt.Sprintf("%c.yaml", 'a'+i)] = text
	}
	return b
}

func compile(tb testing.TB, files ...string) *playbook.Playbook {
	tb.Helper()
	p, err := playbook.Compile(bundle(files...))
	require.NoError(tb, err)
	return p
}

func example(tb testing.TB, name string) string {
	tb.Helper()
	raw, err := os.ReadFile(filepath.Join("..", "examples", name, "playbook.yaml"))
	require.NoError(tb, err)
	return string(raw)
}

func TestExamplesCompile(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"saas-onboarding", "app-onboarding", "everything"} {
		p := compile(t, example(t, name))
		require.Equal(t, name, p.Name)
		require.NotEmpty(t, p.Journeys)
	}
	p := compile(t, example(t, "saas-onboarding"))
	keys := make([]string, len(p.Journeys))
	for i, j := range p.Journeys {
		keys[i] = j.Key
		require.Same(t, j, p.Journey(j.Key))
	}
	require.Equal(t, []string{"retention", "onboarding", "comeback"}, keys) // by priority
	require.Nil(t, p.Journey("nope"))
	require.Equal(t, []playbook.Limit{{Actions: 4, Per: 7 * 24 * time.Hour}}, p.Limits)
	require.True(t, p.Actions["send_congratulations"].Uncapped)
	require.Equal(t, "marketing", p.Actions["retention_offer"].Category)
	require.NotNil(t, p.Consent["marketing"])
	require.Equal(t, playbook.ReenterAfterExit, p.Journey("comeback").Reentry)
	require.Equal(t, playbook.ReenterNever, p.Journey("onboarding").Reentry)
	require.Equal(t, []playbook.Exit{{Events: []string{"account_closed"}, Reason: "account_closed"}}, p.Journey("onboarding").Exits)
}

// head begins most cases: two events.
const head = "name: x\nevents:\n  a: {}\n  b: {properties: {p: string}}\n"

// journey wraps steps, given at an indentation of 6, into a journey.
func journey(steps string) string {
	return "journeys:\n  j:\n    enter: {on: a}\n    steps:\n" + steps
}

// marked takes the marks § out of text and returns where they stood as line:column, in characters.
func marked(text string) (clean string, places []string) {
	var b strings.Builder
	line, column := 1, 1
	for _, r := range text {
		switch r {
		case '§':
			places = append(places, fmt.Sprintf("%d:%d", line, column))
			continue
		case '\n':
			line, column = line+1, 0
		}
		column++
		b.WriteRune(r)
	}
	return b.String(), places
}

// placesOf lists where problems lie as line:column.
func placesOf(problems playbook.Problems) []string {
	places := make([]string, len(problems))
	for i, p := range problems {
		places[i] = fmt.Sprintf("%d:%d", p.Line, p.Column)
	}
	return places
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	const actions, traits = "actions: {send: {}}\n", "traits: {industry: string}\n"
	cases := []struct {
		name, text string
		hints      []string // one for each mark, in order
	}{
		{"no name, no events", "§§{}\n", []string{"the playbook has no name", "the playbook has no events"}},
		{"not a mapping", "§- a\n", []string{"a playbook file must be a mapping of keys to values"}},
		{"not YAML", "name: x\n§events: {a: {}\ntraits: 5\n", []string{"is not YAML: did not find expected ',' or '}'"}},
		{"not YAML: tab", "name: x\nevents:\n§\ta: {}\n", []string{"cannot start any token"}},
		{"not YAML: colon", "name: x\n§events: a: b\n", []string{"mapping values are not allowed"}},
		{"not YAML: on the first line", "§name: [x\n", []string{"did not find expected"}},
		{"two documents", head + "§---\nname: y\n", []string{"one YAML document a file"}},

		{"unknown key: playbook", head + "§jurneys: {}\n", []string{"a playbook has: name, events"}},
		{"unknown key: event", "name: x\nevents:\n  a: {§props: {}}\n", []string{"known are: description, properties"}},
		{"unknown key: segment", head + "segments:\n  s: {when: did(\"a\"), §wen: x}\n", []string{"known are: description, when"}},
		{"unknown key: experiment", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, §weight: 1}\n", []string{"known are: description, variants, coverage"}},
		{"unknown key: limit", head + "limit: {actions: 1, per: 1d, §each: 1}\n", []string{"known are: actions, per"}},
		{"unknown key: action", head + "actions:\n  send: {§url: x}\n", []string{"known are: description, deliver"}},
		{"unknown key: journey", head + "journeys:\n  j: {enter: {on: a}, steps: [], §setps: []}\n", []string{"known are: description, priority, paused, enter"}},
		{"unknown key: enter", head + "journeys:\n  j: {enter: {on: a, §of: b}, steps: []}\n", []string{"known are: on, where, segment, left, when, per"}},
		{"unknown key: goal", head + "journeys:\n  j: {enter: {on: a}, goal: {on: a, within: 1d, §by: b}, steps: []}\n", []string{"known are: on, where, within"}},
		{"unknown key: exit", head + "journeys:\n  j: {enter: {on: a}, exit: [{on: a, §why: b}], steps: []}\n", []string{"known are: on, where, left, entered, when, reason"}},
		{"unknown key: step", head + journey("      - {delay: 1d, §reason: x}\n"), []string{"a step of kind delay; known are: id, delay"}},
		{"unknown key: wait", head + journey("      - wait: {on: a, up_to: 1d, §til: x}\n"), []string{"known are: on, where, when, up_to, timeout"}},
		{"unknown key: branch", head + journey("      - branch: [{when: did(\"a\"), §then: []}]\n"), []string{"known are: when, segment, steps, else"}},
		{"a step of two kinds", head + journey("      - {delay: 1d, §exit: done}\n"), []string{"a step of kind delay"}},

		{"duplicate key: playbook", head + "§name: y\n", []string{"name stands twice"}},
		{"duplicate key: event", head + "  §a: {}\n", []string{"a stands twice in events"}},
		{"duplicate key: trait", head + "traits:\n  t: string\n  §t: int\n", []string{"t stands twice in traits"}},
		{"duplicate key: step", head + journey("      - {delay: 1d, §delay: 2d}\n"), []string{"delay stands twice"}},
		{"alias", head + "traits:\n  t: §&kind string\n  u: §*kind\n", []string{"write the value out", "write the value out"}},
		{"alias in a list", head + journey("      - wait: {on: [§&e a, §*e], up_to: 1d}\n"), []string{"write the value out", "write the value out"}},
		{"alias in with", head + actions + journey("      - {action: send, with: {x: §&v 1, y: §*v}}\n"), []string{"write the value out", "write the value out"}},
		{"merge key", head + "actions:\n  send: §&d {uncapped: true}\n  other: {§<<: §*d}\n", []string{"anchors", "merge keys", "aliases"}},
		{"a key that is none", head + "traits:\n  §[t]: string\n", []string{"must be a text"}},

		{"wrong type: name", "name: §[x]\nevents: {a: {}}\n", []string{"name must be a text"}},
		{"wrong type: empty name", "name:§\nevents: {a: {}}\n", []string{"name must be a text"}},
		{"wrong type: events", "name: x\nevents: §[a]\n", []string{"events must be a mapping"}},
		{"wrong type: trait", head + "traits: {t: §text}\n", []string{"the types are: string, int"}},
		{"wrong type: priority", head + "journeys:\n  j: {enter: {on: a}, priority: §high, steps: []}\n", []string{"whole number from -1000 to 1000"}},
		{"wrong type: uncapped", head + "actions: {send: {uncapped: §often}}\n", []string{"must be true or false"}},
		{"wrong type: steps", head + "journeys:\n  j: {enter: {on: a}, steps: §{}}\n", []string{"steps must be a list"}},
		{"wrong type: step", head + journey("      - §delay\n"), []string{"a step must be a mapping"}},
		{"wrong type: with", head + actions + journey("      - {action: send, with: §[1]}\n"), []string{"must be a mapping of names to values"}},
		{"with that JSON has not", head + actions + journey("      - {action: send, with: §{x: .nan}}\n      - {action: send, with: §{x: {1: a}}}\n"), []string{"values that JSON has", "values that JSON has"}},
		{"wrong type: exit", head + "journeys:\n  j: {enter: {on: a}, exit: §{on: a}, steps: []}\n", []string{"exit must be a list"}},
		{"wrong type: branch", head + journey("      - branch: §{when: did(\"a\")}\n"), []string{"branch must be a list"}},
		{"bad name", head + "segments:\n  §Big-One: {when: did(\"a\")}\n", []string{"hold only a-z, 0-9 and _"}},

		{"undeclared event: enter", head + "journeys:\n  j: {enter: {on: §c}, steps: []}\n", []string{"add it under events"}},
		{"undeclared event: one of a list", head + journey("      - wait: {on: [a, §c, b], up_to: 1d}\n"), []string{"add it under events"}},
		{"undeclared event: goal", head + "journeys:\n  j: {enter: {on: a}, goal: {on: §c, within: 1d}, steps: []}\n", []string{"add it under events"}},
		{"undeclared event: rule", head + "segments: {s: {when: did(§\"c\")}}\n", []string{"declared are: a, b"}},
		{"undeclared trait: rule", head + traits + "segments: {s: {when: §traits.age > 3}}\n", []string{"undeclared reference to 'traits'"}},
		{"undeclared trait: with", head + actions + traits + journey("      - {action: send, with: {x: §\"${traits.age}\"}}\n      - {action: send, with: {x: [{y: §\"${traits.age}\"}]}}\n"), []string{"not a declared trait", "not a declared trait"}},
		{"undeclared segment: enter", head + "journeys:\n  j: {enter: {segment: §s}, steps: []}\n", []string{"segment \"s\" is not defined"}},
		{"undeclared segment: rule", head + journey("      - wait: {when: 'in_segment(§\"s\")', up_to: 1d}\n"), []string{"segment \"s\", which is not defined"}},
		{"undeclared segment: segment", head + "segments:\n  r: {when: 'in_segment(§\"s\")'}\n", []string{"asks about \"s\", which is not defined"}},
		{"undeclared segment: consent", head + "consent: {mail: 'in_segment(§\"s\")'}\n", []string{"segment \"s\", which is not defined"}},
		{"undeclared action", head + journey("      - action: §send\n"), []string{"add it under actions"}},
		{"undeclared experiment", head + journey("      - {experiment: §e, variants: {}}\n"), []string{"experiment \"e\" is not defined"}},
		{"unknown consent category", head + "actions: {send: {category: §mail}}\n", []string{"no rule under consent"}},
		{"bad receiver", head + "actions: {send: {deliver: §smtp}}\n", []string{"webhook:NAME"}},

		{"cycle of segments", head + "segments:\n  r: {when: 'in_segment(§\"s\")'}\n  s: {when: 'in_segment(§\"r\")'}\n", []string{"r → s → r", "r → s → r"}},
		{"weights", head + "experiments:\n  e: {variants: §{c: 0.5, d: 0.4}}\n", []string{"must sum to 1"}},
		{"weight that is none", head + "experiments:\n  e: {variants: {c: 1, d: §much}}\n", []string{"must be a number"}},
		{"coverage of nobody", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, coverage: §0}\n", []string{"number in (0, 1]"}},
		{"experiment without variants", head + "experiments:\n  §e: {}\n", []string{"needs variants"}},
		{"missing variant steps", head + "experiments: {e: {variants: {c: 0.5, d: 0.5}}}\n" + journey("      - {experiment: e, variants: §{c: []}}\n"), []string{"variant d of experiment e has no steps"}},
		{"one variant too many", head + "experiments: {e: {variants: {c: 0.5, d: 0.5}}}\n" + journey("      - {experiment: e, variants: {c: [], d: [], §f: []}}\n"), []string{"the variants c, d and no others"}},
		{"step without variants", head + "experiments: {e: {variants: {c: 0.5, d: 0.5}}}\n" + journey("      - experiment: §e\n"), []string{"needs variants"}},
		{"step without kind", head + journey("      - §id: x\n"), []string{"a step is one of: action, branch"}},
		{"two steps with one id", head + journey("      - {id: x, delay: 1d}\n      - wait: {on: a, up_to: 1d, timeout: [{id: §x, delay: 1d}]}\n"), []string{"id x stands already"}},
		{"bad duration", head + journey("      - delay: §3 days\n      - delay: §900d\n      - delay: §5\n      - delay: §1ms\n"), []string{"3d, 36h or 90m", "730d", "3d, 36h or 90m", "1s"}},
		{"bad duration in a rule", head + "segments: {s: {when: inactive_for(§\"3 days\")}}\n", []string{"3d, 36h or 90m"}},
		{"limit of nothing", head + "limit: §{per: 1d}\n", []string{"{actions: 3, per: 7d}"}},
		{"else not last", head + journey("      - branch:\n          - §else: []\n          - when: did(\"a\")\n"), []string{"else stands alone and last"}},
		{"else not alone", head + journey("      - branch:\n          - §else: []\n            when: did(\"a\")\n"), []string{"else stands alone and last"}},
		{"branch without condition", head + journey("      - branch:\n          - §steps: []\n"), []string{"either when or segment"}},
		{"wait for nothing", head + journey("      - wait: §{up_to: 1d}\n"), []string{"on: event or when: rule"}},
		{"wait for ever", head + journey("      - wait: §{on: a}\n"), []string{"up_to: how long at most"}},
		{"enter by nothing", head + "journeys:\n  j: {enter: §{}, steps: []}\n", []string{"one of on: event, segment: key or left: key"}},
		{"journey without anything", head + "journeys:\n  §§j: {}\n", []string{"needs enter", "has no steps"}},
		{"exit for nothing", head + "journeys:\n  j: {enter: {on: a}, exit: [§{reason: x}], steps: []}\n", []string{"an exit needs on, left, entered or when"}},
		{"goal without end", head + "journeys:\n  j: {enter: {on: a}, goal: §{on: a}, steps: []}\n", []string{"{on: activated, within: 14d}"}},
		{"reentry", head + "journeys:\n  j: {enter: {on: a}, reentry: §always, steps: []}\n", []string{"reentry must be never, after_exit, or {after: 30d}"}},
		{"reentry without a time", head + "journeys:\n  j: {enter: {on: a}, reentry: §{}, steps: []}\n", []string{"{after: 30d}"}},
		{"two ways in", head + "segments: {s: {when: did(\"a\")}}\njourneys:\n  j: {enter: §{on: a, left: s}, steps: []}\n", []string{"one of on: event"}},
		{"where without an event", head + "segments: {s: {when: did(\"a\")}}\njourneys:\n  j: {enter: {segment: s, where: §e.p == \"x\"}, steps: []}\n", []string{"needs on: event beside it"}},
		{"where on what is not declared", head + "journeys:\n  j: {enter: {on: b, where: '§e.q == \"x\"'}, steps: []}\n", []string{"e.q"}},
		{"same of a journey that a segment opens", head + "segments: {s: {when: did(\"a\")}}\njourneys:\n  j: {enter: {segment: s}, steps: [{wait: {on: b, where: 'e.p == §same.p', up_to: 1d}}]}\n", []string{"same"}},
		{"per what is not declared", head + "journeys:\n  j: {enter: {on: a, per: §p}, steps: []}\n", []string{"event a declares no property \"p\""}},
		{"with of the entry event that it does not have", head + actions + "journeys:\n  j: {enter: {on: a}, steps: [{action: send, with: {x: §\"${same.p}\"}}]}\n", []string{"event a declares no property \"p\""}},
		{"delay to no time", head + journey("      - delay: §{}\n      - delay: {at: §9h}\n      - delay: {on: [mon, §monday]}\n"), []string{"has for, at or on", "such as 09:30", "mon, tue, wed"}},
		{"quiet", head + "quiet: §{from: \"21:00\"}\n", []string{"needs from and to"}},
		{"quiet all day", head + "quiet: §{from: \"21:00\", to: \"21:00\"}\n", []string{"no time at all"}},
		{"quiet of an action", head + "actions: {send: {quiet: §never}}\n", []string{"hold, drop or ignore"}},
		{"holdout of all", head + "holdout: {share: §1}\n", []string{"between 0 and 1"}},
		{"experiment named like the holdout", head + "experiments:\n  §holdout: {variants: {c: 0.5, d: 0.5}}\n", []string{"goes by that name"}},
		{"experiment that holds out nobody", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, holdout: §f}\n", []string{"no variant \"f\""}},
		{"limit on no category", head + "limit: [{actions: 1, per: day, category: §mail}]\n", []string{"no rule under consent"}},
		{"migrate", head + "journeys:\n  j: {enter: {on: a}, migrate: §go, steps: []}\n", []string{"stay, exit, move"}},
		{"move to nowhere", head + "journeys:\n  j: {enter: {on: a}, migrate: {move: {old: §new}}, steps: []}\n", []string{"no step \"new\""}},
		{"metric without kind", head + "metrics:\n  §m: {event: a}\n", []string{"needs a kind"}},
		{"metric of no kind", head + "metrics:\n  m: {kind: §total, event: a}\n", []string{"the kinds are: proportion, mean"}},
		{"metric of another kind's key", head + "metrics:\n  m: {kind: proportion, event: a, within: 1d, §cap: 5}\n", []string{"unknown key \"cap\" in a metric of kind proportion"}},
		{"metric without event", head + "metrics:\n  §m: {kind: proportion, within: 1d}\n", []string{"needs an event"}},
		{"metric without end", head + "metrics:\n  §m: {kind: mean, event: a}\n", []string{"needs within"}},
		{"metric on no event", head + "metrics:\n  m: {kind: mean, event: §c, within: 1d}\n", []string{"not declared"}},
		{"metric of no property", head + "metrics:\n  m: {kind: mean, event: b, value: §q, within: 1d}\n", []string{"no property \"q\""}},
		{"metric of a text", head + "metrics:\n  m: {kind: mean, event: b, value: §p, within: 1d}\n", []string{"p of b is a string"}},
		{"metric where without property", head + "metrics:\n  m: {kind: mean, event: b, where: '§e.q == \"x\"', within: 1d}\n", []string{"declared properties of b are: p"}},
		{"metric where that SQL lacks", head + "metrics:\n  m: {kind: mean, event: b, where: 'e.p == string§(5)', within: 1d}\n", []string{"cannot use string"}},
		{"ratio of one", head + "metrics:\n  §m: {kind: ratio, numerator: {event: a}, within: 1d}\n", []string{"needs a numerator and a denominator"}},
		{"ratio of sessions and more", head + "metrics:\n  m: {kind: ratio, numerator: {event: a}, sessions: §30m, within: 1d}\n", []string{"value of their own"}},
		{"retention that ends before it begins", head + "metrics:\n  m: {kind: retention, event: a, from: 2d, to: §1d}\n", []string{"must come after from"}},
		{"retention without end", head + "metrics:\n  §m: {kind: retention, event: a, from: 2d}\n", []string{"needs from and to"}},
		{"funnel of one", head + "metrics:\n  §m: {kind: funnel, steps: [a], within: 1d}\n", []string{"2 to 20 events"}},
		{"funnel of nothing", head + "metrics:\n  m: {kind: funnel, steps: [a, §{}], within: 1d}\n", []string{"a step is an event"}},
		{"quantile of none", head + "metrics:\n  §m: {kind: quantile, event: a, within: 1d}\n", []string{"needs q"}},
		{"quantile of all", head + "metrics:\n  m: {kind: quantile, event: a, q: §1, within: 1d}\n", []string{"between 0 and 1"}},
		{"cap of nothing", head + "metrics:\n  m: {kind: mean, event: a, cap: §0, within: 1d}\n", []string{"number above 0"}},
		{"cap at everything", head + "metrics:\n  m: {kind: mean, event: a, cap: {percentile: §100}, within: 1d}\n", []string{"not including, 100"}},
		{"direction", head + "metrics:\n  m: {kind: mean, event: a, within: 1d, direction: §left}\n", []string{"up or down"}},
		{"guardrail without margin", head + "metrics:\n  m: {kind: mean, event: a, within: 1d, guardrail: §{}}\n", []string{"needs margin"}},
		{"guardrail that accepts all", head + "metrics:\n  m: {kind: mean, event: a, within: 1d, guardrail: {margin: §1}}\n", []string{"between 0 and 1"}},
		{"variants and factors", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, factors: §{f: {x: 0.5, y: 0.5}, g: {x: 0.5, z: 0.5}}}\n", []string{"not both"}},
		{"one factor", head + "experiments:\n  e: {factors: §{f: {x: 0.5, y: 0.5}}}\n", []string{"2 or more"}},
		{"factor with one level", head + "experiments:\n  e: {factors: {f: {x: 0.5, y: 0.5}, §g: {z: 1}}}\n", []string{"at least 2 levels"}},
		{"control that is none", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, control: §f}\n", []string{"no variant \"f\" to compare with"}},
		{"forced by id", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, forced: {§qa-user: c}}\n", []string{"by token"}},
		{"forced into nothing", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, forced: {uaaaabbbbccccddddeeeeffffgg: §f}}\n", []string{"no variant \"f\" to force"}},
		{"namespace without range", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, namespace: §{name: n}}\n", []string{"needs name and range"}},
		{"namespace beyond", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, namespace: {name: n, range: §[0.5, 1.5]}}\n", []string{"two growing numbers from 0 to 1"}},
		{"namespace by its own seed", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, seed: n, namespace: §{name: n, range: [0, 0.5]}}\n", []string{"same variant"}},
		{"namespaces overlap", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, namespace: {name: n, range: [0, 0.5]}}\n  §g: {variants: {c: 0.5, d: 0.5}, namespace: {name: n, range: [0.4, 1]}}\n", []string{"overlap in namespace n"}},
		{"namespaces by two hashes", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, namespace: {name: n, range: [0, 0.5]}}\n  §g: {variants: {c: 0.5, d: 0.5}, namespace: {name: n, range: [0.5, 1], hash_version: 1}}\n", []string{"different hash versions"}},
		{"experiment by no metric", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, metrics: [§m]}\n", []string{"metric \"m\" is not defined"}},
		{"guardrail that decides", head + "metrics: {m: {kind: mean, event: a, within: 1d, guardrail: {margin: 0.1}}}\nexperiments:\n  e: {variants: {c: 0.5, d: 0.5}, primary: §m}\n", []string{"is a guardrail"}},
		{"split by no segment", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, segments: [§s]}\n", []string{"segment \"s\" is not defined"}},
		{"adjusted on a text", head + "traits: {t: string}\nexperiments:\n  e: {variants: {c: 0.5, d: 0.5}, covariates: [§t, §u]}\n", []string{"trait t is a string", "not a declared trait"}},
		{"alpha", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, alpha: §5}\n", []string{"chance of a wrong claim"}},
		{"n_star", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, n_star: §0}\n", []string{"at least 1"}},
		{"correction", head + "experiments:\n  e: {variants: {c: 0.5, d: 0.5}, correction: §none}\n", []string{"holm, benjamini_hochberg"}},
		{"factor of none", head + "experiments: {e: {variants: {c: 0.5, d: 0.5}}}\n" + journey("      - {experiment: e, factor: §f, variants: {}}\n"), []string{"no factor \"f\""}},
		{"level without steps", head + "experiments: {e: {factors: {f: {x: 0.5, y: 0.5}, g: {u: 0.5, v: 0.5}}}}\n" + journey("      - {experiment: e, factor: f, variants: §{x: []}}\n"), []string{"level y of factor f"}},
		{"level that is none", head + "experiments: {e: {factors: {f: {x: 0.5, y: 0.5}, g: {u: 0.5, v: 0.5}}}}\n" + journey("      - {experiment: e, factor: f, variants: {x: [], y: [], §z: []}}\n"), []string{"the levels x, y and no others"}},
		{"segment without rule", head + "segments:\n  §s: {}\n", []string{"needs a rule"}},
		{"empty rule", head + "segments: {s: {when: '§'}}\n", []string{"write true if that is meant"}},
		{"rule that answers with a number", head + "segments: {s: {when: §1 + 1}}\n", []string{"not true or false"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, places := marked(c.text)
			_, err := playbook.Compile(bundle(text))
			var problems playbook.Problems
			require.ErrorAs(t, err, &problems)
			got := make([]string, len(problems))
			for i, p := range problems {
				require.Equal(t, filenameOf(p, "a.yaml"), p.File)
				got[i] = fmt.Sprintf("%d:%d", p.Line, p.Column)
			}
			require.Equal(t, places, got, err)
			require.Len(t, c.hints, len(places))
			for i, hint := range c.hints {
				require.Contains(t, problems[i].Message, hint)
			}
		})
	}
}

// filenameOf is the file a problem belongs to: what is missing altogether belongs to the playbook.
func filenameOf(p playbook.Problem, file string) string {
	if strings.HasPrefix(p.Message, "the playbook has no ") {
		return "playbook"
	}
	return file
}

// TestRuleProblemsPointIntoTheFile: whatever way of writing a text YAML has, the place is that of the character at fault.
func TestRuleProblemsPointIntoTheFile(t *testing.T) {
	t.Parallel()
	cases := map[string]string{
		"plain":                      "did(§\"c\")",
		"plain, far in":              "did(\"a\") && \"ü😀\" != \"\" && did(§\"c\")",
		"plain, over two lines":      "did(\"a\") &&\n      did(§\"c\")",
		"single quotes":              "'did(§\"c\")'",
		"single quotes, doubled":     "'traits.t == ''x'' && did(§\"c\")'",
		"single quotes, three lines": "'true &&\n\n      did(§\"c\")'",
		"double quotes":              "\"did(§\\\"c\\\")\"",
		"double quotes, escapes":     "\"\\u0022\\x61\\U0001F600\\\" != traits.t\\n\\t && did(§'c')\"",
		"double quotes, two lines":   "\"true \\\n      && did(§'c')\"",
		"literal":                    "|\n      true &&\n      did(§\"c\")",
		"literal, indented deeper":   "|\n          true &&\n            did(§\"c\")",
		"literal, first line":        "|-\n      did(§\"c\")",
		"literal, given indentation": "|2\n        did(§\"c\")",
		"literal, blank lines":       "|+\n\n\n      true\n\n      && did(§\"c\")\n\n",
		"folded":                     ">-\n      true\n      && true\n      && did(§\"c\")",
		"folded, with a comment":     "> # why\n      true\n      && did(§\"c\")",
		"folded, deeper lines":       ">\n      true\n        && true\n\n      && did(§\"c\")",
		"tagged":                     "!!str did(§\"c\")",
		"tagged and quoted":          "!!str\n      'did(§\"c\")'",
		"syntax":                     "did(\"a\") &&§",
		"syntax, folded":             ">-\n      did(\"a\")\n      && (true§\n",
		"type":                       "traits.t §> 3",
		"two on two lines":           "|\n      did(§\"c\")\n      && did(§\"d\")",
		"carriage returns":           "|\r\n      true &&\r\n      did(§\"c\")",
	}
	for name, when := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, places := marked(head + "traits: {t: string}\nsegments:\n  s:\n    when: " + when + "\n  r: {when: did(\"a\")}\n")
			_, err := playbook.Compile(bundle(text))
			var problems playbook.Problems
			require.ErrorAs(t, err, &problems)
			require.Equal(t, places, placesOf(problems), err)
		})
	}
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	first, places := marked("name: x\nevents: {a: {}}\ntraits: {t: §text}\nsegments:\n  s: {when: did(§\"c\")}\n  r: {when: did(§\"d\")}\n")
	second, more := marked("journeys:\n  j:\n    enter: {on: §b}\n    steps:\n      - delay: §soon\n      - action: §send\n§naem: y\n")
	_, err := playbook.Compile(bundle(first, second))
	var want []string
	for _, place := range places {
		want = append(want, "a.yaml:"+place)
	}
	for _, place := range more {
		want = append(want, "b.yaml:"+place)
	}
	var got []string
	for line := range strings.Lines(err.Error()) {
		got = append(got, strings.Join(strings.Split(line, ":")[:3], ":"))
	}
	require.Equal(t, want, got, err)
}

func TestFiles(t *testing.T) {
	t.Parallel()
	problems := func(b playbook.Bundle) string {
		_, err := playbook.Compile(b)
		require.Error(t, err)
		return err.Error()
	}
	t.Run("an empty folder", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, problems(bundle()), "playbook:1:1: a playbook has 1 to 64 YAML files; this one has 0")
	})
	t.Run("empty files alone", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, problems(bundle("", "# nothing\n", "---\n")), "the playbook has no name")
	})
	t.Run("one section in two files", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "b.yaml:2:1: traits stands in a.yaml too: keep it in one file", problems(bundle(head+"traits: {t: string}\n", "actions: {}\ntraits: {u: string}\n")))
	})
	t.Run("sections in several files", func(t *testing.T) {
		t.Parallel()
		p := compile(t, journey("      - action: send\n"), "actions: {send: {}}\n", head, "")
		require.Equal(t, "send", p.Journey("j").Steps["s1"].Action)
	})
	t.Run("a file too large", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, problems(bundle(head+"#"+strings.Repeat("x", playbook.MaxFileBytes))), "a.yaml:1:1: the file has")
	})
	t.Run("too many files", func(t *testing.T) {
		t.Parallel()
		b := bundle(head)
		for i := range playbook.MaxFiles {
			b.Files[strconv.Itoa(i)] = ""
		}
		require.Contains(t, problems(b), "this one has 65")
	})
	t.Run("a bad second document", func(t *testing.T) {
		t.Parallel()
		require.Contains(t, problems(bundle(head+"---\n{\n")), "is not YAML")
	})
	t.Run("a scale that is none", func(t *testing.T) {
		t.Parallel()
		for _, scale := range []float64{0, -1, 1.5} {
			b := bundle(head)
			b.Scale = scale
			require.Contains(t, problems(b), "must lie in (0, 1]")
		}
	})
}

const nested = head + `
actions: {send: {}}
segments: {s: {when: did("b")}}
experiments: {e: {variants: {c: 0.5, d: 0.5}}}
journeys:
  j:
    enter: {on: [a, b], when: did("a")}
    steps:
      - id: first
        delay: 1h
      - id: choose
        experiment: e
        variants:
          c:
            - {id: control, action: send, with: {n: 1}, expire: 2h}
          d: []
      - id: fork
        branch:
          - when: did("b")
            steps:
              - id: inner
                wait:
                  on: b
                  when: did("b")
                  up_to: 2d
                  timeout:
                    - delay: 1m
                    - {id: out, exit: gave_up}
          - segment: s
          - else:
              - {id: other, action: send}
      - wait: {on: a, up_to: 1d}
      - {id: last, action: send}
`

func TestLayoutOfSteps(t *testing.T) {
	t.Parallel()
	j := compile(t, nested).Journey("j")
	require.Equal(t, "first", j.First)
	type node struct {
		kind            playbook.StepKind
		next, onTimeout string
	}
	got := make(map[string]node)
	for key, s := range j.Steps {
		require.Equal(t, key, s.Key)
		got[key] = node{s.Kind, s.Next, s.OnTimeout}
	}
	require.Equal(t, map[string]node{
		"first":           {playbook.StepDelay, "choose", ""},
		"choose":          {playbook.StepExperiment, "fork", ""},
		"control":         {playbook.StepAction, "fork", ""},
		"fork":            {playbook.StepBranch, "other", ""}, // none holds: else
		"inner":           {playbook.StepWait, "s4", "inner_timeout_1"},
		"inner_timeout_1": {playbook.StepDelay, "out", ""},
		"out":             {playbook.StepExit, "s4", ""},
		"other":           {playbook.StepAction, "s4", ""},
		"s4":              {playbook.StepWait, "last", "last"}, // no steps for the timeout: on it goes
		"last":            {playbook.StepAction, "", ""},
	}, got)
	require.Equal(t, []string{"first", "choose", "control", "fork", "inner", "inner_timeout_1", "out", "other", "s4", "last"}, j.Order)
	require.Equal(t, map[string]string{"c": "control", "d": "fork"}, j.Steps["choose"].Variants)
	fork := j.Steps["fork"].Branches
	require.Len(t, fork, 2)
	require.Equal(t, "inner", fork[0].To)
	require.Equal(t, `did("b")`, fork[0].When.Source)
	require.Equal(t, "s4", fork[1].To) // a branch without steps goes on
	require.Equal(t, "s", fork[1].Segment)
	require.Equal(t, "gave_up", j.Steps["out"].Reason)
	require.Equal(t, time.Hour, j.Steps["first"].Duration)
	require.Equal(t, 48*time.Hour, j.Steps["inner"].Duration)
	require.Equal(t, []string{"b"}, j.Steps["inner"].Events)
	require.Equal(t, 2*time.Hour, j.Steps["control"].Expire)
	require.Equal(t, map[string]any{"n": 1}, j.Steps["control"].With)
	require.Equal(t, []string{"a", "b"}, j.Enter.Events)
}

func TestSegmentsStandBehindThoseTheyAskAbout(t *testing.T) {
	t.Parallel()
	p := compile(t, head+"segments:\n  r: {when: 'in_segment(\"s\") && in_segment(\"q\")'}\n  s: {when: 'in_segment(\"q\")'}\n  q: {when: did(\"a\")}\n")
	var keys []string
	for _, s := range p.Segments {
		keys = append(keys, s.Key)
	}
	require.Equal(t, []string{"q", "s", "r"}, keys)
}

func TestScale(t *testing.T) {
	t.Parallel()
	b := bundle(nested)
	b.Scale = 0.001
	p, err := playbook.Compile(b)
	require.NoError(t, err)
	require.Equal(t, 3600*time.Millisecond, p.Journey("j").Steps["first"].Duration)
	require.InDelta(t, 0.001, p.Scale, 0)
}

func TestBundleHash(t *testing.T) {
	t.Parallel()
	b := bundle(head, "actions: {}\n")
	hash := b.Hash()
	require.Regexp(t, `^[0-9a-f]{12}$`, hash)
	require.Equal(t, "d51bfe10f4d2", playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": "name: x\n"}}.Hash()) // stands in histories
	for range 20 {                                                                                                             // the order of a map is another every time
		require.Equal(t, hash, bundle(head, "actions: {}\n").Hash())
	}
	raw, err := b.Encode()
	require.NoError(t, err)
	decoded, err := playbook.DecodeBundle(raw)
	require.NoError(t, err)
	require.Equal(t, b, decoded)
	require.Equal(t, hash, decoded.Hash())
	require.Equal(t, hash, compile(t, head, "actions: {}\n").Hash)
	_, err = playbook.DecodeBundle([]byte("no JSON"))
	require.Error(t, err)

	others := map[string]playbook.Bundle{
		"content":   bundle(head, "actions: {}\n\n"),
		"scale":     {Scale: 0.5, Files: b.Files},
		"one fewer": bundle(head),
		"file name": {Scale: 1, Files: map[string]string{"a.yaml": head, "c.yaml": "actions: {}\n"}},
		"moved":     {Scale: 1, Files: map[string]string{"a.yaml": head + "actions: {}\n", "b.yaml": ""}},
	}
	for name, other := range others {
		assert.NotEqual(t, hash, other.Hash(), name)
	}
}

func TestReads(t *testing.T) {
	t.Parallel()
	events := "name: x\nevents: {entry: {}, goal: {}, exit: {}, waited: {}, ruled: {}, idle: {}}\ntraits: {t: string}\n"
	p := compile(t, events+`
segments: {s: {when: did("ruled")}}
journeys:
  j:
    enter: {on: entry}
    goal: {on: goal, within: 1d}
    exit: [{on: exit}]
    steps: [{wait: {on: waited, up_to: 1d}}]
`)
	for _, event := range []string{"entry", "goal", "exit", "waited", "ruled"} {
		assert.True(t, p.Reads(event, false), event)
	}
	assert.False(t, p.Reads("idle", false))
	assert.True(t, p.Reads("idle", true), "its traits may change an answer")
	assert.False(t, p.Reads("undeclared", true))
	for name, rule := range map[string]string{
		"segment": "segments: {s: {when: inactive_for(\"1d\")}}\n",
		"wait":    "journeys: {j: {enter: {on: entry}, steps: [{wait: {when: 'seen_for(\"1d\")', up_to: 1d}}]}}\n",
		"consent": "consent: {mail: '!inactive_for(\"1d\")'}\n",
	} {
		assert.True(t, compile(t, events+rule).Reads("idle", false), name)
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	with := map[string]any{
		"alone": "${traits.size}", "within": "size ${traits.size} of ${traits.industry}!", "missing": "<${traits.none}>", "missing_alone": "${traits.none}",
		"number": 5, "deep": map[string]any{"x": "${traits.industry}"}, "list": []any{"${traits.size}", 1, map[string]any{"y": "${traits.role}"}},
		"other": "${other.size} ${traits.Size}",
	}
	require.Equal(t, []string{"industry", "none", "role", "size"}, playbook.References(with, "traits"))
	require.Equal(t, map[string]any{
		"alone": int64(7), "within": "size 7 of finance!", "missing": "<>", "missing_alone": nil,
		"number": 5, "deep": map[string]any{"x": "finance"}, "list": []any{int64(7), 1, map[string]any{"y": "cto"}},
		"other": "${other.size} ${traits.Size}",
	}, playbook.Fill(with, map[string]any{"size": int64(7), "industry": "finance", "role": "cto"}, nil))
	require.Equal(t, "${traits.size}", with["alone"], "the playbook is shared: nothing is filled in place")
	require.Empty(t, playbook.References(nil, "traits"))
	require.Empty(t, playbook.Fill(nil, nil, nil))
}

func ExampleCompile() {
	_, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": `
name: trial
events: {signed_up: {}, activated: {}}
segments:
  active: {when: did("activatd")}
journeys:
  welcome:
    enter: {on: signed_up}
    steps:
      - delay: 3 days
`}})
	fmt.Println(err)
	// Output:
	// playbook.yaml:5:22: event "activatd" is not declared; declared are: activated, signed_up; did you mean "activated"?
	// playbook.yaml:10:16: delay: "3 days" is not a duration such as 3d, 36h or 90m
}

func ExampleFill() {
	fmt.Println(playbook.Fill(map[string]any{"greeting": "Hello ${traits.role}", "size": "${traits.size}"}, map[string]any{"role": "CTO", "size": 5}, nil))
	// Output: map[greeting:Hello CTO size:5]
}

// TestByFlag: an experiment that no step names is met by its flag alone; one that a step names, by way of a factor or not, is not.
func TestByFlag(t *testing.T) {
	t.Parallel()
	p := compile(t, head+"experiments: {e: {variants: {c: 0.5, d: 0.5}}, g: {variants: {c: 0.5, d: 0.5}}, f: {variants: {c: 0.5, d: 0.5}}}\n"+
		journey("      - {experiment: e, variants: {c: [], d: []}}\n"))
	require.Equal(t, []*playbook.Experiment{p.Experiments["f"], p.Experiments["g"]}, p.ByFlag())
}
