package experiment_test

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math"
	"os"
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
}

func readVectors(t *testing.T) vectors {
	t.Helper()
	raw, err := os.ReadFile("testdata/assign.json")
	require.NoError(t, err)
	var v vectors
	require.NoError(t, json.Unmarshal(raw, &v))
	require.NotEmpty(t, v.Hash)
	require.NotEmpty(t, v.Assign)
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
		id := rapid.String().Draw(t, "id")
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
	require.Equal(t, experiment.Assignment{}, e.Assign("u1"))
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
