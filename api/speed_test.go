//go:build unix

package api_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// How speed is measured: rounds of every handler in turn, so that what else the machine does meets all of them alike; the figures are
// medians of the rounds, and of the 99th percentiles also that of the quietest, which other processes disturbed least.
const (
	speedConns = 8
	speedRound = 100 * time.Millisecond
	speedUsers = 1000
)

// caller sends requests over connections of its own and reads the answers: less work than net/http's client, which would take the
// processor from what is measured.
type caller struct {
	addr  string
	bytes func(n int64) []byte
}

// run keeps every connection busy for a while, or, with a rate, sends so many a second and measures from when each was due. It
// returns the answers per second and the times in order.
func (c *caller) run(b *testing.B, conns int, round time.Duration, rate float64) (float64, []time.Duration) {
	b.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var n atomic.Int64
	began := time.Now()
	var group sync.WaitGroup
	for range conns {
		group.Go(func() {
			conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", c.addr)
			if err != nil {
				b.Error(err)
				return
			}
			defer conn.Close()
			reader := bufio.NewReader(conn)
			var took []time.Duration
			for time.Since(began) < round {
				i := n.Add(1)
				due := time.Now()
				if rate > 0 {
					due = began.Add(time.Duration(float64(i) / rate * float64(time.Second)))
					if due.After(began.Add(round)) {
						break
					}
					time.Sleep(time.Until(due))
				}
				if _, err := conn.Write(c.bytes(i)); err != nil {
					b.Error(err)
					return
				}
				response, err := http.ReadResponse(reader, nil)
				if err != nil || response.StatusCode != http.StatusOK {
					b.Errorf("%v %+v", err, response)
					return
				}
				_, err = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if err != nil {
					b.Error(err)
					return
				}
				took = append(took, time.Since(due))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, took...)
		})
	}
	group.Wait()
	slices.Sort(all)
	return float64(len(all)) / time.Since(began).Seconds(), all
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

func median(list []float64) float64 {
	slices.Sort(list)
	return list[len(list)/2]
}

func listening(b *testing.B, handler http.Handler) string {
	b.Helper()
	server := httptest.NewServer(handler)
	b.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// BenchmarkReads compares profiles and flags of 1,000 users with a handler that sends constant bytes of the same size: answers a second
// at 8 connections, and the 99th percentile at half of that.
func BenchmarkReads(b *testing.B) {
	js := testenv.NewBroker(b).Connect(b)
	_, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: schema.ProfilesStream, Subjects: []string{schema.ProfilesSubjects}, MaxMsgsPerSubject: 1})
	require.NoError(b, err)
	var constant []byte
	for i := range speedUsers {
		body, err := json.Marshal(profileOf(userOf(i), 1))
		require.NoError(b, err)
		constant = body
		_, err = js.Publish(b.Context(), schema.ProfileSubject(tokenOf(userOf(i))), body)
		require.NoError(b, err)
	}
	mirror := api.NewMirror(js, quiet())
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	defer func() { cancel(); <-done }()
	require.Eventually(b, mirror.Ready, patience, poll)
	server := listening(b, api.New(api.Config{WorkspaceKey: key()}, mirror, nil, quiet()).Handler())
	plain := listening(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Write(constant)
	}))
	get := func(i int64) []byte {
		return []byte("GET /v1/users/" + userOf(int(i%speedUsers)) + " HTTP/1.1\r\nHost: localhost\r\n\r\n")
	}
	ask := func(path string) func(i int64) []byte {
		return func(i int64) []byte {
			body := asking(userOf(int(i % speedUsers)))
			return []byte("POST " + flagsPath + path + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
		}
	}
	compare(b, []subject{
		{"constant", &caller{plain, get}, ""},
		{"profile", &caller{server, get}, "constant"},
		{"constant-post", &caller{plain, ask("")}, ""},
		{"flags", &caller{server, ask("")}, "constant-post"},
		{"flag", &caller{server, ask("/stage")}, "constant-post"},
	})
}

func userOf(i int) string { return "user-" + strconv.Itoa(i) }

