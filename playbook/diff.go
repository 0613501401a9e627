package playbook

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/segment"
)

// Severity says how much a change asks of whoever applies it.
type Severity string

// The severities.
const (
	Info     Severity = "info"     // takes effect as one would expect
	Warning  Severity = "warning"  // has a consequence that is easily overlooked
	Breaking Severity = "breaking" // loses people, data or a comparison unless something else is done too
)

// Change is one difference between two playbooks. Kind and Key name the thing: `segment` and `at_risk`, `step` and
// `welcome/nudge`. Old and New hold what stood and stands there; empty where the thing was added or removed.
type Change struct {
	Kind     string   `json:"kind"`
	Key      string   `json:"key"`
	What     string   `json:"what"`
	Old      string   `json:"old,omitempty"`
	New      string   `json:"new,omitempty"`
	Severity Severity `json:"severity"`
	Hint     string   `json:"hint,omitempty"` // what follows from it, and what to do
}

// differ gathers changes.
type differ struct {
	before, after *Playbook
	oldUses       []use
	newUses       []use
	changes       []Change
}

// Diff lists what changes when after comes into force in place of before, section by section, and what that means for the users
// who are inside a journey. Both must have been compiled with the same scale.
func Diff(before, after *Playbook) []Change {
	if before.Hash == after.Hash {
		return nil
	}
	d := &differ{before: before, after: after, oldUses: before.uses(), newUses: after.uses()}
	d.setting(Change{Kind: "playbook", Key: after.Name, What: "name changed", Severity: Warning}, before.Name, after.Name)
	d.plan()
	d.segments()
	d.selections()
	d.metrics()
	d.experiments()
	d.restraints()
	d.actions()
	d.journeys()
	if len(d.changes) == 0 {
		d.add(Change{
			Kind: "playbook", Key: after.Name, What: "text changed", Old: before.Hash, New: after.Hash, Severity: Info,
			Hint: "comments, or the order of things: nothing works differently",
		})
	}
	return d.changes
}

func (d *differ) add(c Change) { d.changes = append(d.changes, c) }

// setting adds c where two texts differ.
func (d *differ) setting(c Change, before, after string) {
	if before != after {
		c.Old, c.New = before, after
		d.add(c)
	}
}

// described reports a changed description of a thing that stood and stands there.
func (d *differ) described(kind, key, before, after string) {
	d.setting(Change{Kind: kind, Key: key, What: "description changed", Severity: Info}, before, after)
}

// union lists the keys of both maps, sorted.
func union[V, W any](a map[string]V, b map[string]W) []string {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(a)), maps.Keys(b))
	slices.Sort(keys)
	return slices.Compact(keys)
}

// presence tells a thing that was added or removed from one that stands in both. It returns whether the latter holds.
func presence[V any](d *differ, before, after map[string]V, key string, added, removed Change) bool {
	_, was := before[key]
	_, is := after[key]
	switch {
	case !was:
		added.What = "added"
		d.add(added)
	case !is:
		removed.What = "removed"
		d.add(removed)
	}
	return was && is
}

func (d *differ) plan() {
	old, now := d.before.Plan, d.after.Plan
	for _, name := range union(old.Events, now.Events) {
		both := presence(d, old.Events, now.Events, name,
			Change{Kind: "event", Key: name, Severity: Info}, d.removedEvent(name))
		if !both {
			continue
		}
		d.described("event", name, old.Docs[name].Description, now.Docs[name].Description)
		d.properties(name)
	}
	for _, name := range union(old.Traits, now.Traits) {
		d.trait(name)
	}
	for _, key := range union(old.Scores, now.Scores) {
		if presence(d, old.Scores, now.Scores, key, Change{Kind: "score", Key: key, Severity: Info}, Change{Kind: "score", Key: key, Severity: Warning}) {
			d.described("score", key, old.Scores[key], now.Scores[key])
		}
	}
	d.setting(Change{
		Kind: "zone", Key: "zone", What: "changed", Severity: Warning,
		Hint: "calendar days, local times and quiet hours shift; days counted so far stay where they were",
	}, zoneText(old.Zone), zoneText(now.Zone))
}

func zoneText(z segment.Zone) string {
	location := "UTC"
	if z.Default != nil {
		location = z.Default.String()
	}
	if z.Trait == "" {
		return location
	}
	return "traits." + z.Trait + ", else " + location
}

// staying lists the places in journeys of the old version that hold on to something because those inside may finish by it.
func (d *differ) staying(reads func(*use) bool) []string {
	return readers(d.oldUses, func(u *use) bool { return u.journey != "" && d.stays(u.journey) && reads(u) })
}

