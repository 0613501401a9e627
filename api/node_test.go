package api_test

import (
	"testing"

	"github.com/onramphq/onramp/internal/testenv"
)

const nodePackages = "testdata/node"

// node runs a script of testdata/node and reads what it prints as JSON into answer.
func node(t *testing.T, answer any, script string, args ...string) {
	t.Helper()
	testenv.Node(t, nodePackages, answer, script, args...)
}
