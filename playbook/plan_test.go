package playbook_test

import (
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
