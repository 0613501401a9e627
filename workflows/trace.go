package workflows

import "github.com/onramphq/onramp/schema"

// traceOf is the trace of the event by which an action was decided; empty where it had none, or time alone decided.
func traceOf(outcomes []schema.Outcome, actionID string) schema.Trace {
	for i := range outcomes {
		if outcomes[i].Kind == schema.ActionDecided && outcomes[i].ActionID == actionID {
			return outcomes[i].Trace
		}
	}
	return ""
}

// logged is what a log line says of a trace; nothing for none.
func logged(trace schema.Trace) []any {
	if id := trace.ID(); id != "" {
		return []any{"trace_id", id}
	}
	return nil
}
