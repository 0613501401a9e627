package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

// sent is what the load knows of one event it published: the body of its first attempt, and what the stream said.
type sent struct {
	body   []byte
	user   string
	acked  bool // the stream said that it has it
	others int  // other bodies that were published under the same id later
}

// traffic publishes events as services would, and notes what became of each: acknowledged, or of unknown fate. It keeps on with what it
// got no answer for, under the same id, as a service with an outbox does.
type traffic struct {
	r     *rig
	cfg   loadConfig
	stop  context.CancelFunc
	wait  sync.WaitGroup
	first time.Time

	mu      sync.Mutex
	events  map[string]*sent
	bad     map[uint64]schema.Reason // by place in the stream: what must be a dead letter
	retries int
	acks    int // of the stream, repetitions among them
}

type loadConfig struct {
	users int                             // defaults to 60
	rate  int                             // events a second over all publishers; defaults to 90
	age   time.Duration                   // how long ago every event happened; 0: a mix
	only  func(n int) (name, user string) // which event comes next; defaults to a mix
}

const (
	publishers = 3
	generation = 500 // events of one publisher
)

// publishing starts a load. What it publishes follows from the rig's seed.
func (r *rig) publishing(cfg loadConfig) *traffic {
	if cfg.users == 0 {
		cfg.users = 60
	}
	if cfg.rate == 0 {
		cfg.rate = 90
	}
	ctx, stop := context.WithCancel(r.t.Context())
	l := &traffic{r: r, cfg: cfg, stop: stop, events: make(map[string]*sent), bad: make(map[uint64]schema.Reason), first: time.Now()}
	r.loads = append(r.loads, l)
	for n := range publishers {
		l.wait.Go(func() { l.publish(ctx, n) })
	}
	r.t.Cleanup(l.end)
	return l
}

// end stops the load and waits for its last answers.
func (l *traffic) end() {
	l.stop()
	l.wait.Wait()
}

// until waits until so many messages are acknowledged.
func (l *traffic) until(n int) {
	l.r.t.Helper()
	eventually(l.r.t, 2*time.Minute, "enough is published", func() bool { return l.count() >= n })
}

func (l *traffic) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.acks
}

func (l *traffic) publish(ctx context.Context, n int) {
	nc, err := nats.Connect("nats://"+l.r.via("nats"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.RetryOnFailedConnect(true))
	if err != nil {
		panic(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		panic(err)
	}
	rng := rand.New(rand.NewPCG(l.r.cfg.seed, uint64(n)))
	every := time.NewTicker(time.Second * publishers / time.Duration(l.cfg.rate))
	defer every.Stop()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		}
		l.one(ctx, js, rng, fmt.Sprintf("%d-%d-%d", l.first.UnixNano(), n, i), i)
	}
}

// one publishes one event, or a bad message, or an event that is there already.
func (l *traffic) one(ctx context.Context, js jetstream.JetStream, rng *rand.Rand, id string, n int) {
	if l.cfg.only != nil {
		name, user := l.cfg.only(n)
		l.keepOn(ctx, js, id, user, l.body(id, name, user, rng), rng.IntN(2) == 0)
		return
	}
	// New users come every so many events, and the old ones fall silent: their timers go on.
	user := fmt.Sprintf("user-%d-%d-%d", l.first.UnixMilli(), n/generation, rng.IntN(l.cfg.users))
	names := []string{"signed_up", "used", "used", "used", "used", "paid", "paid", "finished", "nobody_reads_this"}
	name := names[rng.IntN(len(names))]
	switch draw := rng.IntN(1000); {
	case draw < 10:
		l.refused(ctx, js, rng)
	case draw < 45:
		l.again(ctx, js, rng)
	default:
		l.keepOn(ctx, js, id, user, l.body(id, name, user, rng), rng.IntN(2) == 0)
	}
}

// body makes an event: of now, of a while ago, or of the past.
func (l *traffic) body(id, name, user string, rng *rand.Rand) []byte {
	e := schema.Event{EventID: id, EventName: name, UserID: user, Properties: json.RawMessage(fmt.Sprintf(`{"n":%d}`, rng.IntN(300)))}
	switch draw := rng.IntN(100); {
	case l.cfg.age > 0:
		e.OccurredAt = time.Now().Add(-l.cfg.age).UTC()
	case draw < 10:
		e.OccurredAt = time.Now().Add(-time.Duration(rng.IntN(600)) * time.Second).UTC()
	case draw < 12:
		e.OccurredAt = time.Now().Add(-time.Duration(1+rng.IntN(60)) * time.Hour).UTC()
	case draw < 13:
		e.Backfill, e.OccurredAt = true, time.Now().Add(-time.Duration(100+rng.IntN(1000))*time.Hour).UTC()
	}
	raw, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	return raw
}

