package ingest

import (
	"errors"
	"fmt"
	"time"

	"github.com/onramphq/onramp/internal/tracing"
)

// Config sizes ingest. The zero value is right for one process on two cores.
type Config struct {
	// Page is the most messages taken up together. Defaults to 1,000.
	Page int
	// InHand is the most messages taken over from the stream and not settled. While Temporal is behind, the events of a user gather
	// there and share one signal: the more users at once, the more there must be room for. Events are small, but each may have 256 KiB.
	// Defaults to 20,000.
	InHand int
	// Batch is the most events of one user in one signal. Defaults to 200.
	Batch int
	// BatchBytes bounds one signal likewise. Defaults to 256 KiB.
	BatchBytes int
	// Concurrency is the number of calls to Temporal in flight, each for another user. Defaults to 32.
	Concurrency int
	// Linger is how long an event that can change nothing now may wait for its user's next batch. Negative: none waits. Defaults to 10 s.
	Linger time.Duration
	// AckWait is how long the server waits for an acknowledgment before it delivers again. Messages in hand are renewed long
	// before; it only matters when the process dies. Defaults to 10 s.
	AckWait time.Duration
	// MaxDeliver is how often a message may be delivered before it becomes a dead letter. Defaults to 10.
	MaxDeliver int
	// Exclusive says that there is no other process, so that none has to be asked for its turn. Defaults to false.
	Exclusive bool
	// Enrich says that workers have providers to ask about users. Defaults to false.
	Enrich bool
	// WorkspaceKey makes user tokens. Required, at least 16 bytes.
	WorkspaceKey []byte
	// Meters are told how it goes. Defaults to none.
	Meters Meters
	// Tracer makes a span of every batch in the traces of its events. Defaults to none.
	Tracer tracing.Tracer
}

// Meters measure ingest. They are called from several goroutines and must not block; nil ones are not called.
type Meters struct {
	Page   func(messages float64) // taken up together
	Batch  func(events float64)   // that one signal carried
	Signal func(seconds float64)  // that one call to Temporal took, whether it succeeded or not
	Delay  func(seconds float64)  // from the receipt of an event by its stream to its signal
}

func tell(meter func(float64), value float64) {
	if meter != nil {
		meter(value)
	}
}

func (c Config) withDefaults() Config {
	for _, d := range []struct {
		field *int
		value int
	}{{&c.Page, 1000}, {&c.InHand, max(20_000, c.Page)}, {&c.Batch, 200}, {&c.BatchBytes, 256 << 10}, {&c.Concurrency, 32}, {&c.MaxDeliver, 10}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if c.AckWait == 0 {
		c.AckWait = 10 * time.Second
	}
	if c.Linger == 0 {
		c.Linger = 10 * time.Second
	}
	return c
}

func (c Config) validate() error {
	var problems []error
	bound := func(name string, v, low, high int) {
		if v < low || v > high {
			problems = append(problems, fmt.Errorf("ingest: %s is %d; it must lie in %d to %d", name, v, low, high))
		}
	}
	bound("page", c.Page, 1, 10_000)
	bound("in hand", c.InHand, c.Page, 1_000_000)
	bound("batch", c.Batch, 1, 500) // below journey.SeenCapacity: a batch that is sent again must be recognized whole
	bound("batch bytes", c.BatchBytes, 1<<10, 1<<20)
	bound("concurrency", c.Concurrency, 1, 1024)
	bound("max deliver", c.MaxDeliver, 2, 1000)
	if c.AckWait < time.Second {
		problems = append(problems, fmt.Errorf("ingest: ack wait is %s; it must be at least 1s", c.AckWait))
	}
	if c.Linger > time.Minute {
		problems = append(problems, fmt.Errorf("ingest: linger is %s; it must be at most 1m", c.Linger))
	}
	if len(c.WorkspaceKey) < 16 {
		problems = append(problems, errors.New("ingest: the workspace key must have at least 16 bytes"))
	}
	return errors.Join(problems...)
}
