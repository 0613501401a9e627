package experiment

// States of an analysis and of its metrics, beside those of numbers. None of them is readable.
const (
	StateNoUsers        State = "no_users"        // nobody met the experiment
	StateRemoved        State = "removed"         // the playbook no longer has the experiment: nothing says how to read it
	StateWeightsChanged State = "weights_changed" // users were let in under other weights too: the arms are not comparable over both times
	StateSeedChanged    State = "seed_changed"    // the seed or hash version changed in mid-flight: users changed arms
	StateUnseenEvent    State = "unseen_event"    // the event of the metric never came, from anybody
	StateNotEligible    State = "not_eligible"    // the window of the metric has not passed for any user of an arm
	StateNotReached     State = "not_reached"     // a quantile lies beyond the window: too few users have done it within
	StateMissing        State = "missing"         // no row of moments was handed over
)

// AnalysisSpec is what was decided about an experiment before its data came in.
type AnalysisSpec struct {
	Experiment  string       `json:"experiment"`
	Description string       `json:"description,omitempty"`
	Playbook    string       `json:"playbook,omitempty"` // content hash of the version the metrics are of
	Arms        []ArmSpec    `json:"arms"`               // in the order of the playbook
	Control     string       `json:"control"`
	Primary     string       `json:"primary,omitempty"` // key of the metric that decides
	Metrics     []MetricSpec `json:"metrics"`
	Segments    []string     `json:"segments,omitempty"`   // by which the results are split: membership at the exposure
	Covariates  []string     `json:"covariates,omitempty"` // traits at the exposure that adjust the effects
	Factors     []FactorSpec `json:"factors,omitempty"`
	Holdout     string       `json:"holdout,omitempty"` // the arm that gets nothing
	Alpha       float64      `json:"alpha"`             // chance of a wrong claim. Defaults to 0.05.
	NStar       float64      `json:"n_star"`            // users at which the always-valid intervals are tightest. Defaults to 5000.
	Correction  Correction   `json:"correction"`        // Defaults to CorrectionHolm.
	Planned     int64        `json:"planned,omitempty"` // users of all arms the experiment was planned for; zero: no plan
}

// ArmSpec is a variant and the share of the users it was meant to get.
type ArmSpec struct {
	Variant string            `json:"variant"`
	Weight  float64           `json:"weight"`
	Levels  map[string]string `json:"levels,omitempty"` // of each factor, where the variants are cells of a factorial flow
}

// FactorSpec is a factor of a factorial flow with its levels, in order. The first level is the one that others are compared with.
type FactorSpec struct {
	Factor string   `json:"factor"`
	Levels []string `json:"levels"`
}

// Role is what a metric is for.
type Role string

// The roles.
const (
	RolePrimary   Role = "primary"   // decides
	RoleSecondary Role = "secondary" // tells more
	RoleGuardrail Role = "guardrail" // must not lose more than its margin
)

// MetricSpec is a metric with what a reader needs to know of it.
type MetricSpec struct {
	Key           string   `json:"key"`
	Role          Role     `json:"role"`
	Shape         string   `json:"shape"`              // the kind in the playbook: proportion, mean, ratio, retention, funnel, quantile
	Kind          Kind     `json:"kind,omitempty"`     // how it is made of the moments; empty for a quantile
	Definition    string   `json:"definition"`         // in plain words: share of users with activated within 14d of the exposure
	Unit          string   `json:"unit,omitempty"`     // of the value, such as seconds; empty: a share of users
	LowerIsBetter bool     `json:"lower_is_better"`    //
	Margin        float64  `json:"margin,omitempty"`   // of a guardrail: the relative loss still accepted
	Columns       []string `json:"columns"`            // what each column of the moments holds; covariates last
	Covariates    int      `json:"covariates"`         // how many of the columns are covariates
	Quantile      float64  `json:"quantile,omitempty"` // of a quantile: which
	Censored      float64  `json:"censored,omitempty"` // of a quantile of times: the end of the window, the value of who never did it
	Steps         []string `json:"steps,omitempty"`    // of a funnel
}

func (m *MetricSpec) metric() Metric {
	return Metric{Key: m.Key, Kind: m.Kind, LowerIsBetter: m.LowerIsBetter, Margin: m.Margin, Covariates: m.Covariates}
}

// Row is what ClickHouse says of one metric, variant and segment; an empty segment is everybody.
type Row struct {
	Metric, Variant, Segment string
	Moments                  Moments
	Sample                   Sample // of a quantile, in place of Moments
	Query                    string // name of the query it came from
}

// UserCount is how many users of a segment met a variant first, those excluded left out.
type UserCount struct {
	Variant string
	Segment string // empty: everybody
	Users   int64
}

