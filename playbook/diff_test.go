package playbook_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/playbook"
)

// shop is what the cases of TestDiff change in one place.
const shop = `name: shop
events:
  signed_up: {}
  order: {description: Paid., properties: {id: string, total: number, note: string}}
  visit: {properties: {page: string}}
  closed: {}
traits: {plan: string, size: int, city: string}
scores: {churn: {}}
zone: {default: Europe/Berlin}
segments:
  buyer: {when: 'events("order").where(e.total > 10.0).count() > 0'}
  small: {when: 'traits.size < 10'}
  idle: {when: inactive_for("7d")}
  weekly: {when: 'events("visit").within("7d").count() > 3'}
experiments:
  price: {variants: {control: 0.5, lower: 0.5}, coverage: 0.5}
consent: {marketing: 'traits.plan == "pro"'}
limit: {actions: 3, per: 7d}
quiet: {from: "22:00", to: "07:00"}
expire: 1d
holdout: {share: 0.1}
actions:
  mail: {category: marketing}
  show: {quiet: ignore}
journeys:
  cart:
    enter: {on: visit, where: e.page == "cart"}
    goal: {on: order, within: 7d}
    exit: [{on: closed, reason: closed}]
    steps:
      - {id: think, delay: 2h}
      - id: bought
        wait: {on: order, where: e.note != "gift", up_to: 3d, timeout: [{id: remind, action: mail, with: {city: "${traits.city}"}}]}
      - id: kind
        branch:
          - {segment: small, steps: [{id: small_tip, action: show}]}
          - {else: [{id: tip, action: show}]}
      - id: price
        experiment: price
        variants: {control: [], lower: [{id: offer, action: mail, expire: 2h}]}
      - {id: bye, exit: seen}
` + "  back:\n" + back

// back is the second journey of shop.
const back = `    priority: 5
    enter: {segment: idle}
    migrate: {move: {}}
    steps:
      - {id: nudge, action: show}
      - {id: rest, delay: 3d}
      - {id: last, wait: {on: visit, up_to: 5d}}
`

