package worker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

// loadTimeout bounds a look-up from workflow code: Temporal takes a workflow that is silent for a second for a deadlock.
const loadTimeout = 700 * time.Millisecond

const currentName = "current"

// ErrNoPlaybook is returned while no playbook has been published yet.
var ErrNoPlaybook = errors.New("no playbook is published: run onramp apply PLAYBOOK, or start with --playbook DIR")

// Current is the playbook that new events are read with. Revision grows with every one that is made current.
type Current struct {
	*playbook.Playbook

	Revision uint64
	Before   []*playbook.Playbook // the versions before it that somebody may still be inside, newest first
}

// Reads reports whether an event is read by the playbook in force or by one before it: who is inside an older version waits for what
// that version waits for.
func (c Current) Reads(event string, hasTraits bool) bool {
	return c.Playbook.Reads(event, hasTraits) ||
		slices.ContainsFunc(c.Before, func(p *playbook.Playbook) bool { return p.Reads(event, hasTraits) })
}

// pointer is the object that says which playbook is in force.
type pointer struct {
	Hash     string   `json:"hash"`
	Revision uint64   `json:"revision"`
	Before   []string `json:"before,omitempty"` // hashes, newest first
}

// versionsRead bounds how many older versions' events are still passed on.
const versionsRead = 16

// followedBy is the pointer to the playbook that comes after p's.
func (p pointer) followedBy(hash string) pointer {
	next := pointer{Hash: hash, Revision: p.Revision + 1}
	for _, older := range slices.Concat([]string{p.Hash}, p.Before) {
		if older != "" && older != hash && len(next.Before) < versionsRead {
			next.Before = append(next.Before, older)
		}
	}
	return next
}

// Library gives compiled playbooks by hash and follows which one is current. Safe for concurrent use.
type Library struct {
	store   jetstream.ObjectStore
	logger  *slog.Logger
	mu      sync.RWMutex
	books   map[string]*playbook.Playbook
	current atomic.Pointer[Current]
}

// OpenLibrary opens the object store, making it if it is new, and loads the current playbook if there is one.
func OpenLibrary(ctx context.Context, js jetstream.JetStream, replicas int, logger *slog.Logger) (*Library, error) {
	store, err := js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{
		Bucket: schema.PlaybooksBucket, Description: "Playbooks by hash, and the current one", Replicas: max(1, replicas),
	})
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open object store " + schema.PlaybooksBucket, Err: err}
	}
	return loadLibrary(ctx, store, logger)
}

func loadLibrary(ctx context.Context, store jetstream.ObjectStore, logger *slog.Logger) (*Library, error) {
	l := &Library{store: store, logger: logger, books: make(map[string]*playbook.Playbook)}
	if err := l.refresh(ctx); err != nil && !errors.Is(err, ErrNoPlaybook) {
		return nil, err
	}
	return l, nil
}

// ReadLibrary opens the object store as it is, for one who only reads: it makes and changes nothing. Where nothing was ever published
// the library is empty.
func ReadLibrary(ctx context.Context, js jetstream.JetStream, logger *slog.Logger) (*Library, error) {
	store, err := js.ObjectStore(ctx, schema.PlaybooksBucket)
	if errors.Is(err, jetstream.ErrBucketNotFound) {
		return &Library{logger: logger, books: make(map[string]*playbook.Playbook)}, nil
	}
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open object store " + schema.PlaybooksBucket, Err: err}
	}
	return loadLibrary(ctx, store, logger)
}

// Stored loads every version that was ever published, in no order.
func (l *Library) Stored(ctx context.Context) ([]*playbook.Playbook, error) {
	if l.store == nil {
		return nil, nil
	}
	objects, err := l.store.List(ctx)
	if err != nil && !errors.Is(err, jetstream.ErrNoObjectsFound) {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "list playbooks", Err: err}
	}
	var stored []*playbook.Playbook
	for _, object := range objects {
		if object.Name == currentName {
			continue
		}
		book, err := l.load(ctx, object.Name)
		if err != nil {
			return nil, err
		}
		stored = append(stored, book)
	}
	return stored, nil
}

