package ingest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// Of all processes that run ingest one works, and the others wait for its lease. Two that shared the consumer would overtake each
// other: the one gets a user's first event and the other the second.
//
// The lease decides who works, not what is right. Whoever takes over begins at the consumer's floor, so that every process sends a
// user's events from a place at or before the first that nobody has sent, one after the other: whatever a predecessor that is not
// dead still sends, it sends after, and the workflow knows it already.
const (
	leaseTTL   = 5 * time.Second // of a process that died
	leaseRenew = leaseTTL / 4
	leaseRetry = 500 * time.Millisecond
	leaseKey   = schema.IngestConsumer
)

// lease is a place in a bucket whose entries pass away unless they are renewed.
type lease struct {
	bucket   jetstream.KeyValue
	id       string
	revision uint64
	logger   *slog.Logger
}

func (i *Ingest) openLease(ctx context.Context) (*lease, error) {
	stream, err := i.js.Stream(ctx, schema.EventsStream)
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open stream " + schema.EventsStream, Err: err}
	}
	bucket, err := i.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{
		Bucket: schema.LeasesBucket, Description: "Which process works, of those of which one may", TTL: leaseTTL,
		Storage: jetstream.MemoryStorage, Replicas: stream.CachedInfo().Config.Replicas,
	})
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open bucket " + schema.LeasesBucket, Err: err}
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown" // it only tells people who holds the lease
	}
	return &lease{bucket: bucket, id: host + "/" + rand.Text(), logger: i.logger}, nil
}

// acquire waits until the lease is ours or ctx ends.
func (l *lease) acquire(ctx context.Context) error {
	for waiting := false; ; waiting = true {
		revision, err := l.bucket.Create(ctx, leaseKey, []byte(l.id))
		if err == nil {
			l.revision = revision
			l.logger.InfoContext(ctx, "this process ingests now", slog.String("id", l.id))
			return nil
		}
		if !waiting {
			l.logger.InfoContext(ctx, "another process ingests, or died just now; this one waits", slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(leaseRetry):
		}
	}
}

// keep renews the lease until ctx ends, or until somebody else has it: then it calls lost. While NATS is away nobody else can have it.
func (l *lease) keep(ctx context.Context, lost func()) {
	ticker := time.NewTicker(leaseRenew)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		revision, err := l.bucket.Update(ctx, leaseKey, []byte(l.id), l.revision)
		switch {
		case err == nil:
			l.revision = revision
		case errors.Is(err, jetstream.ErrKeyExists) || isWrongSequence(err):
			if !l.again(ctx) {
				lost()
				return
			}
		}
	}
}

// again takes the lease back where it only ran out, because the server was away or this process slept; or where the answer to a
// renewal was lost.
func (l *lease) again(ctx context.Context) bool {
	entry, err := l.bucket.Get(ctx, leaseKey)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound):
		revision, err := l.bucket.Create(ctx, leaseKey, []byte(l.id))
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
func (l *lease) held(ctx context.Context) bool {
	entry, err := l.bucket.Get(ctx, leaseKey)
	return err != nil || string(entry.Value()) == l.id
}

// release lets the next process begin at once.
func (l *lease) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := l.bucket.Delete(ctx, leaseKey, jetstream.LastRevision(l.revision)); err != nil {
		l.logger.InfoContext(ctx, "lease not given back: it runs out", slog.Any("error", err))
	}
}

// codeWrongSequence is the server's answer to an update of what has been changed, or is gone.
const codeWrongSequence jetstream.ErrorCode = 10071

func isWrongSequence(err error) bool {
	refusal, ok := errors.AsType[*jetstream.APIError](err)
	return ok && refusal.ErrorCode == codeWrongSequence
}

// lead works while the lease is this process's, and waits while it is another's.
func (i *Ingest) lead(ctx context.Context) error {
	l, err := i.openLease(ctx)
	if err != nil {
		return err
	}
	for {
		if err := l.acquire(ctx); err != nil {
			return nil //nolint:nilerr // told to stop while it waited
		}
		err := i.hold(ctx, l)
		switch {
		case ctx.Err() != nil:
			return err
		case err != nil && l.held(ctx):
			return fmt.Errorf("ingest: %w", err)
		case err != nil:
			i.logger.InfoContext(ctx, "another process ingests now; this one waits", slog.Any("error", err))
		}
	}
}

// hold works until ctx ends, the lease is lost, or something is wrong.
func (i *Ingest) hold(ctx context.Context, l *lease) error {
	session, stop := context.WithCancel(ctx)
	kept := make(chan struct{})
	go func() {
		defer close(kept)
		l.keep(session, stop)
	}()
	err := i.work(session)
	lost := session.Err() != nil && ctx.Err() == nil
	stop()
	<-kept
	if !lost {
		l.release(context.WithoutCancel(ctx))
	}
	return err
}
