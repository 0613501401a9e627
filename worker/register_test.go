package worker_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/worker"
)

var update = flag.Bool("update", false, "write the golden files")

// names is a Registry that notes the names under which a worker would find things.
type names []string

func (n *names) RegisterWorkflowWithOptions(_ any, options workflow.RegisterOptions) {
	*n = append(*n, "workflow "+options.Name)
}

// RegisterActivity notes what the SDK registers for a struct: each exported method under its own name.
func (n *names) RegisterActivity(a any) {
	for method := range reflect.TypeOf(a).Methods() {
		*n = append(*n, "activity "+method.Name)
	}
}

// TestNames pins what stands in histories: a name that changes strands every user on the way.
func TestNames(t *testing.T) {
	t.Parallel()
	var got names
	worker.Register(&got, worker.Deps{Delivery: &activities.Delivery{}, Record: &activities.Record{}, Identity: &activities.Identity{}, Enrichment: &activities.Enrichment{}})
	slices.Sort(got)
	text := strings.Join(got, "\n") + "\n"
	golden := filepath.Join("testdata", "names.golden")
	if *update {
		require.NoError(t, os.WriteFile(golden, []byte(text), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err, "run go test ./worker -update and look at what it wrote")
	require.Equal(t, string(want), text)
}

// TestTheSDKTakesAll registers with the SDK itself, which panics on a method that is no activity.
func TestTheSDKTakesAll(t *testing.T) {
	t.Parallel()
	var suite testsuite.WorkflowTestSuite
	env := suite.NewTestWorkflowEnvironment()
	require.NotPanics(t, func() {
		worker.Register(env, worker.Deps{Delivery: &activities.Delivery{}, Record: &activities.Record{}, Identity: &activities.Identity{}, Enrichment: &activities.Enrichment{}})
	})
}
