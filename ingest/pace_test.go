package ingest_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
)

// calls has so many calls take so long, one after the other.
func calls(p *ingest.Pace, now *time.Time, n int, took time.Duration) {
	for i := range n {
		p.Begin(strconv.Itoa(i), *now)
		*now = now.Add(took)
		p.End(strconv.Itoa(i), *now)
	}
}

// TestPace: a call is slow where it takes more than twice what is usual, as long as it is in flight.
func TestPace(t *testing.T) {
	t.Parallel()
	p, now := ingest.NewPace(), time.Unix(0, 0)
	require.Nil(t, p.Slow(now), "without a call")
	calls(p, &now, 100, 10*time.Millisecond)
	p.Begin("a", now)
	p.Begin("b", now.Add(15*time.Millisecond))
	require.Nil(t, p.Slow(now.Add(18*time.Millisecond)), "not twice as long")
	over := p.Slow(now.Add(25 * time.Millisecond))
	require.NotNil(t, over, "more than twice as long")
	select {
	case <-over:
		require.Fail(t, "no call is over")
	default:
	}
	p.End("b", now.Add(26*time.Millisecond))
	select {
	case <-over:
	default:
		require.Fail(t, "nobody is told that a call is over")
	}
	require.NotNil(t, p.Slow(now.Add(27*time.Millisecond)), "another is slow")
	p.End("a", now.Add(30*time.Millisecond))
	require.Nil(t, p.Slow(now.Add(time.Hour)), "none is in flight")
}

// TestPaceLearns: what is usual follows a change for good, and a few slow calls do not become it.
func TestPaceLearns(t *testing.T) {
	t.Parallel()
	slow := func(p *ingest.Pace, now time.Time, age time.Duration) bool {
		p.Begin("a", now)
		defer p.End("a", now.Add(age))
		return p.Slow(now.Add(age)) != nil
	}
	p, now := ingest.NewPace(), time.Unix(0, 0)
	calls(p, &now, 200, 10*time.Millisecond)
	calls(p, &now, 30, 500*time.Millisecond)
	require.True(t, slow(p, now, 30*time.Millisecond), "a second of slow calls became what is usual")
	calls(p, &now, 500, 40*time.Millisecond)
	require.False(t, slow(p, now, 70*time.Millisecond), "what is usual does not rise")
	calls(p, &now, 500, 10*time.Millisecond)
	require.True(t, slow(p, now, 30*time.Millisecond), "it does not fall")
}
