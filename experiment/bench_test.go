package experiment_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/onramphq/onramp/experiment"
)

// BenchmarkReading is all the statistics of one page: ten metrics overall and in ten segments, each segment against the rest,
// with one error budget a metric. The moments come from sums, as ClickHouse gives them.
func BenchmarkReading(b *testing.B) {
	random := rand.New(rand.NewPCG(25, 26))
	metrics := make([]experiment.Metric, 10)
	arms := make([][2]experiment.Moments, len(metrics))
	segments := make([][]experiment.Segment, len(metrics))
	for i := range metrics {
		metrics[i] = experiment.Metric{Key: fmt.Sprint("metric ", i), Kind: []experiment.Kind{experiment.KindProportion, experiment.KindMean, experiment.KindRatio}[i%3]}
		for range 10 {
			s := experiment.Segment{Control: benchArm(random, metrics[i].Kind), Treatment: benchArm(random, metrics[i].Kind)}
			segments[i] = append(segments[i], s)
			arms[i] = [2]experiment.Moments{experiment.Merge(arms[i][0], s.Control), experiment.Merge(arms[i][1], s.Treatment)}
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		for i, m := range metrics {
			report := experiment.CompareSegments(m, arms[i][0], arms[i][1], segments[i], experiment.CorrectionHolm, experiment.Options{})
			if report.Overall.State != experiment.StateOK {
				b.Fatal(report.Overall.State)
			}
		}
	}
}

func benchArm(random *rand.Rand, kind experiment.Kind) experiment.Moments {
	n := 1000 + random.Int64N(1000)
	users := float64(n)
	switch kind {
	case experiment.KindProportion:
		return experiment.FromCounts(n, n/3+random.Int64N(50))
	case experiment.KindRatio:
		y, x := users*(5+random.Float64()), users*2
		return experiment.FromSums(n, []float64{y, x}, []float64{users * 50, users * 12.1, users * 4.5})
	default:
		m := 5 + random.Float64()
		return experiment.FromSums(n, []float64{users * m}, []float64{users * (m*m + math.Pi)})
	}
}

func BenchmarkCompare(b *testing.B) {
	control, treatment := experiment.FromCounts(4000, 1200), experiment.FromCounts(4010, 1384)
	b.ReportAllocs()
	for b.Loop() {
		experiment.Compare(proportionMetric, control, treatment, experiment.Options{})
	}
}

func BenchmarkCompareFewConversions(b *testing.B) {
	control, treatment := experiment.FromCounts(4000, 12), experiment.FromCounts(4010, 21)
	b.ReportAllocs()
	for b.Loop() {
		experiment.Compare(proportionMetric, control, treatment, experiment.Options{})
	}
}
