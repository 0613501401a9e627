// Package lease says which of several processes works, where one may and the others wait. A lease decides who works and not what is
// right: a process that slept may find only afterwards that another has taken over, so what two of them do must be right all the same.
package lease

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

const (
	ttl   = 5 * time.Second // of a process that died
	renew = ttl / 4
	retry = 500 * time.Millisecond
)

// ErrLost is the cause by which the context of the work ends when another process has taken over.
var ErrLost = errors.New("another process has the lease")

// Lease is a place in the bucket ONRAMP_LEASES, whose entries pass away unless they are renewed. The bucket is in memory: a server that was
// away, and is the only one, has forgotten it.
type Lease struct {
	js       jetstream.JetStream
	bucket   jetstream.KeyValue
	replicas int
	name, id string
	revision uint64
	logger   *slog.Logger
}

// Open returns the lease of that name, which nobody has yet. Its bucket has as many replicas as stream, the one that the work reads. Errors are
// CodeUnavailable.
func Open(ctx context.Context, js jetstream.JetStream, name, stream string, logger *slog.Logger) (*Lease, error) {
	source, err := js.Stream(ctx, stream)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open stream " + stream, Err: err}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it only tells people who holds the lease
	}
	l := &Lease{
		js: js, replicas: source.CachedInfo().Config.Replicas, name: name, id: host + "/" + rand.Text(), logger: logger.With(slog.String("lease", name)),
	}
	if err := l.open(ctx); err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open bucket " + schema.LeasesBucket, Err: err}
	}
	return l, nil
}

func (l *Lease) open(ctx context.Context) error {
	bucket, err := l.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: schema.LeasesBucket, Description: "Which process works, of those of which one may", TTL: ttl,
		Storage: jetstream.MemoryStorage, Replicas: l.replicas,
	})
	if err != nil {
		return err
	}
	l.bucket = bucket
	return nil
}

// reopen makes the bucket again where the server has forgotten it, and reports whether it did.
func (l *Lease) reopen(ctx context.Context) bool {
	if _, err := l.js.KeyValue(ctx, schema.LeasesBucket); !errors.Is(err, jetstream.ErrBucketNotFound) {
		return false
	}
	err := l.open(ctx)
	l.logger.InfoContext(ctx, "the server had forgotten who works", slog.Any("error", err))
	return err == nil
}

// Work waits for the lease and works while this process has it, again and again, until ctx ends or work fails without having lost the lease.
// The context of work ends with ctx, or, with ErrLost for its cause, when another process has taken over. It returns nil where ctx ended
// while it waited, else what work returned last.
func (l *Lease) Work(ctx context.Context, work func(context.Context) error) error {
	for {
		if err := l.acquire(ctx); err != nil {
			return nil //nolint:nilerr // told to stop while it waited
		}
		err := l.hold(ctx, work)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil && l.held(ctx):
			return err
		case err != nil:
			l.logger.InfoContext(ctx, "another process works now; this one waits", slog.Any("error", err))
		}
	}
}

// hold works until ctx ends, the lease is lost, or something is wrong. It renews the lease until work has returned, which may take its time
// after ctx has ended.
func (l *Lease) hold(ctx context.Context, work func(context.Context) error) error {
	session, end := context.WithCancelCause(ctx)
	keeping, enough := context.WithCancel(context.WithoutCancel(ctx))
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		l.keep(keeping, func() { end(ErrLost) })
	}()
	err := work(session)
	lost := errors.Is(context.Cause(session), ErrLost)
	end(nil)
	enough()
	<-kept
	if !lost {
		l.release(context.WithoutCancel(ctx))
	}
	return err
}

// acquire waits until the lease is ours or ctx ends.
func (l *Lease) acquire(ctx context.Context) error {
	for waiting := false; ; waiting = true {
		revision, err := l.bucket.Create(ctx, l.name, []byte(l.id))
		if err == nil {
			l.revision = revision
			l.logger.InfoContext(ctx, "this process works now", slog.String("id", l.id))
			return nil
		}
		if !waiting {
			l.logger.InfoContext(ctx, "another process works, or died just now; this one waits", slog.Any("error", err))
		}
		wait := retry
		if errors.Is(err, jetstream.ErrNoStreamResponse) && l.reopen(ctx) {
			wait = ttl // for who works to say so, as long as a lease lasts
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// keep renews the lease until ctx ends, or until somebody else has it: then it calls lost. While NATS is away nobody else can have it.
func (l *Lease) keep(ctx context.Context, lost func()) {
	ticker := time.NewTicker(renew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		revision, err := l.bucket.Update(ctx, l.name, []byte(l.id), l.revision)
		switch {
		case err == nil:
			l.revision = revision
		case errors.Is(err, jetstream.ErrKeyRevisionMismatch):
			if !l.again(ctx) {
				lost()
				return
			}
		case errors.Is(err, jetstream.ErrNoStreamResponse):
			l.reopen(ctx) // and the next renewal finds that the lease ran out
		}
	}
}

// again takes the lease back where it only ran out, because the server was away or this process slept; or where the answer to a
// renewal was lost.
func (l *Lease) again(ctx context.Context) bool {
	entry, err := l.bucket.Get(ctx, l.name)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		revision, err := l.bucket.Create(ctx, l.name, []byte(l.id))
		l.revision = revision
		return err == nil
	case err != nil:
		return true // not known: the next renewal asks again
	case string(entry.Value()) == l.id:
		l.revision = entry.Revision()
		return true
	}
	return false
}

// held reports whether the lease is still ours, as far as the server says.
func (l *Lease) held(ctx context.Context) bool {
	entry, err := l.bucket.Get(ctx, l.name)
	return err != nil || string(entry.Value()) == l.id
}

// release lets the next process begin at once.
func (l *Lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := l.bucket.Delete(ctx, l.name, jetstream.LastRevision(l.revision)); err != nil {
		l.logger.InfoContext(ctx, "lease not given back: it runs out", slog.Any("error", err))
	}
}
