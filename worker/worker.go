package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/client"
	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"github.com/onramphq/onramp/activities"
	"github.com/onramphq/onramp/journey"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/workflows"
)

// Config sizes a worker process. The zero value is right for one on two cores.
type Config struct {
	// WorkflowPollers is the number of calls that wait for workflow tasks. Few are faster under load, because signals pile up
	// behind a running task and are taken together. Defaults to 4.
	WorkflowPollers int
	// ActivityPollers likewise. Defaults to 4.
	ActivityPollers int
	// CacheSize is the number of workflows kept in memory; a user outside is replayed on the next event. Defaults to 2,000.
	CacheSize int
	// StopTimeout is how long a stopping worker waits for what it has in hand. Defaults to 5 s.
	StopTimeout time.Duration
}

func (c Config) withDefaults() Config {
	orDefault := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	orDefault(&c.WorkflowPollers, 4)
	orDefault(&c.ActivityPollers, 4)
	orDefault(&c.CacheSize, 2000)
	if c.StopTimeout == 0 {
		c.StopTimeout = 5 * time.Second
	}
	return c
}

// Deps are what workflows and activities work with.
type Deps struct {
	Books    journey.Books
	Delivery *activities.Delivery
	Record   *activities.Record
	Identity *activities.Identity
	// Enrichment asks providers about users. It is registered whether there are any or not.
	Enrichment *activities.Enrichment
}

// Registry is what Register fills: a worker, a replayer or a test environment.
type Registry interface {
	RegisterWorkflowWithOptions(w any, options workflow.RegisterOptions)
	RegisterActivity(a any)
}

// Register registers everything under the names that stand in histories. A golden file pins them.
func Register(r Registry, deps Deps) {
	journeys := &workflows.Journeys{Books: deps.Books}
	r.RegisterWorkflowWithOptions(journeys.Journey, workflow.RegisterOptions{Name: schema.JourneyWorkflow})
	r.RegisterActivity(deps.Delivery)
	r.RegisterActivity(deps.Record)
	r.RegisterActivity(deps.Identity)
	r.RegisterActivity(deps.Enrichment)
}

// Run works until ctx ends, then finishes what it has in hand.
func Run(ctx context.Context, c client.Client, cfg Config, deps Deps, logger *slog.Logger) error {
	cfg = cfg.withDefaults()
	sdkworker.SetStickyWorkflowCacheSize(cfg.CacheSize)
	fatal := make(chan error, 1)
	w := sdkworker.New(c, schema.TaskQueue, sdkworker.Options{
		MaxConcurrentWorkflowTaskPollers: cfg.WorkflowPollers,
		MaxConcurrentActivityTaskPollers: cfg.ActivityPollers,
		WorkerStopTimeout:                cfg.StopTimeout,
		OnFatalError: func(err error) {
			select {
			case fatal <- err:
			default:
			}
		},
	})
	Register(w, deps)
	if err := w.Start(); err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "start worker", Err: err}
	}
	logger.InfoContext(ctx, "worker started", slog.String("task_queue", schema.TaskQueue))
	defer w.Stop()
	select {
	case <-ctx.Done():
		if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
			logger.InfoContext(ctx, "worker stops", slog.Any("cause", cause))
		}
		return nil
	case err := <-fatal:
		return fmt.Errorf("worker: %w", err)
	}
}
