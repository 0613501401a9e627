package experiment_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gonum.org/v1/gonum/stat/distuv"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/experiment"
)

type vectors struct {
	Hash []struct {
		Seed      string  `json:"seed"`
		ID        string  `json:"id"`
		Version   int     `json:"version"`
		Bucket    float64 `json:"bucket"`
		Undefined bool    `json:"undefined"`
	} `json:"hash"`
	Assign []struct {
		Name     string    `json:"name"`
		Seed     string    `json:"seed"`
		ID       string    `json:"id"`
		Weights  []float64 `json:"weights"`
		Coverage float64   `json:"coverage"`
		Arm      int       `json:"arm"`
	} `json:"assign"`
	Ranges []struct {
		Name     string       `json:"name"`
		Variants int          `json:"variants"`
		Coverage float64      `json:"coverage"`
		Weights  []float64    `json:"weights"`
		Ranges   [][2]float64 `json:"ranges"`
	} `json:"ranges"`
	Choose []struct {
		Bucket float64      `json:"bucket"`
		Ranges [][2]float64 `json:"ranges"`
		Arm    int          `json:"arm"`
	} `json:"choose"`
	Namespace []struct {
		ID        string `json:"id"`
		Namespace []any  `json:"namespace"`
		In        bool   `json:"in"`
	} `json:"namespace"`
	Filter []struct {
		filterVector
		Name string `json:"name"`
		ID   string `json:"id"`
		In   bool   `json:"in"`
	} `json:"filter"`
	Run []runVector `json:"run"`
}

type filterVector struct {
	Seed   string       `json:"seed"`
	Ranges [][2]float64 `json:"ranges"`
}

// runVector is one evaluation of the specification. Its hash version is 1 unless told.
type runVector struct {
	Name       string             `json:"name"`
	Key        string             `json:"key"`
	ID         string             `json:"id"`
	Variants   int                `json:"variants"`
	Seed       string             `json:"seed"`
	Version    int                `json:"version"`
	Weights    []float64          `json:"weights"`
	Coverage   float64            `json:"coverage"`
	Ranges     [][2]float64       `json:"ranges"`
	Namespace  []any              `json:"namespace"`
	Filters    []filterVector     `json:"filters"`
	Force      *int               `json:"force"`
	ForcedUser *int               `json:"forced_user"`
	Bucket     float64            `json:"bucket"`
	Arm        int                `json:"arm"`
	Forced     bool               `json:"forced"`
	Out        experiment.Outside `json:"out"`
}

// variants are so many, keyed by their number, with the weights or alike.
func variants(n int, weights []float64) []experiment.Variant {
	list := make([]experiment.Variant, n)
	for i := range list {
		list[i] = experiment.Variant{Key: strconv.Itoa(i), Weight: 1 / float64(n)}
		if weights != nil {
			list[i].Weight = weights[i]
		}
	}
	return list
}

func ranges(pairs [][2]float64) []experiment.Range {
	var list []experiment.Range
	for _, p := range pairs {
		list = append(list, experiment.Range{Start: p[0], End: p[1]})
	}
	return list
}

func namespace(list []any) experiment.Namespace {
	if list == nil {
		return experiment.Namespace{}
	}
	return experiment.Namespace{Key: list[0].(string), Range: experiment.Range{Start: list[1].(float64), End: list[2].(float64)}}
}

func (v runVector) experiment() experiment.Experiment {
	e := experiment.Experiment{
		Key: v.Key, Seed: v.Seed, HashVersion: max(v.Version, experiment.HashV1), Coverage: v.Coverage,
		Variants: variants(v.Variants, v.Weights), Ranges: ranges(v.Ranges), Namespace: namespace(v.Namespace),
	}
	for _, f := range v.Filters {
		e.Filters = append(e.Filters, experiment.Filter{Seed: f.Seed, Ranges: ranges(f.Ranges)})
	}
	if v.Force != nil {
		e.Forced = strconv.Itoa(*v.Force)
	}
	if v.ForcedUser != nil {
		e.ForcedUsers = map[string]string{v.ID: strconv.Itoa(*v.ForcedUser)}
	}
	return e
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/assign.json")
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(raw, &v))
	require.NotEmpty(t, v.Hash)
	require.NotEmpty(t, v.Assign)
	require.Len(t, v.Ranges, 6)
	require.Len(t, v.Choose, 13)
	require.Len(t, v.Namespace, 16)
	require.Len(t, v.Filter, 3)
	require.Len(t, v.Run, 59)
	return v
}

