package backtest

import "slices"

// Timeline is how the figures grew: one number a bucket, from Start on. A bucket is a day (UTC); an hour where all of it took
// four days at most.
type Timeline struct {
	Start    int64                         `json:"start"` // Unix milliseconds
	BucketMS int64                         `json:"bucket_ms"`
	Buckets  int                           `json:"buckets"`
	Segments map[string][]int64            `json:"segments"` // members at the end of each bucket
	Actions  map[string]map[string][]int64 `json:"actions"`  // by action, then by reason of suppression; `decided` is what goes out
}

// Decided stands among the reasons of suppression for the actions that go out.
const Decided = "decided"

// timeline reaches from the first event to the last, or to the last change after it.
func timeline(t tally, from, to int64) Timeline {
	first, last := hourOf(from), hourOf(max(from, to))
	for k, n := range t {
		if (k.figure == membersDelta || k.figure == actionsAt) && n != 0 {
			last = max(last, k.hour)
		}
	}
	line := Timeline{BucketMS: hour, Segments: make(map[string][]int64), Actions: make(map[string]map[string][]int64)}
	width := int64(1)
	if last-first > 4*24 {
		width, line.BucketMS = 24, 24*hour
		first -= (first%24 + 24) % 24
	}
	line.Start, line.Buckets = first*hour, int((last-first)/width)+1
	for k, n := range t {
		i := int(max(0, (k.hour-first)/width)) // what came before is there at the beginning
		switch k.figure {
		case membersDelta:
			at(line.Segments, k.a, line.Buckets)[i] += n
		case actionsAt:
			if line.Actions[k.a] == nil {
				line.Actions[k.a] = make(map[string][]int64)
			}
			at(line.Actions[k.a], reasonOf(k.b), line.Buckets)[i] += n
		default: // the others have no time
		}
	}
	for _, series := range line.Segments {
		for i := range series[1:] {
			series[i+1] += series[i]
		}
	}
	return line
}

func reasonOf(reason string) string {
	if reason == "" {
		return Decided
	}
	return reason
}

// at returns the series of a name, making it where it is new.
func at(series map[string][]int64, name string, buckets int) []int64 {
	if series[name] == nil {
		series[name] = slices.Repeat([]int64{0}, buckets)
	}
	return series[name]
}
