package playbook

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/segment"
)

func (d *differ) journeys() {
	for _, key := range union(d.before.journeys, d.after.journeys) {
		old, now := d.before.Journey(key), d.after.Journey(key)
		removed := Change{Kind: "journey", Key: key, Severity: Warning, Hint: "nobody enters any more; those inside finish by the old version"}
		added := Change{Kind: "journey", Key: key, Severity: Info}
		if now != nil {
			added.New = plainCaptions(now.Enter.texts())
		}
		if presence(d, d.before.journeys, d.after.journeys, key, added, removed) {
			d.journey(old, now)
		}
	}
}

func (d *differ) journey(old, now *Journey) {
	from := len(d.changes)
	change := func(what string, severity Severity, hint string) Change {
		return Change{Kind: "journey", Key: now.Key, What: what, Severity: severity, Hint: hint}
	}
	d.described("journey", now.Key, old.Description, now.Description)
	d.setting(change("priority changed", Info, "who gets a user's budget first, for every version at once"), strconv.Itoa(old.Priority), strconv.Itoa(now.Priority))
	switch {
	case now.Paused && !old.Paused:
		d.add(change("paused", Warning, "stops at once, for those inside as well, whichever version they are in"))
	case old.Paused && !now.Paused:
		d.add(change("resumed", Warning, "what fell due in the meantime happens at once, in order; expire keeps stale actions from going out"))
	}
	d.setting(change("entry changed", Warning, "other users enter from here on"), plainCaptions(old.Enter.texts()), plainCaptions(now.Enter.texts()))
	d.setting(change("reentry changed", Info, ""), reentryText(old), reentryText(now))
	d.setting(change("goal changed", Warning, "conversions before and after do not compare"), goalText(old), goalText(now))
	d.exits(old, now)
	d.steps(old, now)
	reworked := old.Digest != now.Digest
	d.setting(change("migrate changed", Info, ""), migrateText(old.Migrate), migrateText(now.Migrate))
	if len(d.changes) > from || now.Migrate.Policy != MigrateStay {
		d.inside(old, now, reworked)
	}
}

func plainCaptions(list []caption) string {
	parts := make([]string, len(list))
	for i, c := range list {
		parts[i] = c.text
	}
	return strings.Join(parts, ", ")
}

func reentryText(j *Journey) string {
	if j.Cooldown > 0 {
		return "after " + segment.FormatDuration(j.Cooldown)
	}
	return string(j.Reentry)
}

func goalText(j *Journey) string {
	if j.Goal == nil {
		return ""
	}
	return plainCaptions(j.Goal.texts())
}

func migrateText(m Migration) string {
	parts := []string{string(m.Policy)}
	for _, from := range slices.Sorted(maps.Keys(m.Steps)) {
		parts = append(parts, from+" → "+m.Steps[from])
	}
	return strings.Join(parts, " ")
}

func (d *differ) exits(old, now *Journey) {
	rules := func(j *Journey) map[string]Exit {
		m := make(map[string]Exit)
		for _, e := range j.Exits {
			m[plainCaptions(e.texts())] = e
		}
		return m
	}
	was, is := rules(old), rules(now)
	for _, text := range union(was, is) {
		if _, ok := was[text]; !ok {
			d.add(Change{Kind: "journey", Key: now.Key, What: "exit rule added", New: text, Severity: Info})
		}
		if _, ok := is[text]; !ok {
			d.add(Change{Kind: "journey", Key: now.Key, What: "exit rule removed", Old: text, Severity: Info})
		}
	}
}

func (d *differ) steps(old, now *Journey) {
	oldPlaces, newPlaces := d.before.places(old), d.after.places(now)
	moved := movedSteps(old, now, oldPlaces, newPlaces)
	for _, key := range old.Order {
		if now.Steps[key] == nil {
			d.add(Change{Kind: "step", Key: now.Key + "/" + key, What: "removed", Old: d.before.stepText(old.Steps[key]), Severity: Info, Hint: unnamed(key)})
		}
	}
	for _, key := range now.Order {
		before, after := old.Steps[key], now.Steps[key]
		c := Change{Kind: "step", Key: now.Key + "/" + key, Severity: Info, Hint: unnamed(key)}
		switch {
		case before == nil:
			c.What, c.New = "added "+newPlaces[key].text, d.after.stepText(after)
			d.add(c)
			continue
		case before.Kind != after.Kind:
			c.What = "kind changed"
			d.setting(c, d.before.stepText(before), d.after.stepText(after))
			continue
		}
		was, is := d.before.fieldsOf(before), d.after.fieldsOf(after)
		for i := range was {
			if was[i].name == "expire" && before.Expire == d.before.Expire && after.Expire == d.after.Expire {
				continue // the playbook's own, told once
			}
			c.What = was[i].name + " changed"
			d.setting(c, was[i].value, is[i].value)
		}
		if moved[key] {
			c.What, c.Old, c.New = "moved", oldPlaces[key].text, newPlaces[key].text
			d.add(c)
		}
	}
}