func TestHashVectors(t *testing.T) {
	t.Parallel()
	for _, c := range readVectors(t).Hash {
		t.Run(fmt.Sprintf("v%d %q %q", c.Version, c.Seed, c.ID), func(t *testing.T) {
			t.Parallel()
			bucket, ok := experiment.Hash(c.Seed, c.ID, c.Version)
			require.Equal(t, !c.Undefined, ok)
			require.InDelta(t, c.Bucket, bucket, 1e-12)
		})
	}
}

func TestAssignVectors(t *testing.T) {
	t.Parallel()
	for _, c := range readVectors(t).Assign {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			e := experiment.Experiment{Key: "k", Seed: c.Seed, Coverage: c.Coverage}
			for i, w := range c.Weights {
				e.Variants = append(e.Variants, experiment.Variant{Key: strconv.Itoa(i), Weight: w})
			}
			require.NoError(t, e.Validate())
			got := e.Assign(c.ID)
			if c.Arm < 0 {
				require.False(t, got.In)
				require.Empty(t, got.Variant)
				return
			}
			require.True(t, got.In)
			require.Equal(t, strconv.Itoa(c.Arm), got.Variant)
		})
	}
}

func TestRangesOfGrowthBook(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	for _, c := range v.Ranges {
		e := experiment.Experiment{Key: "k", Coverage: c.Coverage, Variants: variants(c.Variants, c.Weights)}
		require.NoError(t, e.Validate())
		for i, r := range e.BucketRanges() {
			require.InDelta(t, c.Ranges[i][0], r.Start, 1e-12, c.Name)
			require.InDelta(t, c.Ranges[i][1], r.End, 1e-12, c.Name)
		}
	}
	for _, c := range v.Choose {
		arm := slices.IndexFunc(ranges(c.Ranges), func(r experiment.Range) bool { return r.Contains(c.Bucket) })
		require.Equal(t, c.Arm, arm, "%+v", c)
	}
}

func TestNamespacesAndFiltersOfGrowthBook(t *testing.T) {
	t.Parallel()
	v := readVectors(t)
	for _, c := range v.Namespace {
		e := experiment.Experiment{Key: "k", Variants: variants(2, nil), Namespace: namespace(c.Namespace)}
		require.NoError(t, e.Validate())
		require.Equal(t, c.In, e.Assign(c.ID).In, "%+v", c)
	}
	for _, c := range v.Filter {
		e := experiment.Experiment{Key: "k", Variants: variants(2, nil), Filters: []experiment.Filter{{Seed: c.Seed, Ranges: ranges(c.Ranges)}}}
		require.NoError(t, e.Validate())
		require.Equal(t, c.In, e.Assign(c.ID).In, c.Name)
	}
}

func TestRunsOfGrowthBook(t *testing.T) {
	t.Parallel()
	for _, c := range readVectors(t).Run {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			got := c.experiment().Assign(c.ID)
			require.Equal(t, c.Out, got.Out)
			require.Equal(t, c.Forced, got.Forced)
			require.Equal(t, c.Arm >= 0 && !c.Forced, got.In)
			want := ""
			if c.Arm >= 0 {
				want = strconv.Itoa(c.Arm)
			}
			require.Equal(t, want, got.Variant)
			if c.Bucket > 0 {
				require.InDelta(t, c.Bucket, got.Bucket, 1e-12)
			}
		})
	}
}

func TestLayersKeepExperimentsApart(t *testing.T) {
	t.Parallel()
	layer := experiment.Layer{Key: "onboarding", Slots: []experiment.Slot{{"first", 0.5}, {"second", 0.3}}}
	require.NoError(t, layer.Validate())
	of := func(key string) experiment.Experiment {
		f, ok := layer.Filter(key)
		require.True(t, ok)
		e := experiment.Experiment{Key: key, Variants: variants(2, nil), Filters: []experiment.Filter{f}}
		require.NoError(t, e.Validate())
		return e
	}
	first, second, counts := of("first"), of("second"), [3]int{}
	for i := range 20_000 {
		id := strconv.Itoa(i)
		a, b := first.Assign(id), second.Assign(id)
		require.False(t, a.In && b.In, "nobody is in both")
		switch {
		case a.In:
			counts[0]++
		case b.In:
			counts[1]++
		default:
			counts[2]++
			require.Equal(t, experiment.OutsideFilter, a.Out)
		}
	}
	require.Greater(t, chiSquaredP(counts[:], []float64{0.5, 0.3, 0.2}), 0.001, "%v", counts)
	_, ok := layer.Filter("third")
	require.False(t, ok)
	err := experiment.Layer{Slots: []experiment.Slot{{"a", 0.7}, {"a", 0.7}, {"b", math.NaN()}}}.Validate()
	for _, want := range []string{"without a key", "stands twice", "share of experiment \"b\" is NaN", "sum to NaN"} {
		require.ErrorContains(t, err, want)
	}
}

