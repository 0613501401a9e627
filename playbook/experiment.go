package playbook

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/experiment"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

// Experiment is a comparison whose definition does not change while it runs. What is behind Holdout says who enters and how it
// is read; it moves nobody between arms.
type Experiment struct {
	experiment.Experiment
	Description string
	Holdout     string              // the variant whose users go on behind the experiment; empty: none
	Namespace   *Namespace          // which Filters, or the older Namespace of the embedded experiment, carries out; nil: none
	Factors     []experiment.Factor // of a factorial flow, in order; empty: the variants stand for themselves
	Levels      map[string]map[string]string
	Control     string   // what the others are compared with, and the way of those who are not in the experiment
	Primary     string   // the metric that decides; empty: none
	Metrics     []string // keys, the primary one among them
	Segments    []string // by which the results are split
	Covariates  []string // traits at the exposure that adjust the effects
	Alpha       float64  // 0: the default
	NStar       float64  // 0: the default
	Correction  experiment.Correction
	Planned     int    // users of all arms it was planned for; 0: no plan
	Decide      Decide // what may be decided by the figures
}

// Namespace is a line from 0 to 1 on which experiments share out the users: each takes a range, and every user stands at one place.
type Namespace struct {
	Name        string
	Range       experiment.Range
	HashVersion int // 1: GrowthBook's namespace; 2: its filter
}

// seed is what places users.
func (n *Namespace) seed() string {
	if n.HashVersion == experiment.HashV1 {
		return "__" + n.Name
	}
	return n.Name
}

// Place is where a user stands, in [0, 1).
func (n *Namespace) Place(token string) float64 {
	place, _ := experiment.Hash(n.seed(), token, n.HashVersion)
	return place
}

// MaxForced is how many users an experiment may name.
const MaxForced = 100

func experimentKeys() []string {
	return []string{
		"description", "variants", "coverage", "seed", "hash_version", "holdout", "namespace", "forced", "factors", "control", "primary", "metrics",
		"segments", "covariates", "alpha", "n_star", "correction", "planned", "decide",
	}
}

func (c *compiler) experiments(node *yaml.Node) {
	pairs := c.mapping(node, "experiments")
	for _, p := range pairs {
		key := c.key(p.key, "experiment")
		f := c.fields(p.value, "experiment "+key, experimentKeys()...)
		e := &Experiment{Description: c.text(f["description"], "description")}
		e.Key, e.Seed = key, c.text(f["seed"], "seed")
		if e.Seed == "" {
			e.Seed = key
		}
		e.HashVersion, e.Coverage = 2, 1
		if f["hash_version"] != nil {
			e.HashVersion = c.integer(f["hash_version"], "hash_version", 1, 2)
		}
		c.coverage(f["coverage"], e)
		if !c.arms(p.key, e, f) {
			continue
		}
		if err := e.Validate(); err != nil {
			c.fail(cmp.Or(f["variants"], f["factors"]), "experiment %s: %v", key, err)
		}
		e.Holdout, e.Control = c.variant(f["holdout"], e, "to hold out"), c.variant(f["control"], e, "to compare with")
		if e.Control == "" {
			e.Control = e.Variants[0].Key
			if e.has("control") {
				e.Control = "control"
			}
		}
		if key == HoldoutKey {
			c.fail(p.key, "no experiment can be named %s: the playbook's own holdout goes by that name", key)
		}
		c.forced(f["forced"], e)
		c.namespace(f["namespace"], e)
		c.readings(f, e)
		c.playbook.Experiments[key] = e
	}
	c.exclusive(pairs)
	c.allocations(pairs)
}

func (e *Experiment) has(variant string) bool {
	return slices.ContainsFunc(e.Variants, func(v experiment.Variant) bool { return v.Key == variant })
}

// arms reads the variants, or makes them of factors. It reports whether there are any.
func (c *compiler) arms(key *yaml.Node, e *Experiment, f map[string]*yaml.Node) bool {
	switch {
	case f["variants"] != nil && f["factors"] != nil:
		c.fail(f["factors"], "an experiment has variants or factors, not both: factors make the variants")
	case f["factors"] != nil:
		c.factors(f["factors"], e)
	case f["variants"] != nil:
		e.Variants = c.weights(f["variants"], "variants", "variant")
	default:
		c.fail(key, "experiment %s needs variants, such as {control: 0.5, treatment: 0.5}", e.Key)
	}
	return len(e.Variants) > 0
}

