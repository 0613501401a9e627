package api

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/schema"
)

// Times of the mirror.
const (
	firstReopen = 100 * time.Millisecond
	lastReopen  = 5 * time.Second
	// openTimeout bounds one try to open the stream.
	openTimeout = 5 * time.Second
	// stopPatience is how long Run waits for the iterator. While NATS is away the client may sit in a call of 10 s that cannot
	// be canceled; that call ends by itself, or with the connection.
	stopPatience = time.Second
)

// Mirror keeps every user's newest profile in memory. Safe for concurrent use.
//
// A profile is kept as the JSON that was published: one allocation without pointers, which the garbage collector never looks
// into, and which GET /v1/users/{id} sends as it is. A user costs its JSON and 100 to 150 bytes (1.1 KB for three segments and
// one journey; TestMirrorMemory measures it): a million users fit 1.2 GB. Get decodes on demand.
type Mirror struct {
	js     jetstream.JetStream
	logger *slog.Logger
	ready  atomic.Bool
	mu     sync.RWMutex
	users  map[mirrorKey]mirrored
	into   map[mirrorKey]mirrorKey   // whom those have become who are another by now
	from   map[mirrorKey][]mirrorKey // the same, the other way round

	watchers watchers
}

// mirrorKey is a user token without the string header: it lies in the map itself.
type mirrorKey [len("u") + 26]byte

type mirrored struct {
	sequence uint64
	raw      string   // a profile as JSON
	sum      [16]byte // of it: its entity tag, the same on every replica
}

// NewMirror returns an empty Mirror over js. Run fills it.
func NewMirror(js jetstream.JetStream, logger *slog.Logger) *Mirror {
	return &Mirror{js: js, logger: logger, users: make(map[mirrorKey]mirrored), into: make(map[mirrorKey]mirrorKey), from: make(map[mirrorKey][]mirrorKey)}
}

// Ready reports whether the mirror has held everything the stream held at some moment since the start. It stays true while
// NATS is away: an old profile is better than none, and the check on NATS tells the operator.
func (m *Mirror) Ready() bool { return m.ready.Load() }

// Len returns the number of users.
func (m *Mirror) Len() int {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return len(m.users)
}

// Get returns the newest profile of the user, false where there is none. Who has become another is answered with the other's.
func (m *Mirror) Get(token string) (schema.Profile, bool) {
	raw, ok := m.raw(token)
	if !ok {
		return schema.Profile{}, false
	}
	return m.decode(token, raw)
}

func (m *Mirror) decode(token, raw string) (schema.Profile, bool) {
	var profile schema.Profile
	if err := json.Unmarshal([]byte(raw), &profile); err != nil {
		// It was read once before it came in, so only a profile of another shape than ours ends here.
		m.logger.Error("profile not decoded", slog.String("user_token", token), slog.Any("error", err))
		return schema.Profile{}, false
	}
	return profile, true
}

func (m *Mirror) raw(token string) (string, bool) {
	kept, ok := m.kept(token)
	return kept.raw, ok
}