// Phase is a time with the same assignment: seed, hash version and weights as the exposures recorded them.
type Phase struct {
	Since       int64              `json:"since"` // Unix ms: first exposure
	Until       int64              `json:"until"` // Unix ms: last exposure
	Users       int64              `json:"users"`
	Seed        string             `json:"seed"`
	HashVersion int                `json:"hash_version"`
	Coverage    float64            `json:"coverage"`
	Weights     map[string]float64 `json:"weights"`
}

// LookRow is the moments of the primary metric as they stood at an earlier moment.
type LookRow struct {
	At      int64 // Unix ms
	Variant string
	Moments Moments
}

// StepRow is how many users of a variant reached a step of a funnel, in order and in time.
type StepRow struct {
	Metric, Variant, Step string
	Users                 int64
}

// AnalysisData is what was counted. The zero value is of an experiment nobody has met.
type AnalysisData struct {
	At       int64             // Unix ms: records up to here were counted
	Since    int64             // Unix ms: users exposed before were left out; zero: none
	Started  int64             // Unix ms: first exposure
	Removed  string            // why the experiment is taken for removed; empty: it is not
	Users    []UserCount       // per variant, overall and per segment
	Table    []Row             // per metric, variant and segment
	Steps    []StepRow         // of funnels
	Looks    []LookRow         // of the primary metric, in order of time; empty: no history is drawn
	Phases   []Phase           // in order of time
	Excluded []Exclusion       // users who are in no arm
	Unseen   map[string]string // metric → event that never came
	Caps     map[string]Cap    // metric → cap
	Queries  []Query
	Notices  []Notice
}

// Exclusion is users who met the experiment and are in no arm, for one reason.
type Exclusion struct {
	Reason string   `json:"reason"` // met_two_variants, unknown_variant, forced
	Why    string   `json:"why"`    // in words
	Users  int64    `json:"users"`
	Sample []string `json:"sample,omitempty"` // tokens of some of them
}

// Cap is the value that values were cut at: one for all arms together.
type Cap struct {
	Value      float64 `json:"value"`
	Percentile float64 `json:"percentile,omitempty"` // it was found at; zero: it was given
	Users      int64   `json:"users"`                // whose value was cut
}

// Query is a statement that was asked, as it can be asked again.
type Query struct {
	Name string `json:"name"`
	SQL  string `json:"sql"`
}

// Notice is something a reader must know before believing a number.
type Notice struct {
	Code    string `json:"code"` // such as late_events
	Message string `json:"message"`
	Metric  string `json:"metric,omitempty"`
	Users   int64  `json:"users,omitempty"`
}

// Analysis is all that one look says about an experiment. Nothing in it is NaN or infinite, and where a number means nothing the
// state beside it says why. Times are Unix milliseconds, shares and lifts are fractions: 0.15 is 15 %.
type Analysis struct {
	Spec     AnalysisSpec      `json:"spec"`
	At       int64             `json:"at"`                // records up to here were counted
	Since    int64             `json:"since,omitempty"`   // users exposed before were left out
	Started  int64             `json:"started,omitempty"` // first exposure
	State    State             `json:"state"`             // ok where results can be read at all
	Why      string            `json:"why,omitempty"`     // of a state that is not ok
	Verdict  Decision          `json:"verdict"`
	Arms     []ArmReading      `json:"arms"`
	Ratio    RatioReading      `json:"ratio"`
	Size     SizeReading       `json:"size"`
	Excluded []Exclusion       `json:"excluded"`
	Metrics  []MetricReading   `json:"metrics"` // the primary one first, guardrails last
	Factors  []FactorReading   `json:"factors,omitempty"`
	Joint    []JointReading    `json:"joint,omitempty"` // interactions of factors as a whole
	Looks    []Look            `json:"looks,omitempty"` // the primary metric over time
	Phases   []Phase           `json:"phases"`
	Notices  []Notice          `json:"notices"`
	Queries  []Query           `json:"queries"`
	Words    map[string]string `json:"words"` // what each state, verdict and role in this analysis means
}

// Decision is the verdict in plain words.
type Decision struct {
	Code     DecisionCode `json:"code"`
	Variant  string       `json:"variant,omitempty"` // the arm it is about
	Headline string       `json:"headline"`          // one sentence
	Reasons  []string     `json:"reasons"`           // sentences, the weightiest first
}

// DecisionCode names a verdict.
type DecisionCode string