// stays reports whether those inside a journey of the old version finish by it.
func (d *differ) stays(key string) bool {
	j := d.after.Journey(key)
	return j == nil || j.Migrate.Policy == MigrateStay
}

// stillRead hints at what those who stay in the old version go on reading.
func stillRead(places []string) string {
	return "have it sent until those who stay in the old version are through: " + some(places)
}

func (d *differ) removedEvent(name string) Change {
	c := Change{Kind: "event", Key: name, Severity: Warning, Hint: "services that still send it: it goes to the archive alone"}
	if held := d.staying(func(u *use) bool { return u.readsEvent(name) }); len(held) > 0 {
		c.Hint = stillRead(held)
	}
	return c
}

func (d *differ) properties(event string) {
	old, now := d.before.Plan.Events[event], d.after.Plan.Events[event]
	oldDoc, newDoc := d.before.Plan.Docs[event], d.after.Plan.Docs[event]
	for _, name := range union(old, now) {
		key := event + "." + name
		required := slices.Contains(newDoc.Required, name)
		added := Change{Kind: "property", Key: key, New: string(now[name]), Severity: Info}
		if required {
			added.Severity, added.Hint = Breaking, newlyRequired
		}
		reads := func(u *use) bool { return u.readsProperty(event, name) }
		removed := Change{Kind: "property", Key: key, Old: string(old[name]), Severity: Info}
		if held := d.staying(reads); len(held) > 0 {
			removed.Severity, removed.Hint = Warning, stillRead(held)
		}
		if !presence(d, old, now, name, added, removed) {
			continue
		}
		d.retyped("property", key, old[name], now[name], readers(d.newUses, reads))
		was := slices.Contains(oldDoc.Required, name)
		switch {
		case required && !was:
			d.add(Change{Kind: "property", Key: key, What: "is required now", Severity: Breaking, Hint: newlyRequired})
		case was && !required:
			d.add(Change{Kind: "property", Key: key, What: "is not required any more", Severity: Info})
		}
		d.described("property", key, oldDoc.Properties[name], newDoc.Properties[name])
	}
}

const newlyRequired = "have every service send it before this is applied"

// retyped tells of a changed type. What reads it finds a value of the old type missing.
func (d *differ) retyped(kind, key string, before, after segment.Type, readBy []string) {
	if before == after {
		return
	}
	c := Change{
		Kind: kind, Key: key, What: "type changed", Old: string(before), New: string(after), Severity: Warning,
		Hint: "no rule reads it; services must send the new type",
	}
	switch {
	case before == segment.Int && after == segment.Number:
		c.Hint = "whole numbers stay readable"
	case len(readBy) > 0:
		c.Severity = Breaking
		c.Hint = "values of the old type count as missing, so that what reads it is unknown until the new type comes: " + some(readBy)
	}
	d.add(c)
}

func (d *differ) trait(name string) {
	old, now := d.before.Plan.Traits, d.after.Plan.Traits
	if _, score := d.before.Plan.Scores[strings.TrimPrefix(name, segment.ScoreTrait(""))]; score && strings.HasPrefix(name, segment.ScoreTrait("")) {
		return // told as a score
	}
	if _, score := d.after.Plan.Scores[strings.TrimPrefix(name, segment.ScoreTrait(""))]; score && strings.HasPrefix(name, segment.ScoreTrait("")) {
		return
	}
	reads := func(u *use) bool { return u.readsTrait(name) }
	removed := Change{Kind: "trait", Key: name, Old: string(old[name]), Severity: Info}
	if held := d.staying(reads); len(held) > 0 {
		removed.Severity, removed.Hint = Warning, stillRead(held)
	}
	if presence(d, old, now, name, Change{Kind: "trait", Key: name, New: string(now[name]), Severity: Info}, removed) {
		d.retyped("trait", name, old[name], now[name], readers(d.newUses, reads))
		d.described("trait", name, d.before.Plan.TraitDocs[name], d.after.Plan.TraitDocs[name])
	}
}

// some joins places, the first few of them.
func some(places []string) string {
	const most = 4
	if len(places) > most {
		return strings.Join(places[:most], "; ") + fmt.Sprintf("; and %d more", len(places)-most)
	}
	return strings.Join(places, "; ")
}

