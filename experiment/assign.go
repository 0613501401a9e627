package experiment

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"strconv"
)

// The hash versions of the GrowthBook specification.
const (
	HashV1 = 1 // 1,000 buckets; correlated across experiments that run side by side: only for importing old ones
	HashV2 = 2 // 10,000 buckets, the seed mixed in first
)

// sumTolerance is how far the weights may sum from 1: thirds written in decimal must pass.
const sumTolerance = 1e-9

// Variant is one arm of an experiment and the share of the users in it that the arm gets.
type Variant struct {
	Key    string
	Weight float64
}

// Experiment is what assignment depends on, and nothing else. The zero values of Seed, HashVersion and Coverage stand for
// the key of the experiment, version 2 and full coverage. Changing Key, Seed, HashVersion, a weight or the order of the
// variants of a running experiment moves users between arms; raising Coverage never does.
type Experiment struct {
	Key         string
	Seed        string  // Defaults to Key.
	HashVersion int     // HashV1 or HashV2. Defaults to HashV2.
	Coverage    float64 // share of the users who enter, in (0,1]. Defaults to 1.
	Variants    []Variant
}

// Assignment is the answer for one user. Variant is empty unless In.
type Assignment struct {
	Variant string
	Bucket  float64 // in [0,1): where the user's hash fell
	In      bool    // false: outside the coverage
}

// Assign returns the variant of the user with that id. It depends on nothing but e and the bytes of unitID, and makes no
// allocation. The experiment must be valid: of one that is not, nobody is in.
func (e Experiment) Assign(unitID string) Assignment {
	e = e.withDefaults()
	bucket, ok := Hash(e.Seed, unitID, e.HashVersion)
	if !ok {
		return Assignment{}
	}
	start := 0.0
	for _, v := range e.Variants {
		if bucket >= start && bucket < start+e.Coverage*v.Weight {
			return Assignment{Variant: v.Key, Bucket: bucket, In: true}
		}
		start += v.Weight
	}
	return Assignment{Bucket: bucket}
}

// Validate returns all that is wrong with e, joined, and nil where Assign can be trusted.
func (e Experiment) Validate() error {
	var problems []error
	refuse := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if e.Key == "" {
		refuse("key is missing")
	}
	d := e.withDefaults()
	if d.HashVersion != HashV1 && d.HashVersion != HashV2 {
		refuse("hash version is %d; it must be 1 or 2", e.HashVersion)
	}
	if !(d.Coverage > 0 && d.Coverage <= 1) { // written so that NaN is refused too
		refuse("coverage is %v; it must lie in (0,1]", e.Coverage)
	}
	if len(e.Variants) < 2 {
		refuse("%d variants; an experiment compares at least 2", len(e.Variants))
	}
	seen := make(map[string]bool, len(e.Variants))
	sum := 0.0
	for i, v := range e.Variants {
		switch {
		case v.Key == "":
			refuse("variant %d has no key", i+1)
		case seen[v.Key]:
			refuse("variant %q stands twice", v.Key)
		}
		seen[v.Key] = true
		if !(v.Weight >= 0 && v.Weight <= 1) { // written so that NaN is refused too
			refuse("weight of variant %q is %v; it must lie in [0,1]", v.Key, v.Weight)
		}
		sum += v.Weight
	}
	if len(e.Variants) > 0 && !(math.Abs(sum-1) <= sumTolerance) { // written so that NaN is refused too
		refuse("weights sum to %v; they must sum to 1", sum)
	}
	return errors.Join(problems...)
}

func (e Experiment) withDefaults() Experiment {
	if e.Seed == "" {
		e.Seed = e.Key
	}
	if e.HashVersion == 0 {
		e.HashVersion = HashV2
	}
	if e.Coverage == 0 {
		e.Coverage = 1
	}
	return e
}

// Hash maps an id into [0,1) by the GrowthBook specification; ok is false for a version it does not define. Ids are taken
// as their UTF-8 bytes: some SDKs hash UTF-16 units and differ on ids that are not ASCII.
func Hash(seed, unitID string, version int) (bucket float64, ok bool) {
	switch version {
	case HashV1:
		return float64(fnv32a(unitID, seed)%1000) / 1000, true
	case HashV2:
		var digits [10]byte
		inner := strconv.AppendUint(digits[:0], uint64(fnv32a(seed, unitID)), 10)
		h := fnv.New32a()
		h.Write(inner) // hash.Hash never returns an error
		return float64(h.Sum32()%10000) / 10000, true
	default:
		return 0, false
	}
}

// fnv32a is FNV-1a over a and then b, written out because hash/fnv wants bytes and this runs once per user and experiment.
func fnv32a(a, b string) uint32 {
	const offset, prime = 2166136261, 16777619
	h := uint32(offset)
	for i := range len(a) {
		h = (h ^ uint32(a[i])) * prime
	}
	for i := range len(b) {
		h = (h ^ uint32(b[i])) * prime
	}
	return h
}
