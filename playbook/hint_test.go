package playbook_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/playbook"
)

func TestHints(t *testing.T) {
	t.Parallel()
	const plan = "name: x\nevents:\n  signed_up: {}\n  order_paid: {properties: {total: number, item: string}}\ntraits: {industry: string}\n"
	const more = plan + "segments: {newcomer: {when: did(\"signed_up\")}}\nactions: {send_mail: {}}\nexperiments: {flow: {variants: {control: 0.5, short: 0.5}}}\nconsent: {marketing: true}\n"
	in := func(steps string) string {
		return more + "journeys:\n  j:\n    enter: {on: order_paid}\n    steps:\n" + steps
	}
	for name, c := range map[string]struct{ text, hint string }{
		"key of a playbook":  {plan + "segmnts: {}\n", `"segments"`},
		"key of a segment":   {plan + "segments: {s: {when: did(\"signed_up\"), dscription: x}}\n", `"description"`},
		"short key, swapped": {more + "journeys: {j: {enter: {no: signed_up}, steps: []}}\n", `"on"`},
		"kind of step":       {in("      - {id: x, acton: send_mail}\n"), `"action"`},
		"event":              {in("      - wait: {on: sign_up, up_to: 1d}\n"), `"signed_up"`},
		"event in a rule":    {plan + "segments: {s: {when: did(\"sined_up\")}}\n", `"signed_up"`},
		"trait in a rule":    {plan + "segments: {s: {when: traits.industri == \"x\"}}\n", `"industry"`},
		"trait in a text":    {in("      - {action: send_mail, with: {x: \"${traits.industy}\"}}\n"), `"industry"`},
		"property":           {in("      - wait: {on: order_paid, where: e.totl > 1.0, up_to: 1d}\n"), `"total"`},
		"property, entry":    {in("      - {action: send_mail, with: {x: \"${same.itm}\"}}\n"), `"item"`},
		"function":           {plan + "segments: {s: {when: inactiv_for(\"3d\")}}\n", `"inactive_for"`},
		"ending":             {plan + "segments: {s: {when: events(\"signed_up\").cuont() > 1}}\n", `"count"`},
		"segment":            {in("      - branch: [{segment: newcommer, steps: []}]\n"), `"newcomer"`},
		"segment in a rule":  {in("      - wait: {when: in_segment(\"newcomr\"), up_to: 1d}\n"), `"newcomer"`},
		"action":             {in("      - action: send_male\n"), `"send_mail"`},
		"experiment":         {in("      - {experiment: flwo, variants: {control: [], short: []}}\n"), `"flow"`},
		"variant":            {in("      - {experiment: flow, variants: {control: [], shrt: []}}\n"), `"short"`},
		"category":           {more + "limit: {actions: 1, per: 1d, category: marketin}\n", `"marketing"`},
		"type":               {plan + "scores: {}\nzone: {trait: industri}\n", `"industry"`},
		"weekday":            {in("      - delay: {on: monn}\n"), `"mon"`},
		"two are as near":    {more + "journeys: {j: {enter: {on: signed_up}, steps: [{delay: {for: 1d, ot: 2}}]}}\n", `"at" or "on"`},
		"none is near":       {in("      - action: fly\n"), ""},
		"one letter":         {in("      - action: s\n"), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := playbook.Compile(bundle(c.text))
			var problems playbook.Problems
			require.ErrorAs(t, err, &problems)
			var hints []string
			for _, p := range problems {
				if p.Hint != "" {
					hints = append(hints, p.Hint)
					require.Contains(t, p.String(), p.Message+"; "+p.Hint)
				}
			}
			if c.hint == "" {
				require.Empty(t, hints)
				return
			}
			require.Equal(t, []string{"did you mean " + c.hint + "?"}, hints, err)
		})
	}
}

func TestUnreachableSteps(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]string{
		"behind an exit":                        "      - {id: x, exit: done}\n      - §{id: y, delay: 1d}\n      - {id: z, delay: 1d}\n",
		"behind an exit within a way":           "      - wait: {on: a, up_to: 1d, timeout: [{exit: done}, §{delay: 1d}]}\n      - delay: 1d\n",
		"behind a branch whose ways all end":    "      - branch: [{when: did(\"b\"), steps: [{exit: yes}]}, {else: [{exit: no}]}]\n      - §{delay: 1d}\n",
		"behind an experiment that ends":        "      - {experiment: e, variants: {c: [{exit: c}], d: [{exit: d}]}}\n      - §{delay: 1d}\n",
		"a branch without else leads on":        "      - branch: [{when: did(\"b\"), steps: [{exit: yes}]}]\n      - {delay: 1d}\n",
		"a wait leads on when it is met":        "      - wait: {on: a, up_to: 1d, timeout: [{exit: done}]}\n      - {delay: 1d}\n",
		"an experiment's holdout leads on":      "      - {experiment: held, variants: {c: [{exit: c}], d: [{exit: d}]}}\n      - {delay: 1d}\n",
		"with all that is in it, named once":    "      - {exit: done}\n      - §branch: [{when: did(\"b\"), steps: [{delay: 1d}]}]\n      - exit: again\n",
		"other problems come first, to be sure": "      - {exit: done}\n      - {delay: §soon}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text, places := marked(head + "experiments: {e: {variants: {c: 0.5, d: 0.5}}, held: {variants: {c: 0.4, d: 0.4, h: 0.2}, holdout: h}}\n" + journey(c))
			_, err := playbook.Compile(bundle(text))
			if len(places) == 0 {
				require.NoError(t, err)
				return
			}
			var problems playbook.Problems
			require.ErrorAs(t, err, &problems)
			require.Equal(t, places, placesOf(problems), err)
		})
	}
}

// TestHintsKnowTheLanguage: every function of the reference is one that hints know and that examples/everything uses.
func TestHintsKnowTheLanguage(t *testing.T) {
	t.Parallel()
	reference, err := os.ReadFile("../docs/language.md")
	require.NoError(t, err)
	_, functions, found := strings.Cut(string(reference), "### Functions")
	require.True(t, found)
	functions, _, _ = strings.Cut(functions, "### Three values")
	everything := example(t, "everything")
	names := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)`").FindAllStringSubmatch(functions, -1) {
		for _, call := range regexp.MustCompile(`([a-zA-Z_]+)\(`).FindAllStringSubmatch(row[1], -1) {
			names[call[1]] = true
		}
	}
	require.Greater(t, len(names), 35)
	for name := range names {
		require.Contains(t, playbook.RuleWords(), name)
		require.Contains(t, everything, name+"(", "examples/everything does not use %s", name)
	}
}