func (d *differ) segments() {
	byKey := func(p *Playbook) map[string]*Segment {
		m := make(map[string]*Segment)
		for i := range p.Segments {
			m[p.Segments[i].Key] = &p.Segments[i]
		}
		return m
	}
	old, now := byKey(d.before), byKey(d.after)
	for _, key := range union(old, now) {
		added := Change{Kind: "segment", Key: key, Severity: Info}
		removed := Change{Kind: "segment", Key: key, Severity: Info}
		if s := now[key]; s != nil {
			added.New, added.Hint = oneLine(s.Rule.Source), d.moves(key, true)
		}
		if added.Hint != "" {
			added.Severity = Warning
		}
		if s := old[key]; s != nil {
			removed.Old = oneLine(s.Rule.Source)
		}
		if held := d.staying(func(u *use) bool { return u.readsSegment(key) }); len(held) > 0 {
			removed.Severity = Breaking
			removed.Hint = "for those who stay in the old version nobody is in it any more, so keep it until they are through, or migrate them: " + some(held)
		}
		if !presence(d, old, now, key, added, removed) {
			continue
		}
		before, after := oneLine(old[key].Rule.Source), oneLine(now[key].Rule.Source)
		hint := "everybody is judged anew when this is applied"
		if more := d.moves(key, false); more != "" {
			hint += ": " + more
		}
		d.setting(Change{Kind: "segment", Key: key, What: "rule changed", Severity: Warning, Hint: hint}, before, after)
		d.described("segment", key, old[key].Description, now[key].Description)
	}
}

// selections tells of what rules count that nobody has counted so far: aggregates are kept only of what some rule asks for.
func (d *differ) selections() {
	kept := make(map[string]segment.Slot)
	for _, slot := range d.before.Set.Slots() {
		kept[slot.Key] = slot
	}
	for _, slot := range d.after.Set.Slots() {
		if slot.Event != "" && d.before.Plan.Events[slot.Event] == nil || slot.Trait != "" && d.before.Plan.Traits[slot.Trait] == "" {
			continue // nothing has happened yet that could be missing
		}
		old, was := kept[slot.Key]
		c := Change{Kind: "selection", Key: selectionText(slot), Severity: Warning}
		askedBy := some(readers(d.newUses, func(u *use) bool { return u.asksFor(slot) }))
		switch {
		case !was:
			c.What, c.Hint = "counted from here on", "what happened before is not in it: "+askedBy
			d.add(c)
		case slot.Window > old.Window:
			c.What = "looks further back"
			c.Hint = "it has seen everything only when that time has passed: " + askedBy
			d.setting(c, durationText(old.Window), durationText(slot.Window))
		}
	}
}

func selectionText(s segment.Slot) string {
	text := "events()"
	switch {
	case s.Trait != "":
		text = "changes(traits." + s.Trait + ")"
	case s.Event != "":
		text = fmt.Sprintf("events(%q)", s.Event)
	}
	if s.Where != "" {
		text += ".where(" + s.Where + ")"
	}
	if s.Property != "" {
		text += ", e." + s.Property
	}
	return text
}

// moves says which journeys a segment lets users into and out of, for when many memberships change at once.
func (d *differ) moves(key string, fresh bool) string {
	var in, out []string
	for _, j := range d.after.Journeys {
		if j.Enter.Segment == key || j.Enter.Left == key && !fresh {
			in = append(in, j.Key)
		}
		if slices.ContainsFunc(j.Exits, func(e Exit) bool { return e.Entered == key || e.Left == key && !fresh }) {
			out = append(out, j.Key)
		}
	}
	var parts []string
	if len(in) > 0 {
		parts = append(parts, "whom that moves may enter "+strings.Join(in, ", "))
	}
	if len(out) > 0 {
		parts = append(parts, "whom that moves may leave "+strings.Join(out, ", "))
	}
	text := strings.Join(parts, "; ")
	if fresh && text != "" {
		text = "everybody who is in it enters it when this is applied: " + text
	}
	return text
}

func (d *differ) experiments() {
	old, now := d.before.Experiments, d.after.Experiments
	for _, key := range union(old, now) {
		removed := Change{Kind: "experiment", Key: key, Severity: Warning, Hint: "its comparison ends here"}
		added := Change{Kind: "experiment", Key: key, Severity: Info}
		if e := now[key]; e != nil {
			added.New = weightsText(e)
		}
		if e := old[key]; e != nil {
			removed.Old = weightsText(e)
		}
		if presence(d, old, now, key, added, removed) {
			d.experiment(key, old[key], now[key])
		}
	}
}

const midFlight = "users who met it keep their variant, the others are spread anew: the comparison mixes two experiments. Give the new one a new key"