func TestDiff(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name string
		edit []string // pairs of what stands there and what comes instead
		want []string // kind key: what [severity]
		says string   // within one of the hints, or of the old and new texts
	}{
		{"a comment", []string{"name: shop", "# ours\nname: shop"}, []string{"playbook shop: text changed [info]"}, "nothing works differently"},
		{"metric added", []string{"experiments:\n", "metrics: {paid: {kind: mean, event: order, value: total, within: 7d}}\nexperiments:\n"}, []string{"metric paid: added [info]"}, "sum of total over order per user, within 7d of the exposure"},
		{"reading of an experiment", []string{"coverage: 0.5}", "coverage: 0.5, alpha: 0.01, planned: 500}"}, []string{"experiment price: alpha changed [warning]", "experiment price: planned size changed [info]"}, "before the data"},
		{"namespace of an experiment", []string{"coverage: 0.5}", "coverage: 0.5, namespace: {name: n, range: [0, 0.5]}}"}, []string{"experiment price: namespace changed [breaking]"}, "n from 0 to 0.5"},
		{"name", []string{"name: shop", "name: store"}, []string{"playbook store: name changed [warning]"}, ""},

		{"event added", []string{"  closed: {}", "  closed: {}\n  opened: {}"}, []string{"event opened: added [info]"}, ""},
		{"event removed that is read by nobody", []string{"  signed_up: {}\n", ""}, []string{"event signed_up: removed [warning]"}, "archive"},
		{
			"event removed that those inside wait for",
			[]string{"  closed: {}\n", "", "    exit: [{on: closed, reason: closed}]\n", ""},
			[]string{"event closed: removed [warning]", "journey cart: exit rule removed [info]", "inside cart: those inside stay: they finish by the version they entered [info]"},
			"journey cart, exit 1",
		},
		{"description", []string{"Paid.", "Paid and booked."}, []string{"event order: description changed [info]"}, "Paid and booked."},
		{"property added", []string{"note: string", "note: string, tax: number"}, []string{"property order.tax: added [info]"}, ""},
		{"property added and required", []string{"note: string", "note: string, tax: {type: number, required: true}"}, []string{"property order.tax: added [breaking]"}, "every service"},
		{"property required", []string{"id: string", "id: {type: string, required: true}"}, []string{"property order.id: is required now [breaking]"}, "every service"},
		{"property removed", []string{"id: string, ", ""}, []string{"property order.id: removed [info]"}, ""},
		{
			"property removed that those inside look at",
			[]string{", note: string", "", `where: e.note != "gift", `, ""},
			[]string{"property order.note: removed [warning]", "step cart/bought: where changed [info]", "inside cart: those inside stay: they finish by the version they entered [info]"},
			"journey cart, step bought",
		},
		{"property retyped", []string{"id: string", "id: int"}, []string{"property order.id: type changed [warning]"}, "no rule reads it"},
		{
			"property retyped that a rule reads",
			[]string{"total: number", "total: int", "10.0", "10"},
			[]string{
				"property order.total: type changed [breaking]", "segment buyer: rule changed [warning]",
				`selection events("order").where(e.total > 10): counted from here on [warning]`,
			},
			"unknown until the new type comes: segment buyer",
		},
		{"trait added", []string{"{plan: string", "{tier: string, plan: string"}, []string{"trait tier: added [info]"}, ""},
		{"trait retyped", []string{"size: int", "size: number", "traits.size < 10", "traits.size < 10.0"}, []string{"trait size: type changed [warning]", "segment small: rule changed [warning]"}, "whole numbers stay readable"},
		{"trait retyped that is read", []string{"city: string", "city: list"}, []string{"trait city: type changed [breaking]"}, "journey cart, step remind"},
		{
			"trait removed that those inside are sent",
			[]string{", city: string", "", `, with: {city: "${traits.city}"}`, ""},
			[]string{"trait city: removed [warning]", "step cart/remind: with changed [info]", "inside cart: those inside stay: they finish by the version they entered [info]"},
			"have it sent until",
		},
		{"score", []string{"{churn: {}}", "{churn: {}, joy: {}}"}, []string{"score joy: added [info]"}, ""},
		{"zone", []string{"Europe/Berlin", "UTC"}, []string{"zone zone: changed [warning]"}, "quiet hours shift"},

		{"segment added", []string{"  small:", "  new: {when: did(\"visit\")}\n  small:"}, []string{"segment new: added [info]"}, `did("visit")`},
		{
			"segment added that lets in",
			[]string{"  small:", "  new: {when: did(\"visit\")}\n  small:", "{segment: idle}", "{segment: new}"},
			[]string{"segment new: added [warning]", "journey back: entry changed [warning]"},
			"everybody who is in it enters it when this is applied: whom that moves may enter back",
		},
		{"segment removed", []string{`  buyer: {when: 'events("order").where(e.total > 10.0).count() > 0'}` + "\n", ""}, []string{"segment buyer: removed [info]"}, ""},
		{
			"segment removed that those inside are asked about",
			[]string{"  small: {when: 'traits.size < 10'}\n", "", "segment: small", "segment: buyer"},
			[]string{"segment small: removed [breaking]", "step cart/kind: ways changed [info]", "inside cart: those inside stay: they finish by the version they entered [info]"},
			"nobody is in it any more",
		},
		{"segment changed", []string{`inactive_for("7d")`, `inactive_for("9d")`}, []string{"segment idle: rule changed [warning]"}, "may enter back"},

		{
			"something new is counted",
			[]string{"  small:", "  gone: {when: did(\"closed\")}\n  small:"},
			[]string{"segment gone: added [info]", `selection events("closed"): counted from here on [warning]`},
			"what happened before is not in it: segment gone",
		},
		{
			"a wider window",
			[]string{`within("7d")`, `within("30d")`},
			[]string{"segment weekly: rule changed [warning]", `selection events("visit"): looks further back [warning]`},
			"when that time has passed: segment weekly",
		},

		{"weights", []string{"control: 0.5, lower: 0.5", "control: 0.6, lower: 0.4"}, []string{"experiment price: variants or weights changed [breaking]"}, "new key"},
		{"order of variants", []string{"control: 0.5, lower: 0.5", "lower: 0.5, control: 0.5"}, []string{"experiment price: variants or weights changed [breaking]"}, "new key"},
		{"seed", []string{"coverage: 0.5", "coverage: 0.5, seed: two"}, []string{"experiment price: seed changed [breaking]"}, "new key"},
		{"hash version", []string{"coverage: 0.5", "coverage: 0.5, hash_version: 1"}, []string{"experiment price: hash version changed [breaking]"}, "new key"},
		{"coverage raised", []string{"coverage: 0.5", "coverage: 0.7"}, []string{"experiment price: coverage raised [info]"}, "nobody changes"},
		{"coverage lowered", []string{"coverage: 0.5", "coverage: 0.3"}, []string{"experiment price: coverage lowered [warning]"}, "still count"},
		{
			"experiment's holdout",
			[]string{"coverage: 0.5", "coverage: 0.5, holdout: control", "{control: [], lower", "{lower"},
			[]string{"experiment price: holdout changed [breaking]"},
			"",
		},
		{"experiment added", []string{"experiments:", "experiments:\n  other: {variants: {a: 0.5, b: 0.5}}"}, []string{"experiment other: added [info]"}, ""},

		{"consent", []string{`traits.plan == "pro"`, `traits.plan != "pro"`}, []string{"consent marketing: rule changed [warning]"}, "privacy"},
		{"limit", []string{"{actions: 3, per: 7d}", "[{actions: 3, per: 7d}, {actions: 1, per: day, category: marketing}]"}, []string{"limit limit: changed [warning]"}, "3 per 7d, 1 per day marketing"},
		{"quiet", []string{"22:00", "21:00"}, []string{"quiet quiet: changed [warning]"}, "21:00 to 07:00"},
		{"expire", []string{"expire: 1d", "expire: 2d"}, []string{"expire expire: changed [info]"}, ""},
		{"holdout", []string{"share: 0.1", "share: 0.2"}, []string{"holdout holdout: changed [breaking]"}, "20 %"},
		{"action", []string{"show: {quiet: ignore}", "show: {quiet: drop, deliver: 'webhook:app', uncapped: true}"}, []string{
			"action show: delivery changed [warning]", "action show: uncapped changed [warning]", "action show: quiet changed [warning]",
		}, "webhook:app"},
		{"action's category", []string{"mail: {category: marketing}", "mail: {}"}, []string{"action mail: category changed [warning]"}, ""},

		{"journey added", []string{"journeys:", "journeys:\n  new: {enter: {on: visit}, steps: [{exit: done}]}"}, []string{"journey new: added [info]"}, "on visit"},
		{"journey removed", []string{"  back:\n" + back, ""}, []string{"journey back: removed [warning]"}, "finish by the old version"},
		{"paused", []string{"priority: 5", "priority: 5\n    paused: true"}, []string{"journey back: paused [warning]"}, "whichever version"},
		{"priority", []string{"priority: 5", "priority: 6"}, []string{"journey back: priority changed [info]"}, ""},
		{"entry", []string{"enter: {segment: idle}", "enter: {left: idle}"}, []string{"journey back: entry changed [warning]"}, "on leaving idle"},
		{"reentry", []string{"priority: 5", "reentry: {after: 30d}\n    priority: 5"}, []string{"journey back: reentry changed [info]"}, "after 30d"},
		{
			"goal",
			[]string{"within: 7d", "within: 9d"},
			[]string{"journey cart: goal changed [warning]", "inside cart: those inside stay: they finish by the version they entered [info]"},
			"do not compare",
		},
		{
			"end of those inside",
			[]string{"{move: {}}", "exit"},
			[]string{"journey back: migrate changed [info]", "inside back: those inside stay: migrate: exit ends them only where the journey itself is another one [info]"},
			"",
		},
		{
			"step removed, those inside move on",
			[]string{"      - {id: rest, delay: 3d}\n", ""},
			[]string{"step back/rest: removed [info]", "inside back/rest: those who stand here end, with reason step_removed [breaking]"},
			"migrate: {move: {rest: new_step}}",
		},
		{
			"step renamed and mapped",
			[]string{"id: rest", "id: pause", "{move: {}}", "{move: {rest: pause}}"},
			[]string{
				"step back/rest: removed [info]", "step back/pause: added behind nudge [info]", "journey back: migrate changed [info]",
				"inside back/rest: those who stand here go on at pause [info]",
			},
			"",
		},
		{
			"a map with a misspelling",
			[]string{"{move: {}}", "{move: {resst: last}}"},
			[]string{"journey back: migrate changed [info]", "inside back/resst: migrate names a step that the old version does not have [warning]"},
			"misspelling",
		},
		{
			"step of another kind",
			[]string{"{id: rest, delay: 3d}", "{id: rest, action: show}"},
			[]string{"step back/rest: kind changed [info]", "inside back/rest: those who stand here go on at rest [info]"},
			"happens at once",
		},
		{
			"shorter wait",
			[]string{"up_to: 5d", "up_to: 4d"},
			[]string{"step back/last: up_to changed [info]", "inside back/last: those who began longer ago than 4d go on at once [warning]"},
			"",
		},
		{
			"order of steps",
			[]string{"      - {id: nudge, action: show}\n      - {id: rest, delay: 3d}\n", "      - {id: rest, delay: 3d}\n      - {id: nudge, action: show}\n"},
			[]string{"step back/nudge: moved [info]"},
			"behind rest",
		},
		{
			"step into another arm",
			[]string{"timeout: [{id: remind, action: mail, with: {city: \"${traits.city}\"}}]", "timeout: []", "{else: [", "{else: [{id: remind, action: mail, with: {city: \"${traits.city}\"}}, "},
			[]string{"step cart/remind: moved [info]", "inside cart: those inside stay: they finish by the version they entered [info]"},
			"first in kind, else",
		},
		{
			"step added without an id",
			[]string{"      - {id: rest", "      - delay: 1d\n      - {id: rest"},
			[]string{"step back/s2: added behind nudge [info]"},
			"give it one",
		},
		{
			"what a step says",
			[]string{"expire: 2h", "expire: 3h", "e.page ==", "e.page !=", "delay: 2h", `delay: {for: 2h, at: "09:00"}`},
			[]string{
				"journey cart: entry changed [warning]", "step cart/think: delay changed [info]", "step cart/offer: expire changed [info]",
				"inside cart: those inside stay: they finish by the version they entered [info]",
			},
			"2h, then until 09:00",
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			text := shop
			for i := 0; i < len(c.edit); i += 2 {
				require.Contains(t, text, c.edit[i])
				text = strings.Replace(text, c.edit[i], c.edit[i+1], 1)
			}
			changes := playbook.Diff(compile(t, shop), compile(t, text))
			require.Equal(t, c.want, summaries(changes))
			require.Contains(t, fmt.Sprint(changes), c.says)
		})
	}
}