// The verdicts on an experiment. All of them hold however often one looks.
const (
	DecideNothing  DecisionCode = "nothing_to_read" // see State
	DecideDistrust DecisionCode = "distrust"        // the users did not arrive in the configured ratio
	DecideStop     DecisionCode = "stop"            // a guardrail of every treatment that might win is breached
	DecideWinner   DecisionCode = "winner"          // Variant is better than control, and no guardrail of it is breached
	DecideLoser    DecisionCode = "loser"           // every treatment is worse than control
	DecideWait     DecisionCode = "keep_running"    // nothing may be claimed yet
	DecideNoGain   DecisionCode = "no_difference"   // the planned size is reached, and nothing may be claimed
)

// ArmReading is an arm: how many users met it, against how many were to be expected.
type ArmReading struct {
	ArmSpec
	Control  bool    `json:"control,omitempty"`
	Holdout  bool    `json:"holdout,omitempty"`
	Users    int64   `json:"users"`
	Expected float64 `json:"expected"` // users, by the weights
	Share    float64 `json:"share"`    // of all users
}

// RatioReading is the answer to: did the users arrive in the configured ratio?
type RatioReading struct {
	Mismatch   bool               `json:"mismatch"` // of the sequential test overall, or within a dimension
	Alarm      float64            `json:"alarm"`    // p-value below which a ratio counts as broken
	ChiSquared float64            `json:"chi_squared"`
	FixedP     float64            `json:"fixed_p"`    // at one planned look
	AnytimeP   float64            `json:"anytime_p"`  // always-valid
	Sentence   string             `json:"sentence"`   // in plain words
	Dimensions []DimensionReading `json:"dimensions"` // in and out of each segment
	How        []Step             `json:"how"`
}

// DimensionReading is the ratio within the values of a dimension.
type DimensionReading struct {
	Dimension     string         `json:"dimension"`
	Mismatch      bool           `json:"mismatch"`
	IndependenceP float64        `json:"independence_p"` // of arm and value having nothing to do with each other, at one planned look
	Slices        []SliceReading `json:"slices"`
}

// SliceReading is the ratio within one value of a dimension.
type SliceReading struct {
	Value    string  `json:"value"`
	Users    []int64 `json:"users"` // in the order of the arms
	FixedP   float64 `json:"fixed_p"`
	AnytimeP float64 `json:"anytime_p"`
	Mismatch bool    `json:"mismatch"`
}

// SizeReading is how far the experiment has come.
type SizeReading struct {
	Users    int64   `json:"users"`
	Planned  int64   `json:"planned,omitempty"`
	Share    float64 `json:"share,omitempty"` // of the plan
	Reached  bool    `json:"reached,omitempty"`
	Excluded int64   `json:"excluded"`
}

// MetricReading is one metric: of each arm, and of each treatment against control.
type MetricReading struct {
	MetricSpec
	State   State           `json:"state"` // ok where at least one treatment can be read
	Why     string          `json:"why,omitempty"`
	Cap     *Cap            `json:"cap,omitempty"`
	Query   string          `json:"query"` // name of the query the moments came from
	Arms    []ArmMetric     `json:"arms"`
	Effects []EffectReading `json:"effects"` // one per treatment
}

// ArmMetric is a metric of one arm.
type ArmMetric struct {
	Variant  string          `json:"variant"`
	State    State           `json:"state"`
	Users    int64           `json:"users"`    // that the value is of; of a retention: those whose window has passed
	Exposed  int64           `json:"exposed"`  // that met the variant
	Eligible float64         `json:"eligible"` // Users as a share of Exposed
	Value    float64         `json:"value"`    // share, mean, ratio or quantile
	SE       float64         `json:"se"`
	Fixed    Bounds          `json:"fixed"`   // of the value, at one planned look
	Moments  MomentsReading  `json:"moments"` // of a quantile none
	Funnel   []FunnelReading `json:"funnel,omitempty"`
	How      []Step          `json:"how"`
}

// MomentsReading is the sums behind a number, as FromSums takes them.
type MomentsReading struct {
	Users    int64     `json:"users"`
	Sums     []float64 `json:"sums"`
	Products []float64 `json:"products"`
}

// FunnelReading is a step of a funnel: the share is of all users of the arm.
type FunnelReading struct {
	Step  string  `json:"step"`
	Users int64   `json:"users"`
	Share float64 `json:"share"`
}

// Bounds is an interval with the p-value that belongs to it. An end that is open has no number.
type Bounds struct {
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
	LowOpen  bool    `json:"low_open,omitempty"`
	HighOpen bool    `json:"high_open,omitempty"`
	PValue   float64 `json:"p_value"`
}

// Measure is an effect, absolute or relative, by each rule.
type Measure struct {
	State        State   `json:"state"`
	Value        float64 `json:"value"`
	SE           float64 `json:"se"`           // zero where the evidence is exact
	Anytime      Bounds  `json:"anytime"`      // holds at every look
	Fixed        Bounds  `json:"fixed"`        // holds at one planned look
	Simultaneous Bounds  `json:"simultaneous"` // holds at every look, for all questions of the family at once; the p-value is the adjusted one
	How          []Step  `json:"how"`
}