func chiSquaredP(counts []int, shares []float64) float64 {
	total := 0
	for _, c := range counts {
		total += c
	}
	chi2 := 0.0
	for i, c := range counts {
		off := float64(c) - float64(total)*shares[i]
		chi2 += off * off / (float64(total) * shares[i])
	}
	return distuv.ChiSquared{K: float64(len(counts) - 1)}.Survival(chi2)
}

func TestHoldout(t *testing.T) {
	t.Parallel()
	all := experiment.Holdout{Key: "everything", Share: 0.05}.Experiment()
	some := experiment.Holdout{Key: "everything", Share: 0.05, Comparison: 0.05}.Experiment()
	require.NoError(t, all.Validate())
	require.NoError(t, some.Validate())
	require.InDeltaSlice(t, []float64{0.05, 0.95}, all.Shares(), 1e-12)
	require.InDeltaSlice(t, []float64{0.5, 0.5}, some.Shares(), 1e-12)
	counts := map[string]int{}
	for i := range 20_000 {
		id := strconv.Itoa(i)
		a, s := all.Assign(id), some.Assign(id)
		require.True(t, a.In)
		require.Equal(t, a.Variant == experiment.HeldOut, s.Variant == experiment.HeldOut)
		if s.In {
			require.Equal(t, a.Variant, s.Variant)
		}
		counts[s.Variant]++
	}
	require.Greater(t, chiSquaredP([]int{counts[experiment.HeldOut], counts[experiment.Treated], counts[""]}, []float64{0.05, 0.05, 0.9}), 0.001)
	require.Error(t, experiment.Holdout{Key: "k", Share: 1.5}.Experiment().Validate())
	require.Error(t, experiment.Holdout{Key: "k", Share: 0.6, Comparison: 0.6}.Experiment().Validate())
}

// independentV2 is the specification read again, on the standard library's FNV.
func independentV2(seed, id string) float64 {
	inner := fnv.New32a()
	inner.Write([]byte(seed + id))
	outer := fnv.New32a()
	fmt.Fprint(outer, inner.Sum32())
	return float64(outer.Sum32()%10000) / 10000
}

func TestHashEqualsAnIndependentReading(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		seed, id := rapid.String().Draw(t, "seed"), rapid.String().Draw(t, "id")
		bucket, ok := experiment.Hash(seed, id, experiment.HashV2)
		assert.True(t, ok)
		assert.InDelta(t, independentV2(seed, id), bucket, 0)
		v1, _ := experiment.Hash(seed, id, experiment.HashV1)
		h := fnv.New32a()
		h.Write([]byte(id + seed))
		assert.InDelta(t, float64(h.Sum32()%1000)/1000, v1, 0)
	})
}

func drawExperiment(t *rapid.T) experiment.Experiment {
	parts := rapid.SliceOfN(rapid.IntRange(1, 100), 2, 6).Draw(t, "parts")
	total := 0
	for _, p := range parts {
		total += p
	}
	e := experiment.Experiment{Key: rapid.StringN(1, 20, -1).Draw(t, "key"), HashVersion: rapid.SampledFrom([]int{1, 2}).Draw(t, "version")}
	for i, p := range parts {
		e.Variants = append(e.Variants, experiment.Variant{Key: strconv.Itoa(i), Weight: float64(p) / float64(total)})
	}
	return e
}

func TestRaisingCoverageNeverMovesAUser(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		e := drawExperiment(t)
		low := rapid.Float64Range(0.001, 1).Draw(t, "low")
		high := rapid.Float64Range(low, 1).Draw(t, "high")
		id := rapid.StringN(1, -1, -1).Draw(t, "id")
		before, after, full := e, e, e
		before.Coverage, after.Coverage, full.Coverage = low, high, 1
		require.NoError(t, before.Validate())
		b, a, f := before.Assign(id), after.Assign(id), full.Assign(id)
		if b.In {
			assert.Equal(t, b, a, "a user who was in must stay in the same arm")
		}
		if a.In {
			assert.Equal(t, a.Variant, f.Variant)
		}
		assert.InDelta(t, b.Bucket, f.Bucket, 0, "the bucket does not depend on the coverage")
		assert.True(t, f.In, "with full coverage everybody is in")
	})
}

