package main

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"os"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/internal/eventlog"
	"github.com/onramphq/onramp/schema"
)

// mappingFlags say which column of a recorded log is what.
type mappingFlags struct {
	Mapping    string            `help:"YAML file that says which column is what; flags win over it."`
	Format     string            `help:"csv or jsonl. Defaults to what the file's name says."`
	User       string            `help:"Column or field of the user id. Guessed from common names."`
	Event      string            `help:"Column or field of the event name. Guessed."`
	Time       string            `help:"Column or field of the event time. Guessed."`
	TimeUnit   string            `help:"rfc3339, s, ms, us, ns or auto. Defaults to auto."`
	EventID    string            `name:"event-id" help:"Column or field of the event id. Defaults to an id made from the content."`
	Properties []string          `help:"Columns or fields that become properties; * for all others."`
	Traits     []string          `help:"Columns or fields that become traits."`
	Rename     map[string]string `help:"Event names in the log and in the playbook: old=new;old=new."`
}

func (c *mappingFlags) mapping() (eventlog.Mapping, error) {
	var m eventlog.Mapping
	if c.Mapping != "" {
		file, err := os.Open(c.Mapping)
		if err != nil {
			return m, usagef("mapping: %w", err)
		}
		defer file.Close() //nolint:errcheck // read only
		if m, err = eventlog.LoadMapping(file, c.Mapping); err != nil {
			return m, &usageError{err}
		}
	}
	m.Format, m.User, m.Event = cmp.Or(c.Format, m.Format), cmp.Or(c.User, m.User), cmp.Or(c.Event, m.Event)
	m.Time, m.TimeUnit, m.EventID = cmp.Or(c.Time, m.Time), cmp.Or(c.TimeUnit, m.TimeUnit), cmp.Or(c.EventID, m.EventID)
	if len(c.Properties) > 0 {
		m.Properties = c.Properties
	}
	if len(c.Traits) > 0 {
		m.Traits = c.Traits
	}
	if len(c.Rename) > 0 {
		m.Rename = c.Rename
	}
	if err := m.Validate(); err != nil {
		return m, &usageError{err}
	}
	return m, nil
}

// shownRejects is how many refused lines are shown.
const shownRejects = 10

// eventLog is what the files held.
type eventLog struct {
	records []eventlog.Record
	rejects []eventlog.Reject // the first of them
	counts  eventlog.Counts
}

// readEvents reads the files whole. keep is told every line that is no event; it may be nil.
func readEvents(ctx context.Context, files []string, m eventlog.Mapping, io stdio, keep func(eventlog.Reject) error) (*eventLog, error) {
	var log eventLog
	show := newProgress(io.err, "reading", 100)
	names := make(map[string]string) // the few names of events are held once, not once an event
	counts, err := eventlog.Read(ctx, files, m,
		func(done, total int64) {
			if total > 0 {
				show.set(done * 100 / total)
			}
		},
		func(r eventlog.Record) error {
			name, known := names[r.Event.EventName]
			if !known {
				name = r.Event.EventName
				names[name] = name
			}
			r.Event.EventName = name
			log.records = append(log.records, r)
			return nil
		},
		func(r eventlog.Reject) error {
			if len(log.rejects) < shownRejects {
				log.rejects = append(log.rejects, r)
			}
			if keep == nil {
				return nil
			}
			return keep(r)
		})
	show.done()
	log.counts = counts
	if err != nil {
		return nil, err
	}
	eventlog.Sort(log.records)
	eventlog.Identify(log.records)
	return &log, nil
}

// printRejects shows the first lines that are no events.
func (l *eventLog) printRejects(io stdio) {
	for _, r := range l.rejects {
		say(io.err, "%s:%d: %s: %s\n", r.File, r.Line, r.Reason, r.Message)
	}
	if more := l.counts.Rejects - len(l.rejects); more > 0 {
		say(io.err, "and %d more lines\n", more)
	}
}

// users hands out the log user by user, in order of appearance. only, where it is given, names the one user who is wanted.
func (l *eventLog) users(ctx context.Context, key []byte, only string) (list iter.Seq2[backtest.User, error], total int) {
	all := l.group(key, only)
	l.records = nil
	return func(yield func(backtest.User, error) bool) {
		for i := range all {
			if ctx.Err() != nil {
				yield(backtest.User{}, fmt.Errorf("stopped: %w", context.Cause(ctx)))
				return
			}
			u := all[i]
			all[i] = backtest.User{} // whoever is done with it lets it go
			if !yield(u, nil) {
				return
			}
		}
	}, len(all)
}

// group puts each user's events together.
func (l *eventLog) group(key []byte, only string) []backtest.User {
	place := make(map[string]int)
	var all []backtest.User
	for i := range l.records {
		e := &l.records[i].Event
		at, known := place[e.UserID]
		if !known {
			at = -1
			if token := schema.UserToken(key, e.UserID); only == "" || only == e.UserID || only == token {
				at = len(all)
				all = append(all, backtest.User{ID: e.UserID, Token: token})
			}
			place[e.UserID] = at
		}
		if at >= 0 {
			all[at].Events = append(all[at].Events, schema.UserEvent{
				EventID: e.EventID, EventName: e.EventName, OccurredAt: e.OccurredAt.UnixMilli(), Properties: e.Properties, Traits: e.Traits,
			})
		}
	}
	return all
}