func (m *Mirror) kept(token string) (mirrored, bool) {
	key, ok := keyOf(token)
	if !ok {
		return mirrored{}, false
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	for range identity.MaxMerged { // longer than any chain
		into, merged := m.into[key]
		if _, known := m.users[into]; !merged || !known {
			break
		}
		key = into
	}
	kept, ok := m.users[key]
	return kept, ok
}

func keyOf(token string) (key mirrorKey, ok bool) {
	if len(token) != len(key) {
		return mirrorKey{}, false
	}
	copy(key[:], token)
	return key, true
}

// watch is watchers.watch of a user by token. What is no token never changes.
func (m *Mirror) watch(token string) (changed <-chan struct{}, stop func()) {
	key, ok := keyOf(token)
	if !ok {
		return nil, func() {}
	}
	return m.watchers.watch(key)
}

// reach waits until the user's profile has come to this sequence, or ctx ends.
func (m *Mirror) reach(ctx context.Context, token string, sequence uint64) {
	changed, stop := m.watch(token)
	defer stop()
	for {
		if kept, _ := m.kept(token); kept.sequence >= sequence {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// Run follows the stream until ctx ends, through restarts of the server and through the stream being made anew. It returns
// nil when ctx ends and has no other end.
func (m *Mirror) Run(ctx context.Context) error {
	for delay := firstReopen; ; delay = min(2*delay, lastReopen) {
		began := time.Now()
		err := m.follow(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // it was told to stop
		}
		if time.Since(began) > lastReopen {
			delay = firstReopen
		}
		m.logger.WarnContext(ctx, "profiles not followed, trying again", slog.Duration("delay", delay), slog.Any("error", err))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(delay):
		}
	}
}

// follow reads the newest profile of every user and then every change. It returns when reading breaks down or ctx ends.
func (m *Mirror) follow(ctx context.Context) error {
	open, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	consumer, err := m.js.OrderedConsumer(open, schema.ProfilesStream, jetstream.OrderedConsumerConfig{
		FilterSubjects: []string{schema.ProfilesSubjects}, DeliverPolicy: jetstream.DeliverLastPerSubjectPolicy,
		MaxResetAttempts: 1, // Run tries again, and knows when to stop
	})
	if err != nil {
		return fmt.Errorf("open %s: %w", schema.ProfilesStream, err)
	}
	if info := consumer.CachedInfo(); info != nil && info.NumPending == 0 {
		m.caughtUp()
	}
	iterator, err := consumer.Messages(jetstream.PullMaxMessages(2000))
	if err != nil {
		return fmt.Errorf("read %s: %w", schema.ProfilesStream, err)
	}
	done := make(chan error, 1)
	go func() { done <- m.read(iterator) }()
	select {
	case err := <-done:
		iterator.Stop()
		return err
	case <-ctx.Done():
	}
	go iterator.Stop() // beside, because it waits for a call in flight
	select {
	case err := <-done:
		return err
	case <-time.After(stopPatience):
		m.logger.WarnContext(ctx, "profiles reader left behind: NATS does not answer")
	}
	return ctx.Err()
}

func (m *Mirror) read(iterator jetstream.MessagesContext) error {
	for {
		message, err := iterator.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", schema.ProfilesStream, err)
		}
		m.take(message)
		if m.Ready() {
			continue
		}
		if meta, err := message.Metadata(); err == nil && meta.NumPending == 0 {
			m.caughtUp()
		}
	}
}

func (m *Mirror) caughtUp() {
	if m.ready.CompareAndSwap(false, true) {
		m.logger.Info("profiles caught up", slog.Int("users", m.Len()))
	}
}

// take keeps one profile. An empty message is the end of a user: the profile was erased. What cannot be read is left out and
// the older profile stays.
func (m *Mirror) take(message jetstream.Msg) {
	token := strings.TrimPrefix(message.Subject(), schema.ProfileSubject(""))
	if err := schema.CheckToken(token); err != nil {
		m.logger.Warn("profile left out", slog.String("subject", schema.Clean(message.Subject())), slog.Any("error", err))
		return
	}
	key := mirrorKey([]byte(token))
	if len(message.Data()) == 0 {
		m.mu.Lock()
		delete(m.users, key)
		if into, merged := m.into[key]; merged {
			m.from[into] = slices.DeleteFunc(m.from[into], func(k mirrorKey) bool { return k == key })
			delete(m.into, key)
		}
		m.mu.Unlock()
		m.watchers.tell(key)
		return
	}
	var profile schema.Profile
	if err := json.Unmarshal(message.Data(), &profile); err != nil {
		m.logger.Warn("profile left out", slog.String("user_token", token), slog.Any("error", err))
		return
	}
	if profile.UserToken != token {
		m.logger.Warn("profile left out: it is of another user", slog.String("user_token", token))
		return
	}
	sum := sha256.Sum256(message.Data())
	if !m.keep(key, mirrored{sequence: profile.Sequence, raw: string(message.Data()), sum: [16]byte(sum[:16])}) {
		return
	}
	if schema.CheckToken(profile.MergedInto) == nil && profile.MergedInto != token {
		m.merge(key, mirrorKey([]byte(profile.MergedInto)))
	}
	for _, watched := range m.all(key) {
		m.watchers.tell(watched)
	}
}

// merge remembers that one user is another from now on.
func (m *Mirror) merge(key, into mirrorKey) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.into[key] != into {
		m.into[key] = into
		m.from[into] = append(m.from[into], key)
	}
}

// all returns the user, and everybody who is that user by now: whoever watches one of them hears of it.
func (m *Mirror) all(key mirrorKey) []mirrorKey {
	m.mu.RLock()
	defer m.mu.RUnlock()
	found := []mirrorKey{key}
	for i := 0; i < len(found) && len(found) <= identity.MaxMerged; i++ {
		found = append(found, m.from[found[i]]...)
	}
	return found
}

// keep reports whether the profile is not older than the one that was there.
func (m *Mirror) keep(key mirrorKey, fresh mirrored) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if fresh.sequence < m.users[key].sequence {
		return false
	}
	m.users[key] = fresh
	return true
}