func TestAssignIsUniformAndIndependent(t *testing.T) {
	t.Parallel()
	one := experiment.Experiment{Key: "checklist_first", Variants: []experiment.Variant{{"control", 0.5}, {"treatment", 0.3}, {"other", 0.2}}}
	two := experiment.Experiment{Key: "welcome_mail", Variants: []experiment.Variant{{"control", 0.5}, {"treatment", 0.5}}}
	const n = 100_000
	counts := map[string]float64{}
	joint := map[string]float64{}
	buckets := make([]float64, 100)
	for i := range n {
		a := one.Assign("user-" + strconv.Itoa(i))
		counts[a.Variant]++
		joint[a.Variant+"/"+two.Assign("user-"+strconv.Itoa(i)).Variant]++
		buckets[int(a.Bucket*100)]++
	}
	chi2 := 0.0
	for _, v := range one.Variants {
		expected := n * v.Weight
		off := counts[v.Key] - expected
		chi2 += off * off / expected
	}
	require.Greater(t, distuv.ChiSquared{K: 2}.Survival(chi2), 0.001, "shares of the arms: %v", counts)

	chi2 = 0
	for _, c := range buckets {
		off := c - n/100
		chi2 += off * off / (n / 100)
	}
	require.Greater(t, distuv.ChiSquared{K: 99}.Survival(chi2), 0.001, "buckets")

	chi2 = 0
	for _, a := range one.Variants {
		for _, b := range two.Variants {
			expected := n * a.Weight * b.Weight
			off := joint[a.Key+"/"+b.Key] - expected
			chi2 += off * off / expected
		}
	}
	require.Greater(t, distuv.ChiSquared{K: 5}.Survival(chi2), 0.001, "two experiments side by side: %v", joint)
}

func TestValidateNamesEveryProblem(t *testing.T) {
	t.Parallel()
	ok := []experiment.Variant{{"control", 1.0 / 3}, {"a", 1.0 / 3}, {"b", 1.0 / 3}}
	require.NoError(t, experiment.Experiment{Key: "k", Variants: ok}.Validate())

	ranged := experiment.Experiment{
		Key: "k", Variants: ok, Ranges: []experiment.Range{{0, 0.5}, {0.4, 1.1}}, Forced: "x", ForcedUsers: map[string]string{"u": "y"},
		Filters: []experiment.Filter{{HashVersion: 7, Ranges: []experiment.Range{{math.NaN(), 1}}}}, Namespace: experiment.Namespace{Key: "n", Range: experiment.Range{Start: 0.5, End: 0.4}},
	}.Validate()
	for _, want := range []string{
		"2 ranges for 3 variants", "range 2 is [0.4,1.1)", "range 2 shares buckets", `forced variant "x"`, `forced variant "y"`,
		"hash version of filter 1 is 7", "range 1 is [NaN,1)", "range 1 is [0.5,0.4)",
	} {
		require.ErrorContains(t, ranged, want)
	}

	err := experiment.Experiment{
		HashVersion: 3, Coverage: 1.5,
		Variants: []experiment.Variant{{"a", 0.5}, {"a", 0.6}, {"", math.NaN()}},
	}.Validate()
	require.Error(t, err)
	for _, want := range []string{
		"key is missing", "hash version is 3", "coverage is 1.5", `variant "a" stands twice`, "variant 3 has no key", "weights sum to NaN",
	} {
		require.ErrorContains(t, err, want)
	}
	require.ErrorContains(t, experiment.Experiment{Key: "k", Variants: []experiment.Variant{{"a", 1}}}.Validate(), "at least 2")
	require.ErrorContains(t, experiment.Experiment{Key: "k", Coverage: -0.1, Variants: ok}.Validate(), "(0,1]")
	require.ErrorContains(t, experiment.Experiment{Key: "k", Variants: []experiment.Variant{{"a", 0.5}, {"b", 0.6}}}.Validate(), "sum to 1.1")
}

func TestAssignOfAnUnknownHashVersionLetsNobodyIn(t *testing.T) {
	t.Parallel()
	e := experiment.Experiment{Key: "k", HashVersion: 99, Variants: []experiment.Variant{{"a", 0.5}, {"b", 0.5}}}
	require.Equal(t, experiment.Assignment{Out: experiment.OutsideInvalid}, e.Assign("u1"))
}

func ExampleExperiment_Assign() {
	e := experiment.Experiment{
		Key:      "checklist_first",
		Variants: []experiment.Variant{{Key: "control", Weight: 0.5}, {Key: "treatment", Weight: 0.5}},
	}
	for _, id := range []string{"ada", "grace", "edsger"} {
		a := e.Assign(id)
		fmt.Printf("%-6s %.4f %s\n", id, a.Bucket, a.Variant)
	}
	// Output:
	// ada    0.8322 treatment
	// grace  0.1315 control
	// edsger 0.0236 control
}

func BenchmarkAssign(b *testing.B) {
	e := experiment.Experiment{Key: "checklist_first", Variants: []experiment.Variant{{"control", 0.5}, {"treatment", 0.5}}}
	b.ReportAllocs()
	for b.Loop() {
		e.Assign("u4gkq2vxlw2m3s5a7b6c5d4e3f2")
	}
}
