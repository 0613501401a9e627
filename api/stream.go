package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// routeStream is where a client hears that its flags have changed. Only the answer to all flags at once names it.
const routeStream = "/ofrep/v1/stream"

// Bounds of event streams.
const (
	defaultStreams   = 10_000
	streamsPerUser   = 16 // tabs and devices of one user
	defaultHeartbeat = 15 * time.Second
	// looksPerBeat is how often between two heartbeats a stream looks whether its key is still known.
	looksPerBeat = 3
	// streamPatience is how long a reader may leave what was sent to it. Then it is dropped, and comes back when it can.
	streamPatience = 10 * time.Second
	// inactivity is after how long a page that nobody looks at ends its stream.
	inactivity = 2 * time.Minute
	// catchUpPatience bounds the wait for a profile that another replica has announced.
	catchUpPatience = time.Second
)

// streams counts the event streams that are open. Safe for concurrent use.
type streams struct {
	most int
	mu   sync.Mutex
	all  int
	of   map[string]int // by user token
}

// enter takes a place; false where there is none.
func (s *streams) enter(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full(token) {
		return false
	}
	if s.of == nil {
		s.of = make(map[string]int)
	}
	s.all++
	s.of[token]++
	return true
}

func (s *streams) leave(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all--
	if s.of[token]--; s.of[token] == 0 {
		delete(s.of, token)
	}
}

func (s *streams) full(token string) bool { return s.all >= s.most || s.of[token] >= streamsPerUser }

func (s *streams) hasRoom(token string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.full(token)
}

// Streams returns the number of event streams that are open.
func (s *Server) Streams() int {
	s.streams.mu.Lock()
	defer s.streams.mu.Unlock()
	return s.streams.all
}

// streamFor is the event stream of whoever asks, as JSON, and in a few letters which ticket opens it; nothing where there is no room, so
// that a client that cannot have a stream does not try for one again and again. The ticket stands in the address because the
// EventSource of a browser sends no headers. It is the same for as long as its answer is to be a 304, and an answer with another is
// another answer: a client that is told 304 keeps the address it was last told.
func (s *Server) streamFor(asks asker, answer *answered) (stream, opens string) {
	if !s.streams.hasRoom(asks.token) {
		return "", ""
	}
	t := ticket{userToken: asks.token, keyID: asks.key.id, expires: asks.until}
	if t.expires.IsZero() {
		t.expires = windowEnd(time.Now())
	}
	if last := answer.stream.Load(); last != nil && last.ticket == t {
		return last.stream, last.opens
	}
	signed := s.signer.ticket(t)
	// A ticket needs no escaping, in an address or in JSON. The address is relative, so that it holds behind a gateway too.
	stream = `{"type":"sse","endpoint":{"requestUri":"` + routeStream + `?token=` + signed + `"},"inactivityDelaySec":` +
		strconv.Itoa(int(inactivity.Seconds())) + `}`
	opens = signed[len(signed)-macLength:][:8]
	answer.stream.Store(&namedStream{t, stream, opens})
	return stream, opens
}

// namedStream is what one caller was last told.
type namedStream struct {
	ticket        ticket
	stream, opens string
}

// catchUp waits for the profile that an event of a stream has announced, where another replica sent it and this one is behind.
func (s *Server) catchUp(r *http.Request, token string) {
	text, _, _ := strings.Cut(r.URL.Query().Get("flagConfigEtag"), "-")
	sequence, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), catchUpPatience)
	defer cancel()
	s.mirror.reach(ctx, token, sequence)
}

// listener finds out whose changes may be heard, and answers where that cannot be. An unknown ticket counts as an unknown key does;
// one that has ended was good once, and its client takes a new one.
func (s *Server) listener(w http.ResponseWriter, r *http.Request) (t ticket, key *apiKey, ok bool) {
	now, addr := time.Now(), addrOf(r)
	if s.guessers.blocked(addr, now) {
		s.refuseBusy(w, r, guessPause, guessMessage)
		return ticket{}, nil, false
	}
	t, err := s.signer.open(r.URL.Query().Get("token"), now)
	if err == nil {
		if key, ok = s.keyByID(t.keyID); !ok {
			err = errExpired
		}
	}
	if err != nil {
		if errors.Is(err, errForged) {
			s.guessers.failed(addr, now)
		}
		s.refuse(w, r, http.StatusUnauthorized, problemDetail{Code: codeUnauthorized, Field: "token", Message: "ask for all flags again: the answer names the stream"})
		return ticket{}, nil, false
	}
	requestOf(r).userToken, requestOf(r).key = t.userToken, key.name
	return t, key, s.allow(w, r, key, 1, RoleRead, RoleWrite)
}