func summaries(changes []playbook.Change) []string {
	var list []string
	for _, c := range changes {
		list = append(list, fmt.Sprintf("%s %s: %s [%s]", c.Kind, c.Key, c.What, c.Severity))
	}
	return list
}

// TestDiffNamesEveryStep: whatever two journeys are like, each step that one of them has alone is named once, and comparing the
// other way round tells the opposite.
func TestDiffNamesEveryStep(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p, q := randomPlaybook(t), randomPlaybook(t)
		require.Empty(t, playbook.Diff(p, p))
		steps := func(changes []playbook.Change, what string) []string {
			var keys []string
			for _, c := range changes {
				if c.Kind == "step" && strings.HasPrefix(c.What, what) {
					keys = append(keys, strings.TrimPrefix(c.Key, "j/"))
				}
			}
			slices.Sort(keys)
			return keys
		}
		alone := func(a, b *playbook.Journey) []string {
			var keys []string
			for key := range a.Steps {
				if b.Steps[key] == nil {
					keys = append(keys, key)
				}
			}
			slices.Sort(keys)
			return keys
		}
		there, back := playbook.Diff(p, q), playbook.Diff(q, p)
		require.Equal(t, alone(q.Journey("j"), p.Journey("j")), steps(there, "added"))
		require.Equal(t, alone(p.Journey("j"), q.Journey("j")), steps(there, "removed"))
		require.Equal(t, steps(there, "added"), steps(back, "removed"))
		require.Equal(t, p.Hash == q.Hash, len(there) == 0)
	})
}

func ExampleDiff() {
	before := "name: trial\nevents: {signed_up: {}}\njourneys:\n  welcome:\n    enter: {on: signed_up}\n    migrate: move\n    steps:\n      - {id: rest, delay: 1d}\n"
	after := strings.Replace(before, "id: rest", "id: pause", 1)
	var books []*playbook.Playbook
	for _, text := range []string{before, after} {
		p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": text}})
		if err != nil {
			panic(err)
		}
		books = append(books, p)
	}
	for _, c := range playbook.Diff(books[0], books[1]) {
		fmt.Printf("%s %s: %s\n", c.Kind, c.Key, c.What)
	}
	// Output:
	// step welcome/rest: removed
	// step welcome/pause: added first
	// inside welcome/rest: those who stand here end, with reason step_removed
}