func (d *differ) experiment(key string, old, now *Experiment) {
	change := func(what string, severity Severity, hint string) Change {
		return Change{Kind: "experiment", Key: key, What: what, Severity: severity, Hint: hint}
	}
	d.setting(change("variants or weights changed", Breaking, midFlight+
		"; the sample ratio check of this one will fail"), weightsText(old), weightsText(now))
	d.setting(change("seed changed", Breaking, midFlight), old.Seed, now.Seed)
	d.setting(change("hash version changed", Breaking, midFlight), strconv.Itoa(old.HashVersion), strconv.Itoa(now.HashVersion))
	switch {
	case now.Coverage > old.Coverage:
		d.setting(change("coverage raised", Info, "more users take part; nobody changes the variant"), percent(old.Coverage), percent(now.Coverage))
	case now.Coverage < old.Coverage:
		d.setting(change("coverage lowered", Warning, "users who met it and fall outside go the way of control from here on, and still count for their variant"),
			percent(old.Coverage), percent(now.Coverage))
	}
	d.setting(change("holdout changed", Breaking, "the variant's users get something else from here on: the comparison mixes two experiments. Give the new one a new key"),
		old.Holdout, now.Holdout)
	d.reading(key, old, now)
	d.described("experiment", key, old.Description, now.Description)
}

// weightsText lists the variants in order, for the order decides who gets which.
func weightsText(e *Experiment) string {
	parts := make([]string, len(e.Variants))
	for i, v := range e.Variants {
		parts[i] = v.Key + " " + percent(v.Weight)
	}
	return strings.Join(parts, ", ")
}

func (d *differ) restraints() {
	for _, key := range union(d.before.Consent, d.after.Consent) {
		old, now := d.before.Consent[key], d.after.Consent[key]
		added := Change{Kind: "consent", Key: key, Severity: Warning, Hint: "actions of this category go only to those who pass"}
		if presence(d, d.before.Consent, d.after.Consent, key, added, Change{Kind: "consent", Key: key, Severity: Warning}) {
			d.setting(Change{Kind: "consent", Key: key, What: "rule changed", Severity: Warning, Hint: "have it checked by who answers for privacy"},
				oneLine(old.Source), oneLine(now.Source))
		}
	}
	d.setting(Change{Kind: "limit", Key: "limit", What: "changed", Severity: Warning, Hint: "counts for every journey at once; what was sent so far counts"},
		limitsText(d.before.Limits), limitsText(d.after.Limits))
	d.setting(Change{Kind: "quiet", Key: "quiet", What: "changed", Severity: Warning, Hint: "counts for every journey at once"},
		quietText(d.before.Quiet), quietText(d.after.Quiet))
	d.setting(Change{Kind: "expire", Key: "expire", What: "changed", Severity: Info, Hint: "for steps that name none"},
		durationText(d.before.Expire), durationText(d.after.Expire))
	d.setting(Change{
		Kind: "holdout", Key: "holdout", What: "changed", Severity: Breaking,
		Hint: "users move between the groups, those who were sent something among them: compare from the change on",
	}, holdoutText(d.before.Holdout), holdoutText(d.after.Holdout))
}

func limitsText(limits []Limit) string {
	parts := make([]string, len(limits))
	for i, l := range limits {
		per := segment.FormatDuration(l.Per)
		if l.Daily {
			per = "day"
		}
		parts[i] = strings.TrimSpace(fmt.Sprintf("%d per %s %s", l.Actions, per, l.Category))
	}
	return strings.Join(parts, ", ")
}

func quietText(q *segment.Span) string {
	if q == nil {
		return ""
	}
	return q.From.String() + " to " + q.To.String()
}

func durationText(length time.Duration) string {
	if length == 0 {
		return ""
	}
	return segment.FormatDuration(length)
}

func holdoutText(e *experiment.Experiment) string {
	if e == nil {
		return ""
	}
	return percent(e.Variants[0].Weight) + ", seed " + e.Seed
}

func (d *differ) actions() {
	for _, key := range union(d.before.Actions, d.after.Actions) {
		old, now := d.before.Actions[key], d.after.Actions[key]
		if !presence(d, d.before.Actions, d.after.Actions, key, Change{Kind: "action", Key: key, Severity: Info}, Change{Kind: "action", Key: key, Severity: Info}) {
			continue
		}
		change := func(what, hint string) Change {
			return Change{Kind: "action", Key: key, What: what, Severity: Warning, Hint: hint}
		}
		d.setting(change("delivery changed", "the new receiver must know the action before this is applied"), deliverText(old), deliverText(now))
		d.setting(change("category changed", "another consent is asked for, and other limits count"), old.Category, now.Category)
		d.setting(change("uncapped changed", "counts against the limit, or not"), strconv.FormatBool(old.Uncapped), strconv.FormatBool(now.Uncapped))
		d.setting(change("quiet changed", ""), string(old.Quiet), string(now.Quiet))
		d.described("action", key, old.Description, now.Description)
	}
}

func deliverText(a *Action) string {
	if a.Webhook == "" {
		return "nats"
	}
	return "webhook:" + a.Webhook
}