// EffectReading is what a treatment does to a metric.
type EffectReading struct {
	Treatment  string             `json:"treatment"`
	State      State              `json:"state"`
	Why        string             `json:"why,omitempty"`
	Absolute   Measure            `json:"absolute"`
	Relative   Measure            `json:"relative"`
	AdjustedP  float64            `json:"adjusted_p"` // always-valid, of the absolute effect; compare it with alpha
	Verdict    Verdict            `json:"verdict"`    // by AdjustedP
	Sentence   string             `json:"sentence"`   // in plain words
	Guard      *GuardReading      `json:"guard,omitempty"`
	Adjustment *AdjustmentReading `json:"adjustment,omitempty"`
	Split      *SplitReading      `json:"split,omitempty"`
}

// GuardReading is a test of non-inferiority.
type GuardReading struct {
	State   State   `json:"state"`
	Verdict Verdict `json:"verdict"`
	Margin  float64 `json:"margin"`
	Worst   float64 `json:"worst"`   // the worst relative effect the data still allow; a loss is below zero whatever the direction
	PValue  float64 `json:"p_value"` // always-valid, of a loss as large as the margin or larger
}

// AdjustmentReading is what the covariates did.
type AdjustmentReading struct {
	Covariates []string `json:"covariates"`
	Reduction  float64  `json:"reduction"`  // share of the variance that they took away
	Unadjusted float64  `json:"unadjusted"` // the difference without them
}

// SplitReading is the effect within segments, by one error budget for all segments, treatments and metrics.
type SplitReading struct {
	State              State           `json:"state"`
	Alpha              float64         `json:"alpha"`    // the share of the budget this split got
	Q                  float64         `json:"q"`        // Cochran's; zero where segments overlap
	SpreadP            float64         `json:"spread_p"` // of the effect being the same in all segments, at one planned look
	ISquared           float64         `json:"i_squared"`
	Simpson            bool            `json:"simpson"` // the overall effect has a sign no segment has
	DisparityControl   float64         `json:"disparity_control"`
	DisparityTreatment float64         `json:"disparity_treatment"`
	Segments           []SegmentEffect `json:"segments"`
}

// SegmentEffect is the effect in a segment, and what it is more than in the rest.
type SegmentEffect struct {
	Segment       string  `json:"segment"`
	ControlUsers  int64   `json:"control_users"`
	Users         int64   `json:"users"` // of the treatment
	ControlValue  float64 `json:"control_value"`
	Value         float64 `json:"value"`
	Absolute      Measure `json:"absolute"` // Simultaneous is the one to read
	Relative      Measure `json:"relative"`
	AdjustedP     float64 `json:"adjusted_p"`
	AgainstRest   Measure `json:"against_rest"`
	AdjustedRestP float64 `json:"adjusted_rest_p"`
	Opposite      bool    `json:"opposite"` // segment and rest go opposite ways, and both may be claimed
}

// FactorReading is the main effect of a level of a factor on the primary metric, or the interaction of two factors: Levels has
// one entry for each factor in it. One error budget covers them all, and all intervals are simultaneous ones.
type FactorReading struct {
	Factors   []string `json:"factors"`
	Levels    []string `json:"levels"`
	Effect    Measure  `json:"effect"`             // absolute
	Relative  *Measure `json:"relative,omitempty"` // of a main effect
	AdjustedP float64  `json:"adjusted_p"`
	Sentence  string   `json:"sentence"`
}

// JointReading is whether two factors interact in any of their levels, at one planned look.
type JointReading struct {
	Factors [2]string `json:"factors"`
	State   State     `json:"state"`
	Wald    float64   `json:"wald"`
	DF      float64   `json:"df"`
	PValue  float64   `json:"p_value"`
}

// Look is the primary metric of one treatment at an earlier moment.
type Look struct {
	At        int64   `json:"at"`
	Treatment string  `json:"treatment"`
	Users     int64   `json:"users"` // of control and treatment
	State     State   `json:"state"`
	Lift      float64 `json:"lift"`
	Anytime   Bounds  `json:"anytime"` // of the lift
	Fixed     Bounds  `json:"fixed"`
	RunningP  float64 `json:"running_p"` // the smallest always-valid p-value of the absolute effect up to here
}

// Step is one line of how a number was computed: difference = treatment − control = 0.31 − 0.27 = 0.04.
type Step struct {
	Is      string  `json:"is"`
	Formula string  `json:"formula"`
	Values  string  `json:"values"` // the formula with the numbers in it
	Result  float64 `json:"result"`
}
