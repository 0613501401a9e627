package schema

// Signal describes a workflow signal: its wire name and, by its type argument, what it carries. Only the workflow's
// receiver and ingest's sender use it, so the name is written once.
type Signal[T any] struct{ Name string }

// Query describes a workflow query and the type of its answer.
type Query[T any] struct {
	Name        string
	Description string
}

// The messages a user's workflow understands.
//
//nolint:gochecknoglobals // descriptors: constants but for Go having no generic constants
var (
	EventsReceived = Signal[EventBatch]{Name: "events_received"}
	ProfileQuery   = Query[Profile]{
		Name: "profile", Description: "Segments with reasons, variants, where each journey stands, and what happens next",
	}
	ExplainQuery = Query[string]{
		Name: "explain", Description: "The same as a page to read: where the user is, why, and what happens next and when",
	}
)
