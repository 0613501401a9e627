package testenv

import (
	"context"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Weather is what a Proxy does to what passes through it. The zero value passes everything on at once.
type Weather struct {
	Latency  time.Duration // every piece comes so much later, in order
	Jitter   time.Duration // and up to so much more
	HalfOpen bool          // connections stay, new ones are taken, and nothing passes: as behind a router that forgot them
	Cut      bool          // connections end and no new one is taken
	// LoseAnswer ends one connection in so many instead of passing on what the server answers: the server did what it was asked,
	// and the client does not hear of it. 0 loses none.
	LoseAnswer int
}

// Proxy stands between a client and a server, and lets a test spoil the connection.
type Proxy struct {
	Addr string // where it listens

	target   string
	listener net.Listener
	wait     sync.WaitGroup

	mu      sync.Mutex
	weather Weather
	changed chan struct{} // closed when the weather changes
	open    map[net.Conn]struct{}
	rng     *rand.Rand
	lost    int
	closed  bool
}

// NewProxy starts a proxy before the server at target, which need not be there yet. It ends with the test. The seed decides which
// answers are lost.
func NewProxy(tb testing.TB, target string, seed uint64) *Proxy {
	tb.Helper()
	listener, err := new(net.ListenConfig).Listen(tb.Context(), "tcp4", "127.0.0.1:0")
	require.NoError(tb, err)
	p := &Proxy{
		Addr: listener.Addr().String(), target: target, listener: listener, changed: make(chan struct{}), open: make(map[net.Conn]struct{}),
		rng: rand.New(rand.NewPCG(seed, 0)), //nolint:gosec // repeatable, not secret
	}
	p.wait.Go(p.accept)
	tb.Cleanup(p.close)
	return p
}

// Set changes the weather.
func (p *Proxy) Set(w Weather) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.weather = w
	close(p.changed)
	p.changed = make(chan struct{})
	if w.Cut {
		p.hangUp()
	}
}

// Lost is how many answers were lost so far.
func (p *Proxy) Lost() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

func (p *Proxy) hangUp() {
	for conn := range p.open {
		conn.Close() //nolint:errcheck // it may have ended by itself
	}
}

func (p *Proxy) close() {
	p.listener.Close() //nolint:errcheck // likewise
	p.mu.Lock()
	p.closed = true
	close(p.changed)
	p.changed = make(chan struct{})
	p.hangUp()
	p.mu.Unlock()
	p.wait.Wait()
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		p.wait.Go(func() { p.serve(client) })
	}
}

// keep notes an open connection, and reports false where there must be none.
func (p *Proxy) keep(conn net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.weather.Cut {
		return false
	}
	p.open[conn] = struct{}{}
	return true
}

func (p *Proxy) forget(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *Proxy) serve(client net.Conn) {
	defer client.Close() //nolint:errcheck // nothing is lost that was not to be
	if !p.keep(client) {
		return
	}
	defer p.forget(client)
	server, err := new(net.Dialer).DialContext(context.Background(), "tcp4", p.target)
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // as above
	if !p.keep(server) {
		return
	}
	defer p.forget(server)
	var both sync.WaitGroup
	both.Go(func() { p.pass(server, client, false) })
	both.Go(func() { p.pass(client, server, true) })
	both.Wait()
}

// piece is what was read at once, and when it may go on.
type piece struct {
	data []byte
	due  time.Time
}

// pass carries one direction until either end is gone, and then ends both.
func (p *Proxy) pass(to, from net.Conn, answers bool) {
	pieces := make(chan piece, 1024)
	var writer sync.WaitGroup
	writer.Go(func() { p.write(to, pieces) })
	defer writer.Wait()
	defer close(pieces)
	defer from.Close() //nolint:errcheck // as above
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			late, lose := p.judge(answers)
			if lose {
				return
			}
			pieces <- piece{append([]byte(nil), buffer[:n]...), time.Now().Add(late)}
		}
		if err != nil {
			return
		}
	}
}

// write hands on what has come, each piece when it is due. What is left when the connection ends is lost with it.
func (p *Proxy) write(to net.Conn, pieces <-chan piece) {
	defer to.Close() //nolint:errcheck // the other direction must end too
	for one := range pieces {
		if wait := time.Until(one.due); wait > 0 {
			time.Sleep(wait)
		}
		if !p.fair() {
			break
		}
		if _, err := to.Write(one.data); err != nil {
			break
		}
	}
	for range pieces { // so that the reader never waits
	}
}

// judge says how much later a piece comes, and whether it is lost with its connection.
func (p *Proxy) judge(answer bool) (late time.Duration, lose bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	late = p.weather.Latency
	if p.weather.Jitter > 0 {
		late += time.Duration(p.rng.Int64N(int64(p.weather.Jitter)))
	}
	if answer && p.weather.LoseAnswer > 0 && p.rng.IntN(p.weather.LoseAnswer) == 0 {
		p.lost++
		return 0, true
	}
	return late, false
}

// fair waits until something may pass, and reports false where nothing ever will.
func (p *Proxy) fair() bool {
	for {
		p.mu.Lock()
		halfOpen, cut, changed := p.weather.HalfOpen, p.weather.Cut || p.closed, p.changed
		p.mu.Unlock()
		switch {
		case cut:
			return false
		case !halfOpen:
			return true
		}
		<-changed
	}
}
