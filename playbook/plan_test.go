package playbook_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/segment"
)

const declared = `name: x
zone: {trait: timezone, default: Europe/Berlin}
scores: {churn: {description: How likely the user is to leave.}}
traits:
  plan: {type: string, description: What the user pays for.}
  timezone: string
events:
  order:
    description: An order is paid.
    properties:
      order_id: {type: string, required: true}
      total: {type: number, required: true, description: In euros.}
      items: int
  login: {}
`

func TestPlan(t *testing.T) {
	t.Parallel()
	berlin, _ := segment.Location("Europe/Berlin")
	p := compile(t, declared)
	require.Equal(t, map[string]segment.Properties{
		"order": {"order_id": segment.String, "total": segment.Number, "items": segment.Int}, "login": {},
	}, p.Plan.Events)
	require.Equal(t, segment.Properties{"plan": segment.String, "timezone": segment.String, "score_churn": segment.Number}, p.Plan.Traits)
	require.Equal(t, segment.EventDoc{
		Description: "An order is paid.", Required: []string{"order_id", "total"}, Properties: map[string]string{"total": "In euros."},
	}, p.Plan.Docs["order"])
	require.Equal(t, map[string]string{"plan": "What the user pays for."}, p.Plan.TraitDocs)
	require.Equal(t, map[string]string{"churn": "How likely the user is to leave."}, p.Plan.Scores)
	require.Equal(t, segment.Zone{Trait: "timezone", Default: berlin}, p.Plan.Zone)
	require.Equal(t, berlin, p.Set.Zone(&segment.Facts{}), "the set knows the zone")
}

func TestPlanMistakes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, want string }{
		{"no type", "name: x\nevents: {a: {properties: {§p: {required: true}}}}\n", "p needs a type"},
		{"no such type", "name: x\nevents: {a: {properties: {p: {type: §text}}}}\n", `"text" is not a type`},
		{"unknown key", "name: x\nevents: {a: {properties: {p: {type: int, §optional: true}}}}\n", "known are: type, required, description"},
		{"required is no text", "name: x\nevents: {a: {properties: {p: {type: int, required: §perhaps}}}}\n", "required must be true or false"},
		{"a required trait", head + "traits: {§t: {type: int, required: true}}\n", "trait t cannot be required"},
		{"a score that is a trait", head + "traits: {score_c: int}\nscores: {§c: {}}\n", "score c lives in the trait score_c"},
		{"an empty zone", head + "zone: §{}\n", "zone needs a trait or a default"},
		{"a zone's trait", head + "zone: {trait: §timezone}\n", `"timezone" is no trait that is declared as string`},
		{"a zone's trait of another type", head + "traits: {timezone: int}\nzone: {trait: §timezone}\n", `"timezone" is no trait that is declared as string`},
		{"a zone", head + "zone: {default: §Europe/Nowhere}\n", `"Europe/Nowhere" is not a zone`},
		{"a zone by its offset", head + "zone: {default: §UTC+2}\n", "not by their distance from UTC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text, places := marked(c.text)
			_, err := playbook.Compile(bundle(text))
			require.ErrorContains(t, err, c.want)
			require.ErrorContains(t, err, places[0])
		})
	}
}

// #96 of the list of bad input: segments that ask about segments.
func TestSegmentsInCircles(t *testing.T) {
	t.Parallel()
	var chain strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&chain, "  s%d: {when: 'in_segment(\"s%d\")'}\n", i, i+1)
	}
	for _, c := range []struct{ name, segments, want string }{
		{"itself", "  s: {when: 'in_segment(\"s\")'}\n", "cycle: segment s asks about itself: s → s"},
		{"itself, for a time", "  s: {when: 'in_segment_for(\"s\", \"1d\")'}\n", "cycle: segment s asks about itself: s → s"},
		{"three", "  r: {when: 'in_segment(\"s\")'}\n  s: {when: 'in_segment(\"t\")'}\n  t: {when: 'in_segment(\"r\")'}\n", "cycle: segment r asks about itself: r → s → t → r"},
		{"a thousand deep", chain.String() + "  s1000: {when: did(\"a\")}\n", "too_deep: segments ask about segments at most 32 deep"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := playbook.Compile(bundle(head + "segments:\n" + c.segments))
			require.ErrorContains(t, err, c.want)
		})
	}
}

// What the new functions read reaches the engine.
func TestReadsOfRules(t *testing.T) {
	t.Parallel()
	const events = "name: x\nevents: {a: {}, b: {}, idle: {}}\ntraits: {t: string, ends: timestamp}\nscores: {s: {}}\n"
	for _, c := range []struct {
		rule string
		want string // the events that must be read
	}{
		{`events("a").followed_by(events("b"), "1d")`, "a b"},
		{`events("a").not_followed_by(events("b"), "1d")`, "a b"},
		{`events("a").sum(e.p) > 1.0 || did("b")`, ""}, // refused: a has no p
		{`events().count() > 3`, "a b idle"},
		{`events().sessions("1h") > 3`, "a b idle"},
		{`events("a").since_last() > duration("1d")`, "a"},
		{`changes(traits.t).count() > 1 && score("s") > 0.5 && time_since(traits.ends) > duration("1d")`, ""}, // traits reach it anyway
	} {
		t.Run(c.rule, func(t *testing.T) {
			t.Parallel()
			for _, where := range []string{"segments: {r: {when: '%s'}}\n", "journeys: {j: {enter: {on: a, when: '%s'}, steps: [{delay: 1d}]}}\n"} {
				p, err := playbook.Compile(bundle(events + fmt.Sprintf(where, c.rule)))
				if strings.Contains(c.rule, "e.p") {
					require.ErrorContains(t, err, "e.p")
					continue
				}
				require.NoError(t, err)
				for _, event := range []string{"b", "idle"} {
					require.Equal(t, strings.Contains(c.want, event), p.Reads(event, false), event)
				}
				require.True(t, p.Reads("idle", true))
			}
		})
	}
}
