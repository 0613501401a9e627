package journey_test

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNobodyIsThereBeforeTheFirstEvent: rules are not asked about a user of whom nothing is known yet.
func TestNobodyIsThereBeforeTheFirstEvent(t *testing.T) {
	t.Parallel()
	b, hash := compile(t, `
name: x
events: {a: {}}
actions: {act: {}}
segments: {without: {when: '!did("a")'}}
journeys: {j: {enter: {segment: without}, steps: [{action: act}]}}
`)
	u := newUser(t, b, hash)
	u.event("a", t0)
	require.Empty(t, u.story(), "did the user not do it a moment ago?")
}