// Publish stores the bundle under its hash and makes it current. Publishing what is current already changes nothing.
// Errors: playbook.Problems where the bundle does not compile.
func (l *Library) Publish(ctx context.Context, bundle playbook.Bundle) (Current, error) {
	compiled, err := playbook.Compile(bundle)
	if err != nil {
		return Current{}, err
	}
	before := pointer{}
	switch raw, err := l.store.GetBytes(ctx, currentName); {
	case errors.Is(err, jetstream.ErrObjectNotFound):
	case err != nil:
		return Current{}, fmt.Errorf("read current playbook: %w", err)
	default:
		if err := json.Unmarshal(raw, &before); err != nil {
			return Current{}, fmt.Errorf("decode current playbook: %w", err)
		}
	}
	if before.Hash != compiled.Hash {
		encoded, err := bundle.Encode()
		if err != nil {
			return Current{}, fmt.Errorf("encode playbook %s: %w", compiled.Hash, err)
		}
		if _, err := l.store.PutBytes(ctx, compiled.Hash, encoded); err != nil {
			return Current{}, fmt.Errorf("store playbook %s: %w", compiled.Hash, err)
		}
		raw, err := json.Marshal(before.followedBy(compiled.Hash))
		if err != nil {
			return Current{}, fmt.Errorf("encode current playbook: %w", err)
		}
		if _, err := l.store.PutBytes(ctx, currentName, raw); err != nil {
			return Current{}, fmt.Errorf("make playbook %s current: %w", compiled.Hash, err)
		}
	}
	if err := l.refresh(ctx); err != nil {
		return Current{}, err
	}
	return *l.current.Load(), nil
}

// Current returns the playbook in force, or ErrNoPlaybook.
func (l *Library) Current() (Current, error) {
	if c := l.current.Load(); c != nil {
		return *c, nil
	}
	return Current{}, ErrNoPlaybook
}

// Playbook returns the version of that hash, nil where it cannot be had now. It implements journey.Books.
func (l *Library) Playbook(hash string) *playbook.Playbook {
	l.mu.RLock()
	book := l.books[hash]
	l.mu.RUnlock()
	if book != nil || hash == "" || l.store == nil { // a user of whom nothing is known yet is under no playbook
		return book
	}
	ctx, cancel := context.WithTimeout(context.Background(), loadTimeout)
	defer cancel()
	book, err := l.load(ctx, hash)
	if err != nil {
		l.logger.ErrorContext(ctx, "playbook not loaded", slog.String("playbook", hash), slog.Any("error", err))
		return nil
	}
	return book
}

func (l *Library) load(ctx context.Context, hash string) (*playbook.Playbook, error) {
	raw, err := l.store.GetBytes(ctx, hash)
	if err != nil {
		return nil, fmt.Errorf("load playbook %s: %w", hash, err)
	}
	bundle, err := playbook.DecodeBundle(raw)
	if err != nil {
		return nil, err
	}
	if got := bundle.Hash(); got != hash {
		return nil, fmt.Errorf("load playbook %s: its content hashes to %s", hash, got)
	}
	book, err := playbook.Compile(bundle)
	if err != nil {
		return nil, fmt.Errorf("compile playbook %s: %w", hash, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.books[hash] = book
	return book, nil
}

func (l *Library) refresh(ctx context.Context) error {
	raw, err := l.store.GetBytes(ctx, currentName)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return ErrNoPlaybook
	}
	if err != nil {
		return fmt.Errorf("read current playbook: %w", err)
	}
	var p pointer
	if err := json.Unmarshal(raw, &p); err != nil {
		return fmt.Errorf("decode current playbook: %w", err)
	}
	if c := l.current.Load(); c != nil && c.Revision >= p.Revision {
		return nil
	}
	book, err := l.load(ctx, p.Hash)
	if err != nil {
		return err
	}
	current := &Current{Playbook: book, Revision: p.Revision}
	for _, hash := range p.Before {
		if older := l.Playbook(hash); older != nil { //nolint:contextcheck // it has a deadline of its own. Where it is lost, which is logged, so are those inside
			current.Before = append(current.Before, older)
		}
	}
	l.current.Store(current)
	return nil
}

// Follow keeps Current up to date until ctx ends.
func (l *Library) Follow(ctx context.Context) error {
	watcher, err := l.store.Watch(ctx, jetstream.UpdatesOnly())
	if ctx.Err() != nil && err != nil {
		return nil // told to stop before it began: what ended the work is what counts
	}
	if err != nil {
		return fmt.Errorf("watch playbooks: %w", err)
	}
	defer watcher.Stop() //nolint:errcheck // the watch ends with the connection anyway
	l.follow(ctx)        // what was published between opening and watching
	for {
		select {
		case <-ctx.Done():
			return nil
		case info, open := <-watcher.Updates():
			if !open {
				return nil
			}
			if info == nil || info.Name != currentName {
				continue
			}
			l.follow(ctx)
		}
	}
}

func (l *Library) follow(ctx context.Context) {
	before := l.current.Load()
	if err := l.refresh(ctx); err != nil && !errors.Is(err, ErrNoPlaybook) {
		l.logger.ErrorContext(ctx, "current playbook not taken", slog.Any("error", err))
		return
	}
	if c := l.current.Load(); c != before {
		l.logger.InfoContext(ctx, "playbook in force", slog.String("playbook", c.Hash), slog.Uint64("revision", c.Revision))
	}
}
