package experiment

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
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
// the key of the experiment, version 2 and full coverage. Changing Key, Seed, HashVersion, a weight, a range or the order of
// the variants of a running experiment moves users between arms; raising Coverage never does.
type Experiment struct {
	Key         string
	Seed        string  // Defaults to Key.
	HashVersion int     // HashV1 or HashV2. Defaults to HashV2.
	Coverage    float64 // share of the users who enter, in (0,1]. Defaults to 1.
	Variants    []Variant

	// Ranges are the buckets of each variant, in place of weights and coverage. Defaults to those of weights and coverage.
	Ranges []Range

	// Filters let in only users whose bucket under another seed lies in a range: experiments with filters of one seed and ranges
	// apart never share a user (see Layer). All filters must let a user in. Defaults to none.
	Filters []Filter

	// Namespace is the older way to keep experiments apart, for importing them: it hashes by version 1. It counts only without
	// Filters. Defaults to none.
	Namespace Namespace

	// Forced is the variant that everybody gets who would be in, such as the winner of an experiment that is over. It does not
	// count as an experiment any more. Defaults to none.
	Forced string

	// ForcedUsers are the variants of single users, by id: testers. They get them whatever else is said, and do not count.
	// Defaults to none.
	ForcedUsers map[string]string
}

// Range is the buckets from Start up to, not including, End.
type Range struct{ Start, End float64 }

// Contains says whether a bucket lies in the range.
func (r Range) Contains(bucket float64) bool { return r.Start <= bucket && bucket < r.End }

// Filter lets in the users whose bucket under Seed lies in one of the ranges. HashVersion defaults to HashV2.
type Filter struct {
	Seed        string
	HashVersion int
	Ranges      []Range
}

// admits says whether the filter lets a user in.
func (f Filter) admits(unitID string) bool {
	if f.HashVersion == 0 {
		f.HashVersion = HashV2
	}
	bucket, ok := Hash(f.Seed, unitID, f.HashVersion)
	return ok && slices.ContainsFunc(f.Ranges, func(r Range) bool { return r.Contains(bucket) })
}

// Namespace lets in the users whose bucket in it lies in the range. The zero value lets everybody in.
type Namespace struct {
	Key   string
	Range Range
}

func (n Namespace) admits(unitID string) bool {
	bucket := float64(fnv32a(fnv32a(fnv32a(fnvOffset, unitID), "__"), n.Key)%1000) / 1000
	return n.Range.Contains(bucket)
}

// Assignment is the answer for one user.
type Assignment struct {
	Variant string  // empty unless In or Forced
	Bucket  float64 // in [0,1): where the user's hash fell; zero where it was not asked
	In      bool    // the hash decided: the user counts
	Forced  bool    // the variant was forced: the user gets it and does not count
	Out     Outside // why there is no variant. Empty where there is one.
}

// Outside is why a user has no variant.
type Outside string

// The reasons.
const (
	OutsideNoID      Outside = "no_id"     // the id is empty
	OutsideFilter    Outside = "filter"    // a filter keeps the user out
	OutsideNamespace Outside = "namespace" // another experiment of the namespace has the user
	OutsideCoverage  Outside = "coverage"  // no variant has the user's bucket
	OutsideInvalid   Outside = "invalid"   // the experiment cannot be evaluated
)

// Assign returns the variant of the user with that id. It depends on nothing but e and the bytes of unitID, and makes no
// allocation. The experiment must be valid: of one that is not, nobody is in. The order of the
// questions is that of the GrowthBook specification: forced for the user, id, filters or namespace, bucket, forced for all.
func (e Experiment) Assign(unitID string) Assignment {
	e = e.withDefaults()
	if key, ok := e.ForcedUsers[unitID]; ok && e.has(key) {
		return Assignment{Variant: key, Forced: true}
	}
	switch {
	case len(e.Variants) < 2 || len(e.Ranges) > 0 && len(e.Ranges) != len(e.Variants):
		return Assignment{Out: OutsideInvalid}
	case unitID == "":
		return Assignment{Out: OutsideNoID}
	}
	for _, f := range e.Filters {
		if !f.admits(unitID) {
			return Assignment{Out: OutsideFilter}
		}
	}
	if len(e.Filters) == 0 && e.Namespace.Key != "" && !e.Namespace.admits(unitID) {
		return Assignment{Out: OutsideNamespace}
	}
	bucket, ok := Hash(e.Seed, unitID, e.HashVersion)
	if !ok {
		return Assignment{Out: OutsideInvalid}
	}
	start := 0.0
	for i, v := range e.Variants {
		r := e.rangeOf(i, start)
		start += v.Weight
		switch {
		case !r.Contains(bucket):
		case e.Forced != "":
			return Assignment{Variant: e.Forced, Bucket: bucket, Forced: true}
		default:
			return Assignment{Variant: v.Key, Bucket: bucket, In: true}
		}
	}
	return Assignment{Bucket: bucket, Out: OutsideCoverage}
}