// keepOn publishes until the stream says that it has the event. With a message id the stream itself recognizes the repetition; without
// one the engine must.
func (l *traffic) keepOn(ctx context.Context, js jetstream.JetStream, id, user string, raw []byte, withID bool) {
	l.mu.Lock()
	l.events[id] = &sent{body: raw, user: user}
	l.mu.Unlock()
	for ctx.Err() == nil {
		if _, err := l.try(ctx, js, raw, id, withID); err == nil {
			l.mu.Lock()
			l.events[id].acked = true
			l.mu.Unlock()
			return
		}
		l.mu.Lock()
		l.retries++
		l.mu.Unlock()
	}
}

func (l *traffic) try(ctx context.Context, js jetstream.JetStream, raw []byte, id string, withID bool) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	message := nats.NewMsg(schema.EventSubject("chaos"))
	message.Data = raw
	if withID {
		message.Header.Set(jetstream.MsgIDHeader, id)
	}
	ack, err := js.PublishMsg(ctx, message, jetstream.WithRetryAttempts(0))
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	l.acks++
	l.mu.Unlock()
	return ack.Sequence, nil
}

// again publishes an event a second time, one in ten with another body: the first counts.
func (l *traffic) again(ctx context.Context, js jetstream.JetStream, rng *rand.Rand) {
	l.mu.Lock()
	ids := make([]string, 0, 64)
	for id, e := range l.events { // any will do
		if e.acked {
			ids = append(ids, id)
		}
		if len(ids) == cap(ids) {
			break
		}
	}
	if len(ids) == 0 {
		l.mu.Unlock()
		return
	}
	id := ids[rng.IntN(len(ids))]
	raw := l.events[id].body
	if rng.IntN(10) == 0 {
		raw = l.body(id, "paid", l.events[id].user, rng)
		l.events[id].others++
	}
	l.mu.Unlock()
	_, _ = l.try(ctx, js, raw, id, false) // whether it is there or not, it counts for nothing
}

// refused publishes what is no event.
func (l *traffic) refused(ctx context.Context, js jetstream.JetStream, rng *rand.Rand) {
	bad := []struct {
		reason schema.Reason
		raw    string
	}{
		{schema.ReasonMalformedJSON, `{"user_id":`},
		{schema.ReasonMissingUser, `{"event_name":"signed_up"}`},
		{schema.ReasonDuplicateKey, `{"event_name":"signed_up","user_id":"a","user_id":"b"}`},
	}
	one := bad[rng.IntN(len(bad))]
	if sequence, err := l.try(ctx, js, []byte(one.raw), "", false); err == nil {
		l.mu.Lock()
		l.bad[sequence] = one.reason
		l.mu.Unlock()
	}
}

// receiver takes webhooks: some it refuses at first, and of some it takes the action and loses the answer.
type receiver struct {
	server *httptest.Server
	seed   uint64

	mu     sync.Mutex
	taken  map[string]int // attempts by id, of those that had an effect
	bodies map[string][32]byte
	others []string // ids that came with two bodies
	seen   map[string]int
	kind   bool // refuse nothing from now on
	slow   time.Duration
}

func newReceiver(t *testing.T, seed uint64) *receiver {
	t.Helper()
	r := &receiver{seed: seed, taken: make(map[string]int), bodies: make(map[string][32]byte), seen: make(map[string]int)}
	r.server = httptest.NewServer(r)
	t.Cleanup(r.server.Close)
	return r
}

// config writes the file that names the receiver.
func (r *receiver) config(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "webhooks.yaml")
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "receiver: {url: %q, secret: %q, allow_private: true}\n", r.server.URL, secret), 0o600))
	return path
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	time.Sleep(r.slow)
	raw, err := io.ReadAll(request.Body)
	if err != nil {
		return // the sender died
	}
	id := request.Header.Get("Webhook-Id")
	h := fnv.New64a()
	fmt.Fprint(h, r.seed, id)
	r.mu.Lock()
	r.seen[id]++
	draw, first := h.Sum64()%20, r.seen[id] == 1
	if first && draw < 2 && !r.kind {
		r.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	r.taken[id]++
	sum := sha256.Sum256(raw)
	if before, known := r.bodies[id]; known && before != sum {
		r.others = append(r.others, id)
	}
	r.bodies[id] = sum
	lost := first && draw == 3 && !r.kind
	r.mu.Unlock()
	if lost {
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close() // the point
		}
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) setKind(kind bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kind = kind
}

// effects are the ids that a receiver who remembers them has acted on, each once.
func (r *receiver) effects() map[string]int {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := make(map[string]int, len(r.taken))
	maps.Copy(all, r.taken)
	return all
}