func (c *compiler) weights(node *yaml.Node, what, one string) []experiment.Variant {
	var list []experiment.Variant
	for _, v := range c.mapping(node, what) {
		var weight float64
		if err := v.value.Decode(&weight); err != nil {
			c.fail(v.value, "the weight of %s must be a number", v.key.Value)
		}
		list = append(list, experiment.Variant{Key: c.key(v.key, one), Weight: weight})
	}
	return list
}

// factors makes a variant of each combination of levels.
func (c *compiler) factors(node *yaml.Node, e *Experiment) {
	const most = 64
	cells := 1
	for _, p := range c.mapping(node, "factors") {
		factor := experiment.Factor{Key: c.key(p.key, "factor"), Levels: c.weights(p.value, "factor "+p.key.Value, "level")}
		sum := 0.0
		for _, l := range factor.Levels {
			sum += l.Weight
		}
		if len(factor.Levels) < 2 || math.Abs(sum-1) > 1e-9 {
			c.fail(p.key, "factor %s needs at least 2 levels whose weights sum to 1, such as {short: 0.5, long: 0.5}", factor.Key)
		}
		cells *= max(len(factor.Levels), 1)
		e.Factors = append(e.Factors, factor)
	}
	if len(e.Factors) < 2 || cells > most {
		c.fail(node, "factors are 2 or more, and make at most %d variants; a single one is an experiment with variants", most)
		return
	}
	e.Levels = make(map[string]map[string]string)
	for _, cell := range (experiment.Factorial{Key: e.Key, Factors: e.Factors}).Cells() {
		if !keyShape.MatchString(cell.Key) {
			c.fail(node, "the variant %s has a name longer than 63 characters: give the levels shorter ones", cell.Key)
		}
		e.Variants = append(e.Variants, cell.Variant)
		e.Levels[cell.Key] = make(map[string]string, len(cell.Levels))
		for i, level := range cell.Levels {
			e.Levels[cell.Key][e.Factors[i].Key] = level
		}
	}
}

// variant reads the key of one of the variants.
func (c *compiler) variant(node *yaml.Node, e *Experiment, what string) string {
	if node == nil {
		return ""
	}
	key := c.text(node, "variant")
	if !e.has(key) {
		c.misspelled(node, key, variantKeys(e), "experiment %s has no variant %q %s", e.Key, key, what)
	}
	return key
}

func (c *compiler) coverage(node *yaml.Node, e *Experiment) {
	if node == nil {
		return
	}
	if err := node.Decode(&e.Coverage); err != nil || !(e.Coverage > 0 && e.Coverage <= 1) { // written so that NaN is refused too
		e.Coverage = 1
		c.fail(node, "coverage must be a number in (0, 1]")
	}
}

// forced reads variants by user token. A raw id has no place in a file that goes into version control, and the workflow of a user
// does not know it.
func (c *compiler) forced(node *yaml.Node, e *Experiment) {
	if node == nil {
		return
	}
	pairs := c.mapping(node, "forced")
	if len(pairs) > MaxForced {
		c.fail(node, "at most %d users are forced", MaxForced)
	}
	e.ForcedUsers = make(map[string]string, len(pairs))
	for _, p := range pairs {
		if schema.CheckToken(p.key.Value) != nil {
			c.fail(p.key, "forced names users by token, not by their id: `onramp explain USER` shows it, u and 26 more characters")
		}
		e.ForcedUsers[p.key.Value] = c.variant(p.value, e, "to force")
	}
}