// rangeOf returns the buckets of the variant at i, before which the others' weights sum to start. The conversion keeps the
// product from being fused with the sum: on some processors that moves a range's end by its last bit, and a user with it.
func (e Experiment) rangeOf(i int, start float64) Range {
	if len(e.Ranges) > 0 {
		return e.Ranges[i]
	}
	return Range{Start: start, End: start + float64(e.Coverage*e.Variants[i].Weight)}
}

// BucketRanges returns the buckets of each variant: what a query needs to work out assignments again.
func (e Experiment) BucketRanges() []Range {
	e = e.withDefaults()
	list := make([]Range, 0, len(e.Variants))
	if len(e.Ranges) > 0 && len(e.Ranges) != len(e.Variants) {
		return list
	}
	start := 0.0
	for i, v := range e.Variants {
		list = append(list, e.rangeOf(i, start))
		start += v.Weight
	}
	return list
}

// Shares returns the share of each variant in the users who are in: what a sample ratio is compared with.
func (e Experiment) Shares() []float64 {
	list := make([]float64, 0, len(e.Variants))
	total := 0.0
	for _, r := range e.BucketRanges() {
		list = append(list, r.End-r.Start)
		total += r.End - r.Start
	}
	for i := range list {
		list[i] /= total
	}
	return list
}

func (e Experiment) has(variant string) bool {
	return slices.ContainsFunc(e.Variants, func(v Variant) bool { return v.Key == variant })
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
	e.validateVariants(refuse)
	if len(e.Ranges) > 0 {
		validateRanges(e.Ranges, refuse)
		if len(e.Ranges) != len(e.Variants) {
			refuse("%d ranges for %d variants", len(e.Ranges), len(e.Variants))
		}
	}
	for i, f := range e.Filters {
		if f.HashVersion != 0 && f.HashVersion != HashV1 && f.HashVersion != HashV2 {
			refuse("hash version of filter %d is %d; it must be 1 or 2", i+1, f.HashVersion)
		}
		validateRanges(f.Ranges, refuse)
	}
	if e.Namespace.Key != "" {
		validateRanges([]Range{e.Namespace.Range}, refuse)
	}
	if e.Forced != "" && !e.has(e.Forced) {
		refuse("forced variant %q does not exist", e.Forced)
	}
	for _, id := range slices.Sorted(maps.Keys(e.ForcedUsers)) {
		if !e.has(e.ForcedUsers[id]) {
			refuse("forced variant %q of a user does not exist", e.ForcedUsers[id])
		}
	}
	return errors.Join(problems...)
}

func (e Experiment) validateVariants(refuse func(format string, args ...any)) {
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
	if len(e.Ranges) == 0 && len(e.Variants) > 0 && !(math.Abs(sum-1) <= sumTolerance) { // written so that NaN is refused too
		refuse("weights sum to %v; they must sum to 1", sum)
	}
}

// validateRanges refuses ranges outside [0,1] and those that share a bucket.
func validateRanges(ranges []Range, refuse func(format string, args ...any)) {
	for i, r := range ranges {
		if !(r.Start >= 0 && r.Start <= r.End && r.End <= 1) { // written so that NaN is refused too
			refuse("range %d is [%v,%v); it must lie in [0,1)", i+1, r.Start, r.End)
		}
		for _, other := range ranges[:i] {
			if max(r.Start, other.Start) < min(r.End, other.End) {
				refuse("range %d shares buckets with one before it", i+1)
			}
		}
	}
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
		return float64(fnv32a(fnv32a(fnvOffset, unitID), seed)%1000) / 1000, true
	case HashV2:
		var digits [10]byte
		inner := strconv.AppendUint(digits[:0], uint64(fnv32a(fnv32a(fnvOffset, seed), unitID)), 10)
		return float64(fnv32a(fnvOffset, inner)%10000) / 10000, true
	default:
		return 0, false
	}
}

// fnvOffset is where FNV-1a begins.
const fnvOffset = 2166136261

// fnv32a goes on with FNV-1a from h over s: written out because hash/fnv wants bytes, and this runs once per user and
// experiment.
func fnv32a[T string | []byte](h uint32, s T) uint32 {
	const prime = 16777619
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * prime
	}
	return h
}
