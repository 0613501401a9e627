package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"text/tabwriter"
	"time"

	batchpb "go.temporal.io/api/batch/v1"
	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/converter"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/worker"
)

type applyCommand struct {
	servers

	Playbook string `arg:"" help:"Folder of YAML files, or one file."`
	DryRun   bool   `help:"Show what would change, and change nothing."`
	Yes      bool   `short:"y" help:"Do not ask."`
	JSON     bool   `name:"json" help:"Print one JSON document."`
}

// Help is shown by onramp apply --help.
func (*applyCommand) Help() string {
	return "Example: onramp apply examples/saas-onboarding --dry-run\n\n" +
		"Shows what becomes of the people who are inside a journey, asks, makes the playbook the current one, and brings it to every running user through one of Temporal's batch operations, those included who send no events. " +
		"Segments follow the newest playbook; an enrollment does what its journey says under migrate: stay, move or exit."
}

// fate is what a playbook does to the people at one step.
type fate struct {
	outcome.Standing

	Becomes string `json:"becomes"` // stays, moves to …, ends: …
}

// applied is what apply did, or would do.
type applied struct {
	Before   string `json:"before"` // hash of the playbook in force; empty where there was none
	After    string `json:"after"`
	Revision uint64 `json:"revision"`
	Inside   []fate `json:"inside"`
	Running  int64  `json:"running_users"` // who have a workflow
	Told     int64  `json:"told_users"`    // whom the batch operation reached
	Failed   int64  `json:"failed_users"`  // whom it did not; they follow with their next event
	DryRun   bool   `json:"dry_run"`
}

// Run applies the playbook.
func (c *applyCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	bundle, err := checkedBundle(c.Playbook)
	if err != nil {
		return err
	}
	if !c.DryRun && !c.Yes && !isTerminal(io.in) {
		return usagef("there is nobody to ask: add --yes to apply, or --dry-run to look")
	}
	e := &engine{servers: c.servers, roles: roles{worker: true}, logger: logger}
	defer e.close()
	for _, open := range []func(context.Context) error{e.openNATS, e.openTemporal, e.openStore} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	return c.apply(ctx, io, e, *bundle)
}

func (c *applyCommand) apply(ctx context.Context, io stdio, e *engine, bundle playbook.Bundle) error {
	result, err := plan(ctx, e, bundle)
	if err != nil {
		return err
	}
	result.DryRun = c.DryRun
	if !c.JSON {
		result.show(io)
	}
	if c.DryRun {
		return c.finish(io, result)
	}
	if !c.Yes && !agreed(io, "Apply?") {
		return errors.New("nothing was changed")
	}
	current, err := e.library.Publish(ctx, bundle)
	if err != nil {
		return err
	}
	result.Revision = current.Revision
	if err := tell(ctx, io, e, current, result); err != nil {
		return fmt.Errorf("the playbook %s is in force, but not everybody was told (%w); run the same command again, or leave it: users follow with their next event", current.Hash, err)
	}
	return c.finish(io, result)
}

func (c *applyCommand) finish(io stdio, result *applied) error {
	if c.JSON {
		return writeJSON(io.out, result)
	}
	switch {
	case result.DryRun:
		say(io.out, "nothing was changed: --dry-run\n")
	default:
		say(io.out, "playbook %s is in force, revision %d; %d running users were told, %d could not be\n",
			result.After, result.Revision, result.Told, result.Failed)
	}
	return nil
}

// plan says what a bundle would change for whom, as ClickHouse and Temporal know it at this moment.
func plan(ctx context.Context, e *engine, bundle playbook.Bundle) (*applied, error) {
	compiled, err := playbook.Compile(bundle)
	if err != nil {
		return nil, err
	}
	result := &applied{After: compiled.Hash, Inside: []fate{}}
	switch current, err := e.library.Current(); {
	case errors.Is(err, worker.ErrNoPlaybook):
	case err != nil:
		return nil, err
	default:
		result.Before = current.Hash
	}
	standings, err := e.store.Standings(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range standings {
		result.Inside = append(result.Inside, fate{s, becomes(compiled, s)})
	}
	count, err := e.temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: e.servers.TemporalNamespace, Query: running,
	})
	if err != nil {
		return nil, fmt.Errorf("count running users: %w", err)
	}
	result.Running = count.GetCount()
	return result, nil
}

// running finds the workflows of users.
const running = "WorkflowType = '" + schema.JourneyWorkflow + "' AND ExecutionStatus = 'Running'"