type subject struct {
	name    string
	caller  *caller
	against string // what its rate is divided by
}

// compare measures subjects in turn and reports rates, ratios, and the 99th percentile at half the rate.
func compare(b *testing.B, subjects []subject) {
	b.Helper()
	rates, p99s := make(map[string][]float64), make(map[string][]float64)
	ratios, work := make(map[string][]float64), make(map[string][]float64)
	for b.Loop() {
		round, spent := make(map[string]float64), make(map[string]float64)
		for _, s := range subjects {
			before := cpu(b)
			rate, all := s.caller.run(b, speedConns, speedRound, 0)
			round[s.name], spent[s.name] = rate, (cpu(b)-before)/float64(len(all))
			if s.against != "" {
				work[s.name] = append(work[s.name], spent[s.against]/spent[s.name])
			}
			rates[s.name] = append(rates[s.name], rate)
			if s.against != "" {
				ratios[s.name] = append(ratios[s.name], rate/round[s.against])
			}
			_, took := s.caller.run(b, speedConns, speedRound, rate/2)
			p99s[s.name] = append(p99s[s.name], quantile(took, 0.99).Seconds()*1000)
		}
	}
	for _, s := range subjects {
		b.ReportMetric(median(rates[s.name]), s.name+"/s")
		b.ReportMetric(median(p99s[s.name]), s.name+"-p99-ms")
		b.ReportMetric(slices.Min(p99s[s.name]), s.name+"-p99-quietest-ms")
		if s.against != "" {
			b.ReportMetric(median(ratios[s.name]), s.name+"-ratio")
			b.ReportMetric(median(work[s.name]), s.name+"-cpu-ratio")
		}
	}
}

// cpu is the processor time that this process has had, in seconds. Divided by the answers it says what one takes whatever else runs: of
// caller and server together, as the rates are.
func cpu(b *testing.B) float64 {
	b.Helper()
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

// BenchmarkTracking compares POST /v1/track with a handler that publishes the body to JetStream and waits for the acknowledgment.
func BenchmarkTracking(b *testing.B) {
	js := testenv.NewBroker(b).Connect(b)
	for _, stream := range []jetstream.StreamConfig{
		{Name: schema.EventsStream, Subjects: []string{schema.EventsSubjects}, Duplicates: 2 * time.Minute},
		{Name: "BARE", Subjects: []string{"bare"}, Duplicates: 2 * time.Minute},
	} {
		_, err := js.CreateStream(b.Context(), stream)
		require.NoError(b, err)
	}
	events, err := jetstream.New(js.Conn(), api.IntakeOptions()...)
	require.NoError(b, err)
	var ids atomic.Int64
	server := listening(b, api.New(api.Config{WorkspaceKey: key(), Events: events}, nil, nil, quiet()).Handler())
	bare := listening(b, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		message := nats.NewMsg("bare")
		message.Data = body
		message.Header.Set(jetstream.MsgIDHeader, strconv.FormatInt(ids.Add(1), 10))
		if _, err := events.PublishMsg(r.Context(), message); err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		io.WriteString(w, `{"success":true}`)
	}))
	track := func(int64) []byte {
		body := `{"type":"track","messageId":"m` + strconv.FormatInt(ids.Add(1), 10) + `","userId":"u42","event":"Report Shared","properties":{"team":"finance","pages":3},"context":{"library":{"name":"x"}}}`
		return []byte("POST /v1/track HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body)
	}
	compare(b, []subject{{"publish", &caller{bare, track}, ""}, {"track", &caller{server, track}, "publish"}})
}