// keyByID finds the key that a ticket was given for, as long as it is known.
func (s *Server) keyByID(id string) (*apiKey, bool) {
	if s.cfg.Keys == nil {
		return freeKey, id == freeKey.id
	}
	return s.cfg.Keys.byID(id)
}

// stream tells a client when its flags have changed, until either goes. The first event of every stream says so too: what changed
// between the answer and the stream, or while the stream was away, is fetched then.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	t, key, ok := s.listener(w, r)
	if !ok {
		return
	}
	if !s.streams.enter(t.userToken) {
		s.refuseBusy(w, r, streamPatience, "too many event streams are open")
		return
	}
	defer s.streams.leave(t.userToken)
	requestOf(r).lasts = true
	out, err := openWire(w, s.patience)
	if err != nil {
		s.logger.WarnContext(r.Context(), "event stream not opened", slog.Any("error", err))
		return
	}
	changed, stop := s.mirror.watch(t.userToken)
	defer stop()
	look := time.NewTicker(max(time.Millisecond, s.cfg.Heartbeat/looksPerBeat))
	defer look.Stop()
	sent := ""
	for looks := 0; ; {
		if answer := s.flagsFor(t.userToken, key.may(RoleRead)); answer.tag != sent {
			if out.refetch(answer, time.Now()) != nil {
				return
			}
			sent = answer.tag
		}
		if !s.quiet(r, t, out, changed, look.C, &looks) {
			return
		}
	}
}

// quiet keeps a stream alive until something changes; false where the stream is over. looks counts over changes, so that a user of
// whom much is heard has heartbeats too.
func (s *Server) quiet(r *http.Request, t ticket, out *wire, changed <-chan struct{}, look <-chan time.Time, looks *int) bool {
	for {
		select {
		case <-changed:
			return true
		case now := <-look:
			if _, known := s.keyByID(t.keyID); !known || !now.Before(t.expires) {
				return false
			}
			if *looks++; *looks%looksPerBeat == 0 && out.beat() != nil {
				return false
			}
		case <-r.Context().Done():
			return false
		case <-s.stopping:
			return false
		}
	}
}

// wire writes events to one client, each within patience.
type wire struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

// openWire answers with a stream. The limits of other requests would end it: the reader sends nothing more, and the answer is long.
func openWire(w http.ResponseWriter, patience time.Duration) (*wire, error) {
	out := &wire{w: w, control: http.NewResponseController(w), patience: patience}
	if err := out.control.SetReadDeadline(time.Time{}); err != nil {
		return nil, fmt.Errorf("let the reader be silent: %w", err)
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-cache, no-transform")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would collect events before it passes them on
	w.WriteHeader(http.StatusOK)
	// How long to wait before coming back: not the same for all, since all come back when a server does.
	return out, out.write("retry: " + strconv.Itoa(500+rand.IntN(1000)) + "\n\n") //nolint:gosec // it spreads, and keeps no secret
}

// refetch says that the flags have changed. The tag names the profile that did it, for a replica that has not seen it yet.
func (o *wire) refetch(answer *answered, now time.Time) error {
	sequence := strconv.FormatUint(answer.sequence, 10)
	return o.write("id: " + sequence + "\ndata: {\"type\":\"refetchEvaluation\",\"etag\":\"" + sequence + "-" + answer.tag +
		"\",\"lastModified\":" + strconv.FormatInt(now.Unix(), 10) + "}\n\n")
}

// beat keeps gateways from taking a stream that is quiet for one that is dead.
func (o *wire) beat() error { return o.write(":\n\n") }

func (o *wire) write(text string) error {
	if err := o.control.SetWriteDeadline(time.Now().Add(o.patience)); err != nil {
		return fmt.Errorf("bound a write: %w", err)
	}
	if _, err := o.w.Write([]byte(text)); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	if err := o.control.Flush(); err != nil {
		return fmt.Errorf("write an event: %w", err)
	}
	return nil
}