var placeKey = regexp.MustCompile(`^s[0-9]+$|_timeout_[0-9]+$|_[0-9]+_[0-9]+$`)

// unnamed hints at ids where a key looks like the place of a step that has none.
func unnamed(key string) string {
	if !placeKey.MatchString(key) {
		return ""
	}
	return "it has no id of its own and is named by its place: give it one, so that it stays the same step when others come and go"
}

// field is one thing a step says, in words.
type field struct{ name, value string }

// fieldsOf lists what a step says; the same names in the same order for all steps of a kind.
func (p *Playbook) fieldsOf(s *Step) []field {
	switch s.Kind {
	case StepAction:
		return []field{{"action", s.Action}, {"with", plainJSON(s.With)}, {"expire", durationText(s.Expire)}}
	case StepDelay:
		return []field{{"delay", s.delayed()}}
	case StepWait:
		return []field{
			{"on", strings.Join(s.Events, ", ")}, {"where", filterText(s.Where)}, {"when", ruleText(s.When)}, {"up_to", durationText(s.Duration)},
		}
	case StepBranch, StepExperiment:
		var ways []string
		for _, e := range p.edges(s) {
			ways = append(ways, e.label.text)
		}
		if s.Kind == StepExperiment {
			ways = slices.Sorted(maps.Keys(s.Variants)) // weights are the experiment's
		}
		return []field{{"experiment", s.Experiment}, {"factor", s.Factor}, {"ways", strings.Join(ways, " | ")}}
	default:
		return []field{{"reason", s.Reason}}
	}
}

func filterText(f *segment.Filter) string {
	if f == nil {
		return ""
	}
	return oneLine(f.Source)
}

func ruleText(r *segment.Rule) string {
	if r == nil {
		return ""
	}
	return oneLine(r.Source)
}

func (p *Playbook) stepText(s *Step) string {
	parts := []string{string(s.Kind)}
	for _, f := range p.fieldsOf(s) {
		if f.value != "" && f.value != "null" {
			parts = append(parts, f.name+": "+f.value)
		}
	}
	return strings.Join(parts, ", ")
}

// position is where a step stands: in which arm of which step, and behind which.
type position struct {
	arm  string // of a step, by its label; empty: not in one
	text string
}

// places finds where each step stands.
func (p *Playbook) places(j *Journey) map[string]position {
	places := make(map[string]position)
	meets := p.meetings(j)
	var walk func(key, stop, arm, armText string)
	walk = func(key, stop, arm, armText string) {
		behind := "first" + armText
		for key != stop && key != "" {
			if _, seen := places[key]; seen {
				return
			}
			places[key] = position{arm, behind}
			s := j.Steps[key]
			if edges := p.edges(s); len(edges) > 1 {
				for _, e := range edges {
					label := strings.TrimSpace(string(e.kind) + " " + armName(e))
					walk(e.to, meets[key], key+"/"+label, " in "+key+", "+label)
				}
			}
			behind = "behind " + key
			key = meets[key]
		}
	}
	walk(j.First, "", "", "")
	return places
}

// armName tells the arms of a step apart. Neither a weight nor a time belongs to it: they change and the arm stays.
func armName(e edge) string {
	switch e.kind {
	case edgeVariant:
		name, _, _ := strings.Cut(e.label.text, " ")
		return name
	case edgeBranch:
		return e.label.text
	default:
		return ""
	}
}

