package api_test

import (
	"testing"

	"github.com/onramphq/onramp/internal/testenv"
)

// envNode says what a machine without Node means; see testenv.NodeFolder.
const envNode = "ONRAMP_TEST_NODE"

// node runs a script of testdata/node and reads what it prints as JSON into answer.
func node(t *testing.T, answer any, script string, args ...string) {
	t.Helper()
	testenv.Node(t, answer, script, args...)
}