func (c *compiler) namespace(node *yaml.Node, e *Experiment) {
	if node == nil {
		return
	}
	f := c.fields(node, "namespace", "name", "range", "hash_version")
	n := &Namespace{HashVersion: experiment.HashV2}
	if f["name"] == nil || f["range"] == nil {
		c.fail(node, "namespace needs name and range, such as {name: onboarding, range: [0, 0.5]}")
		return
	}
	n.Name = c.key(f["name"], "namespace")
	if f["hash_version"] != nil {
		n.HashVersion = c.integer(f["hash_version"], "hash_version", 1, 2)
	}
	var ends []float64
	if err := f["range"].Decode(&ends); err != nil || len(ends) != 2 || !(ends[0] >= 0 && ends[0] < ends[1] && ends[1] <= 1) {
		c.fail(f["range"], "range must be two growing numbers from 0 to 1, such as [0, 0.5]")
		return
	}
	n.Range = experiment.Range{Start: ends[0], End: ends[1]}
	if e.Seed == n.seed() {
		c.fail(node, "the seed %s is that of the namespace: everybody in the range would get the same variant", e.Seed)
	}
	e.Namespace = n
	if n.HashVersion == experiment.HashV1 {
		e.Experiment.Namespace = experiment.Namespace{Key: n.Name, Range: n.Range}
		return
	}
	e.Filters = []experiment.Filter{{Seed: n.seed(), HashVersion: n.HashVersion, Ranges: []experiment.Range{n.Range}}}
}

// exclusive checks that the experiments of a namespace share it out.
func (c *compiler) exclusive(pairs []pair) {
	for i, p := range pairs {
		e := c.playbook.Experiments[p.key.Value]
		if e == nil || e.Namespace == nil {
			continue
		}
		for _, q := range pairs[:i] {
			other := c.playbook.Experiments[q.key.Value]
			if other == nil || other.Namespace == nil || other.Namespace.Name != e.Namespace.Name {
				continue
			}
			mine, theirs := e.Namespace, other.Namespace
			switch {
			case mine.HashVersion != theirs.HashVersion:
				c.fail(p.key, "experiments %s and %s share namespace %s with different hash versions: a user could meet both", other.Key, e.Key, mine.Name)
			case max(mine.Range.Start, theirs.Range.Start) < min(mine.Range.End, theirs.Range.End):
				c.fail(p.key, "experiments %s and %s overlap in namespace %s: a user could meet both", other.Key, e.Key, mine.Name)
			}
		}
	}
}

// readings reads how the experiment is to be read: what was decided before its data.
func (c *compiler) readings(f map[string]*yaml.Node, e *Experiment) {
	for _, n := range c.texts(f["metrics"], "metrics") {
		if slices.Contains(e.Metrics, n.Value) {
			c.fail(n, "metric %s stands twice", n.Value)
			continue
		}
		c.named(n, e)
		e.Metrics = append(e.Metrics, n.Value)
	}
	c.primary(f["primary"], e)
	for _, n := range c.texts(f["segments"], "segments") {
		e.Segments = append(e.Segments, c.checkSegment(n))
	}
	for _, n := range c.texts(f["covariates"], "covariates") {
		declared, ok := c.playbook.Plan.Traits[n.Value]
		switch {
		case !ok:
			c.misspelled(n, n.Value, slices.Sorted(maps.Keys(c.playbook.Plan.Traits)), "%q is not a declared trait", n.Value)
		case declared != segment.Int && declared != segment.Number && declared != segment.Bool:
			c.fail(n, "trait %s is a %s; effects are adjusted on int, number and bool", n.Value, declared)
		case slices.Contains(e.Covariates, n.Value):
			c.fail(n, "trait %s stands twice", n.Value)
		}
		e.Covariates = append(e.Covariates, n.Value)
	}
	if 2*len(e.Covariates)+1 > experiment.MaxCovariates { // each may need a column for users without it, and a metric one of its own
		c.fail(f["covariates"], "at most %d traits adjust an experiment", (experiment.MaxCovariates-1)/2)
	}
	c.settings(f, e)
}

func (c *compiler) primary(node *yaml.Node, e *Experiment) {
	if node != nil {
		e.Primary = c.text(node, "primary")
		if m := c.named(node, e); m != nil && m.Margin > 0 {
			c.fail(node, "metric %s is a guardrail: it cannot decide too", e.Primary)
		}
		if !slices.Contains(e.Metrics, e.Primary) {
			e.Metrics = slices.Insert(e.Metrics, 0, e.Primary)
		}
		return
	}
	for _, key := range e.Metrics {
		if m := c.playbook.Metrics[key]; m != nil && m.Margin == 0 {
			e.Primary = key
			return
		}
	}
}