// movedSteps finds the steps of both versions that stand elsewhere: in another arm that both versions have, or in another
// order among the steps of both.
func movedSteps(old, now *Journey, oldPlaces, newPlaces map[string]position) map[string]bool {
	moved := make(map[string]bool)
	arms := func(places map[string]position) map[string]bool {
		set := map[string]bool{"": true}
		for _, p := range places {
			set[p.arm] = true
		}
		return set
	}
	oldArms, newArms := arms(oldPlaces), arms(newPlaces)
	both := func(order []string, other *Journey) []string {
		return slices.DeleteFunc(slices.Clone(order), func(key string) bool { return other.Steps[key] == nil })
	}
	a, b := both(old.Order, now), both(now.Order, old)
	kept := commonOrder(a, b)
	for _, key := range b {
		was, is := oldPlaces[key].arm, newPlaces[key].arm
		moved[key] = !kept[key] || was != is && newArms[was] && oldArms[is]
	}
	return moved
}

// commonOrder finds a longest list of keys that stand in the same order in a and in b, which hold the same keys.
func commonOrder(a, b []string) map[string]bool {
	at := make(map[string]int)
	for i, key := range a {
		at[key] = i
	}
	length, before := make([]int, len(b)), make([]int, len(b))
	last := -1
	for i := range b {
		length[i], before[i] = 1, -1
		for k := range i {
			if at[b[k]] < at[b[i]] && length[k] >= length[i] {
				length[i], before[i] = length[k]+1, k
			}
		}
		if last < 0 || length[i] > length[last] {
			last = i
		}
	}
	kept := make(map[string]bool)
	for ; last >= 0; last = before[last] {
		kept[b[last]] = true
	}
	return kept
}

// inside says what becomes of the users who are in the journey. reworked: the journey itself is another one.
func (d *differ) inside(old, now *Journey, reworked bool) {
	c := Change{Kind: "inside", Key: now.Key, Severity: Info}
	switch now.Migrate.Policy {
	case MigrateStay:
		if reworked {
			c.What = "those inside stay: they finish by the version they entered"
			d.add(c)
		}
	case MigrateExit:
		c.What = "those inside stay: migrate: exit ends them only where the journey itself is another one"
		if reworked {
			c.What, c.Severity, c.Hint = "those inside end, with reason version_ended", Warning, "onramp apply says how many they are"
		}
		d.add(c)
	case MigrateMove:
		d.move(old, now)
	}
}

// move says where those inside go on. Users stand at waits and delays, and at actions that quiet hours hold back.
func (d *differ) move(old, now *Journey) {
	for _, from := range slices.Sorted(maps.Keys(now.Migrate.Steps)) {
		if old.Steps[from] == nil {
			d.add(Change{
				Kind: "inside", Key: now.Key + "/" + from, What: "migrate names a step that the old version does not have", Severity: Warning,
				Hint: "harmless where a version before that had it; otherwise a misspelling",
			})
		}
	}
	for _, key := range old.Order {
		from := old.Steps[key]
		if !d.before.rests(from) {
			continue
		}
		to, mapped := now.Migrate.Steps[key]
		if !mapped {
			to = key
		}
		d.moveStep(now, from, now.Steps[to], mapped)
	}
}

// rests reports whether users can stand at a step for a time.
func (p *Playbook) rests(s *Step) bool {
	switch s.Kind {
	case StepWait, StepDelay:
		return true
	case StepAction:
		return p.Quiet != nil && p.Actions[s.Action].Quiet == QuietHold
	default:
		return false
	}
}

func (d *differ) moveStep(now *Journey, from, to *Step, mapped bool) {
	c := Change{Kind: "inside", Key: now.Key + "/" + from.Key, Severity: Info}
	switch {
	case to == nil:
		c.What, c.Severity = "those who stand here end, with reason step_removed", Breaking
		c.Hint = fmt.Sprintf("map it, if they should go on: migrate: {move: {%s: new_step}}", from.Key)
	case mapped || to.Kind != from.Kind:
		c.What = "those who stand here go on at " + to.Key
		if to.Kind != StepWait && to.Kind != StepDelay {
			c.Hint = "which happens at once"
		}
	case shorter(from, to):
		c.What, c.Severity = "those who began longer ago than "+segment.FormatDuration(to.Duration)+" go on at once", Warning
	default:
		return
	}
	d.add(c)
}

func shorter(from, to *Step) bool {
	return from.Duration > to.Duration && to.Duration > 0 && from.Duration-to.Duration >= time.Second/1000
}
