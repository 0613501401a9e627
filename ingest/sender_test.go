package ingest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
)

// TestWhoComesAgain: who had a call within the last minute is worth an update under load, and each user counts alone.
func TestWhoComesAgain(t *testing.T) {
	t.Parallel()
	b := ingest.NewBatches(nil)
	began := time.Unix(1_780_308_000, 0)
	for _, c := range []struct {
		user  string
		after time.Duration
		again bool
	}{
		{"a", 0, false},
		{"a", 2 * time.Second, true},
		{"b", 3 * time.Second, false},
		{"a", 62 * time.Second, true},
		{"b", 64 * time.Second, false},
		{"b", 65 * time.Second, true},
		{"a", 123 * time.Second, false},
		{"a", 124 * time.Second, true},
	} {
		require.Equal(t, c.again, b.Again(c.user, began.Add(c.after)), "%s after %s", c.user, c.after)
	}
}