func becomes(next *playbook.Playbook, s outcome.Standing) string {
	j := next.Journey(s.Journey)
	switch {
	case j == nil:
		return "stays: the journey is no longer in the playbook, and those inside finish it"
	case s.Version == j.Version:
		return "stays"
	case j.Paused:
		return "is paused"
	case j.Migrate.Policy == playbook.MigrateExit:
		return "ends: version_ended"
	case j.Migrate.Policy != playbook.MigrateMove:
		return "stays in version " + s.Version
	}
	to := j.Migrate.Target(s.Step)
	if j.Steps[to] == nil {
		return "ends: step_removed; map it under migrate: {move: {" + s.Step + ": …}}"
	}
	return "moves to " + to
}

func (a *applied) show(io stdio) {
	switch a.Before {
	case "":
		say(io.out, "No playbook was in force. The new one is %s.\n", a.After)
	case a.After:
		say(io.out, "Playbook %s is in force already.\n", a.After)
	default:
		say(io.out, "Playbook %s replaces %s. What differs: onramp diff OLD NEW\n", a.After, a.Before)
	}
	say(io.out, "%d users have a running workflow; segments follow the newest playbook for all of them.\n", a.Running)
	if len(a.Inside) == 0 {
		say(io.out, "Nobody is inside a journey.\n")
		return
	}
	table := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	say(table, "\nJOURNEY\tSTEP\tVERSION\tUSERS\tWHAT BECOMES OF THEM\n")
	for _, f := range a.Inside {
		say(table, "%s\t%s\t%s\t%d\t%s\n", f.Journey, cmp.Or(f.Step, "—"), f.Version, f.Users, f.Becomes)
	}
	if err := table.Flush(); err != nil {
		return // a screen that is gone
	}
	say(io.out, "\n")
}

// tell brings the playbook to every running user that does not have it, by a batch operation of Temporal's own: it is paced, goes on
// when this command ends, and is seen in the Temporal UI.
func tell(ctx context.Context, io stdio, e *engine, current worker.Current, result *applied) error {
	query := fmt.Sprintf("%s AND %s != '%s'", running, schema.AttributePlaybook, current.Hash)
	count, err := e.temporal.CountWorkflow(ctx, &workflowservice.CountWorkflowExecutionsRequest{
		Namespace: e.servers.TemporalNamespace, Query: query,
	})
	if err != nil {
		return fmt.Errorf("count users of older playbooks: %w", err)
	}
	if count.GetCount() == 0 {
		return nil
	}
	input, err := converter.GetDefaultDataConverter().ToPayloads(schema.EventBatch{Playbook: current.Hash, Revision: current.Revision})
	if err != nil {
		return fmt.Errorf("encode signal: %w", err)
	}
	job := fmt.Sprintf("onramp-apply-%s-%d", current.Hash, time.Now().UnixMilli())
	_, err = e.temporal.WorkflowService().StartBatchOperation(ctx, &workflowservice.StartBatchOperationRequest{
		Namespace: e.servers.TemporalNamespace, VisibilityQuery: query, JobId: job,
		Reason: "playbook " + current.Hash + " is in force",
		Operation: &workflowservice.StartBatchOperationRequest_SignalOperation{SignalOperation: &batchpb.BatchOperationSignal{
			Signal: schema.EventsReceived.Name, Input: input, Identity: "onramp apply",
		}},
	})
	if err != nil {
		return fmt.Errorf("start batch operation: %w", err)
	}
	return follow(ctx, io, e, job, count.GetCount(), result)
}

// batchLook is how often apply looks at its batch operation.
const batchLook = 200 * time.Millisecond

// follow waits for a batch operation to end.
func follow(ctx context.Context, io stdio, e *engine, job string, total int64, result *applied) error {
	show := newProgress(io.err, "telling running users", total)
	defer show.done()
	for {
		batch, err := e.temporal.WorkflowService().DescribeBatchOperation(ctx, &workflowservice.DescribeBatchOperationRequest{
			Namespace: e.servers.TemporalNamespace, JobId: job,
		})
		if err != nil {
			return fmt.Errorf("look at batch operation %s: %w", job, err)
		}
		result.Told, result.Failed = batch.GetCompleteOperationCount(), batch.GetFailureOperationCount()
		show.set(result.Told + result.Failed)
		switch batch.GetState() { //nolint:exhaustive // it runs in every other state
		case enumspb.BATCH_OPERATION_STATE_COMPLETED:
			return nil
		case enumspb.BATCH_OPERATION_STATE_FAILED:
			return fmt.Errorf("batch operation %s failed", job)
		}
		if err := waitUntil(ctx, time.Now().Add(batchLook)); err != nil {
			return fmt.Errorf("wait for batch operation %s: %w", job, err)
		}
	}
}
