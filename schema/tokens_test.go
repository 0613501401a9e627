package schema_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

func TestTokens(t *testing.T) {
	t.Parallel()
	key := []byte("a workspace key for tests")
	tokens := schema.NewTokens(key)
	for _, id := range []string{"", "ann", "ann@example.org", strings.Repeat("x", 256), "ü\x00"} {
		for range 3 {
			require.Equal(t, schema.UserToken(key, id), tokens.Of(id))
		}
	}
}
