package outcome

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/schema"
)

// eventRow is a row of events, and of users.
type eventRow struct {
	id, name, token, userID string
	occurred, received      int64
	sequence                uint64
	lateness, source        string
	clamped                 bool
	properties, traits      string
	canary                  bool // it has no row
	trace                   schema.Trace
}

// tokensKept bounds how many user tokens a decoder remembers.
const tokensKept = 16_384

// eventDecoder makes rows of events. It remembers the tokens it made: users come again, and a token costs as much as half of the
// rest. For one goroutine.
type eventDecoder struct {
	key    []byte
	tokens map[string]string
}

func newEventDecoder(workspaceKey []byte) *eventDecoder {
	return &eventDecoder{key: workspaceKey, tokens: make(map[string]string)}
}

func (x *eventDecoder) token(userID string) string {
	token, known := x.tokens[userID]
	if !known {
		if len(x.tokens) >= tokensKept {
			clear(x.tokens)
		}
		token = schema.UserToken(x.key, userID)
		x.tokens[userID] = token
	}
	return token
}

func (x *eventDecoder) decode(d delivery) (eventRow, error) {
	event, err := schema.Receive(d.msg.Data(), d.msg.Headers(), d.sequence, d.received)
	if err != nil {
		return eventRow{}, err
	}
	if event.Canary() {
		return eventRow{canary: true}, nil
	}
	source := strings.TrimPrefix(d.msg.Subject(), strings.TrimSuffix(schema.EventsSubjects, ">"))
	return eventRow{
		id:         event.ID,
		name:       event.EventName,
		token:      x.token(event.UserID),
		userID:     event.UserID,
		occurred:   event.Timing.OccurredAt.UnixMilli(),
		received:   event.ReceivedAt.UnixMilli(),
		sequence:   event.Sequence,
		lateness:   string(event.Lateness),
		source:     source,
		clamped:    event.Clamped,
		properties: string(event.Properties),
		traits:     string(event.Traits),
		trace:      event.Trace,
	}, nil
}

// eventWriter stores events and their users. Users come again, and an insert costs ClickHouse a part, however small: a user whom it has stored
// is not stored again, unless an earlier event is found. For one goroutine.
type eventWriter struct {
	store *Store
	users *recent.Map[string, storedUser] // by token
	now   func() time.Time
}

// storedUser is what the table of users knows of one.
type storedUser struct {
	firstSeen int64
	at        time.Time // when it was told
}

const (
	usersKept  = tokensKept
	usersStale = time.Hour // then a user is stored again: somebody may have removed the row
)

func newEventWriter(store *Store) *eventWriter {
	return &eventWriter{store: store, users: recent.New[string, storedUser](usersKept), now: time.Now}
}

// write stores the events of a batch, then their users: an event without its user can be mended by the next event of the user, the reverse
// would name a user who did nothing. A batch of canaries alone is an insert without rows: the server answers it as it would answer one with
// rows, and stores nothing.
func (w *eventWriter) write(ctx context.Context, token string, rows []*eventRow) error {
	if slices.ContainsFunc(rows, func(r *eventRow) bool { return r.canary }) {
		rows = slices.DeleteFunc(slices.Clone(rows), func(r *eventRow) bool { return r.canary })
	}
	if err := w.store.insertEvents(ctx, token, rows); err != nil {
		return err
	}
	now := w.now()
	users := slices.DeleteFunc(usersOf(rows), func(r *eventRow) bool {
		stored, ok := w.users.Get(r.token)
		return ok && stored.firstSeen <= r.occurred && now.Sub(stored.at) < usersStale
	})
	if len(users) == 0 {
		return nil
	}
	if err := w.store.insertUsers(ctx, token, users); err != nil {
		return err
	}
	for _, r := range users {
		w.users.Put(r.token, storedUser{r.occurred, now})
	}
	return nil
}

func (s *Store) insertEvents(ctx context.Context, token string, rows []*eventRow) error {
	return s.insert(ctx, "events", token, []column{
		{"event_id", pick(rows, func(r *eventRow) string { return r.id })},
		{"event_name", pick(rows, func(r *eventRow) string { return r.name })},
		{"user_token", pick(rows, func(r *eventRow) string { return r.token })},
		{"occurred_at", pick(rows, func(r *eventRow) int64 { return r.occurred })},
		{"received_at", pick(rows, func(r *eventRow) int64 { return r.received })},
		{"sequence", pick(rows, func(r *eventRow) uint64 { return r.sequence })},
		{"lateness", pick(rows, func(r *eventRow) string { return r.lateness })},
		{"clamped", pick(rows, func(r *eventRow) bool { return r.clamped })},
		{"source", pick(rows, func(r *eventRow) string { return r.source })},
		{"properties", pick(rows, func(r *eventRow) string { return r.properties })},
		{"traits", pick(rows, func(r *eventRow) string { return r.traits })},
		{"trace_id", pick(rows, func(r *eventRow) string { return r.trace.ID() })},
	})
}

func (s *Store) insertUsers(ctx context.Context, token string, users []*eventRow) error {
	return s.insert(ctx, "users", token, []column{
		{"user_token", pick(users, func(r *eventRow) string { return r.token })},
		{"user_id", pick(users, func(r *eventRow) string { return r.userID })},
		{"first_seen", pick(users, func(r *eventRow) int64 { return r.occurred })},
	})
}

// usersOf returns the earliest row of each user, in a stable order.
func usersOf(rows []*eventRow) []*eventRow {
	place := make(map[string]int)
	var users []*eventRow
	for _, r := range rows {
		i, ok := place[r.token]
		switch {
		case !ok:
			place[r.token] = len(users)
			users = append(users, r)
		case r.occurred < users[i].occurred:
			users[i] = r
		}
	}
	return users
}

// pick makes a column out of rows.
func pick[R, V any](rows []R, value func(R) V) []V {
	values := make([]V, len(rows))
	for i, r := range rows {
		values[i] = value(r)
	}
	return values
}

// latestMilli is the last millisecond a DateTime64(3) holds without being bent: 2262-04-11, also the end of a time.Time in
// nanoseconds. ClickHouse clamps or invents what lies outside.
var latestMilli = time.Unix(0, 1<<63-1).UnixMilli() //nolint:gochecknoglobals // a constant but for Go having no constant calls
