package recent_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/recent"
)

func TestMap(t *testing.T) {
	t.Parallel()
	m := recent.New[int, string](3)
	_, known := m.Get(1)
	require.False(t, known)
	require.True(t, m.Add(1, "one"))
	require.False(t, m.Add(1, "other"), "the first stays")
	for n := 2; n <= 6; n++ {
		m.Put(n, "x")
		value, known := m.Get(1)
		require.True(t, known, "asked for again and again")
		require.Equal(t, "one", value)
	}
	_, known = m.Get(2)
	require.False(t, known, "nobody asked for it")
	m.Delete(1)
	_, known = m.Get(1)
	require.False(t, known)

	for n := range 1000 {
		m.Put(n, "y")
	}
	kept := 0
	for n := range 1000 {
		if !m.Add(n, "z") {
			kept++
			m.Delete(n)
		}
	}
	require.LessOrEqual(t, kept, 6, "twice three")
}
