package ingest_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/ingest"
)

// TestWhoComesAgain: it is the third call of which each came within ten seconds of the one before that is worth an update under load, and each
// user counts alone.
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
		{"a", 2 * time.Second, false},
		{"b", 3 * time.Second, false},
		{"a", 12 * time.Second, true},
		{"a", 13 * time.Second, true},
		{"b", 14 * time.Second, false},
		{"a", 24 * time.Second, false},
		{"a", 25 * time.Second, false},
		{"a", 26 * time.Second, true},
	} {
		require.Equal(t, c.again, b.Again(c.user, began.Add(c.after)), "%s after %s", c.user, c.after)
	}
}