// BenchmarkMirror states the memory of 100,000 profiles, and how long they take to be read in.
func BenchmarkMirror(b *testing.B) {
	const users = 100_000
	js := testenv.NewBroker(b).Connect(b)
	_, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: schema.ProfilesStream, Subjects: []string{schema.ProfilesSubjects}, MaxMsgsPerSubject: 1})
	require.NoError(b, err)
	size := 0
	for i := range users {
		body, err := json.Marshal(profileOf(userOf(i), 1))
		require.NoError(b, err)
		size = len(body)
		_, err = js.PublishAsync(schema.ProfileSubject(tokenOf(userOf(i))), body)
		require.NoError(b, err)
		if i%1000 == 999 {
			<-js.PublishAsyncComplete()
		}
	}
	for b.Loop() {
		before, began := heap(), time.Now()
		m := api.NewMirror(js, quiet())
		ctx, cancel := context.WithCancel(b.Context())
		done := make(chan error, 1)
		go func() { done <- m.Run(ctx) }()
		require.Eventually(b, m.Ready, 5*time.Minute, poll)
		took := time.Since(began)
		cancel()
		require.NoError(b, <-done)
		require.Equal(b, users, m.Len())
		b.ReportMetric(float64(heap()-before)/users, "bytes/user")
		b.ReportMetric(float64(size), "json-bytes")
		runtime.KeepAlive(m)
		b.ReportMetric(took.Seconds(), "s-to-read-in")
	}
}

// BenchmarkPush has 500 users listen, and changes the flags of 200 of them a second: from the acknowledgment of a profile by JetStream to the
// event at the listener.
func BenchmarkPush(b *testing.B) {
	const users, rate, changes = 500, 200, 1000
	js := testenv.NewBroker(b).Connect(b)
	_, err := js.CreateStream(b.Context(), jetstream.StreamConfig{Name: schema.ProfilesStream, Subjects: []string{schema.ProfilesSubjects}, MaxMsgsPerSubject: 1})
	require.NoError(b, err)
	mirror := api.NewMirror(js, quiet())
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- mirror.Run(ctx) }()
	defer func() { cancel(); <-done }()
	require.Eventually(b, mirror.Ready, patience, poll)
	server := api.New(api.Config{WorkspaceKey: key()}, mirror, nil, quiet())
	addr := listening(b, server.Handler())
	told := make([]chan time.Time, users)
	var listeners sync.WaitGroup
	var conns []net.Conn
	for u := range users {
		told[u] = make(chan time.Time, changes)
		conn, err := new(net.Dialer).DialContext(b.Context(), "tcp", addr)
		require.NoError(b, err)
		conns = append(conns, conn)
		expires := time.Now().Add(time.Hour)
		_, err = io.WriteString(conn, "GET /ofrep/v1/stream?token="+api.StreamToken(key(), tokenOf(userOf(u)), expires)+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		require.NoError(b, err)
		listeners.Go(func() {
			for lines := bufio.NewScanner(conn); lines.Scan(); {
				if bytes.HasPrefix(lines.Bytes(), []byte("data:")) {
					told[u] <- time.Now()
				}
			}
		})
	}
	for u := range users { // the first event of every stream
		<-told[u]
	}
	sequence, p99s, p50s := uint64(0), []float64{}, []float64{}
	for b.Loop() {
		var took []time.Duration
		var mu sync.Mutex
		var changing sync.WaitGroup
		began := time.Now()
		for i := range changes {
			time.Sleep(time.Until(began.Add(time.Duration(i) * time.Second / rate)))
			sequence++
			profile := profileOf(userOf(i%users), sequence)
			profile.Stage = strconv.FormatUint(sequence, 10)
			body, err := json.Marshal(profile)
			require.NoError(b, err)
			changing.Go(func() {
				if _, err := js.Publish(b.Context(), schema.ProfileSubject(profile.UserToken), body); err != nil {
					b.Error(err)
					return
				}
				acknowledged := time.Now()
				at := <-told[i%users]
				mu.Lock()
				defer mu.Unlock()
				took = append(took, at.Sub(acknowledged))
			})
		}
		changing.Wait()
		slices.Sort(took)
		p50s, p99s = append(p50s, quantile(took, 0.5).Seconds()*1000), append(p99s, quantile(took, 0.99).Seconds()*1000)
	}
	b.ReportMetric(median(p50s), "p50-ms")
	b.ReportMetric(median(p99s), "p99-ms")
	b.ReportMetric(slices.Min(p99s), "p99-quietest-ms")
	for _, conn := range conns {
		conn.Close()
	}
	listeners.Wait()
}