// named returns the metric that a text names, and reports one that is not there.
func (c *compiler) named(node *yaml.Node, e *Experiment) *Metric {
	m := c.playbook.Metrics[node.Value]
	if m == nil {
		known := slices.Sorted(maps.Keys(c.playbook.Metrics))
		c.misspelled(node, node.Value, known, "experiment %s: metric %q is not defined; defined are: %s", e.Key, node.Value, strings.Join(known, ", "))
	}
	return m
}

func (c *compiler) settings(f map[string]*yaml.Node, e *Experiment) {
	if n := f["alpha"]; n != nil {
		if err := n.Decode(&e.Alpha); err != nil || !(e.Alpha >= 1e-6 && e.Alpha <= 0.5) { // written so that NaN is refused too
			c.fail(n, "alpha is the chance of a wrong claim: a number from 0.000001 to 0.5, usually 0.05")
		}
	}
	if n := f["n_star"]; n != nil {
		if err := n.Decode(&e.NStar); err != nil || !(e.NStar >= 1 && e.NStar <= 1e12) {
			c.fail(n, "n_star is the number of users at which the intervals are tightest: at least 1")
		}
	}
	e.Planned = c.integer(f["planned"], "planned", 1, 1_000_000_000)
	known := map[string]experiment.Correction{
		"": experiment.CorrectionHolm, "holm": experiment.CorrectionHolm,
		"benjamini_hochberg": experiment.CorrectionBH, "benjamini_yekutieli": experiment.CorrectionBY,
	}
	correction, ok := known[c.text(f["correction"], "correction")]
	if !ok {
		c.fail(f["correction"], "correction must be holm, benjamini_hochberg or benjamini_yekutieli")
	}
	e.Correction = correction
	c.decide(f["decide"], e)
}

// MetricsOf returns the metrics an experiment is read by, the primary one first. Where it names none, these are the goals of the
// journeys it stands in, as far as they look at one event alone.
func (p *Playbook) MetricsOf(key string) []*Metric {
	e := p.Experiments[key]
	if e == nil {
		return nil
	}
	var list []*Metric
	for _, name := range e.Metrics {
		if m := p.Metrics[name]; m != nil {
			list = append(list, m)
		}
	}
	slices.SortStableFunc(list, func(a, b *Metric) int {
		switch {
		case a.Key == e.Primary:
			return -1
		case b.Key == e.Primary:
			return 1
		}
		return 0
	})
	if len(list) > 0 {
		return list
	}
	return p.goalMetrics(key)
}

func (p *Playbook) goalMetrics(key string) []*Metric {
	var list []*Metric
	for _, j := range p.Journeys {
		stands := slices.ContainsFunc(j.Order, func(step string) bool { return j.Steps[step].Experiment == key })
		if !stands || j.Goal == nil || slices.ContainsFunc(list, func(m *Metric) bool { return m.Key == "goal_"+j.Key }) {
			continue
		}
		if j.Goal.Where != nil {
			if _, err := j.Goal.Where.SQL("properties"); err != nil {
				continue
			}
		}
		list = append(list, &Metric{
			Key: "goal_" + j.Key, Kind: MetricProportion, Description: "The goal of the journey " + j.Key + ".",
			Value: Measure{Of: MeasureCount, Events: []string{j.Goal.Event}, Where: j.Goal.Where}, To: j.Goal.Within,
		})
	}
	return list
}

// ByFlag lists the experiments that no journey's step names, in the order of their keys: nobody meets them but through their flag.
func (p *Playbook) ByFlag() []*Experiment {
	stands := make(map[string]bool)
	for _, j := range p.Journeys {
		for _, step := range j.Steps {
			stands[step.Experiment] = true
		}
	}
	var list []*Experiment
	for _, key := range slices.Sorted(maps.Keys(p.Experiments)) {
		if !stands[key] {
			list = append(list, p.Experiments[key])
		}
	}
	return list
}
