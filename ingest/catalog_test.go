package ingest_test

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// badInput is one case of testdata/bad_input.yaml, which says what its fields mean.
type badInput struct {
	Nr       int               `yaml:"nr"`
	Name     string            `yaml:"name"`
	Subject  string            `yaml:"subject"`
	Headers  map[string]string `yaml:"headers"`
	Payload  string            `yaml:"payload"`
	Refused  schema.Reason     `yaml:"refused"`
	Taken    bool              `yaml:"taken"`
	Server   bool              `yaml:"server"` // the server refuses the publisher
	User     string            `yaml:"user"`
	Lateness schema.Lateness   `yaml:"lateness"`
}

var placeholder = regexp.MustCompile(`\{\{(?:(\d+) x ([^}]+)|hex ([0-9a-f]+)|keys (\d+)|now([+-][0-9a-z]+)?)\}\}`)

// raw is the message of a case.
func (c *badInput) raw(t *testing.T) []byte {
	t.Helper()
	return []byte(placeholder.ReplaceAllStringFunc(c.Payload, func(text string) string {
		m := placeholder.FindStringSubmatch(text)
		switch {
		case m[1] != "":
			n, err := strconv.Atoi(m[1])
			require.NoError(t, err)
			return strings.Repeat(m[2], n)
		case m[3] != "":
			raw, err := hex.DecodeString(m[3])
			require.NoError(t, err)
			return string(raw)
		case m[4] != "":
			n, err := strconv.Atoi(m[4])
			require.NoError(t, err)
			keys := make([]string, n)
			for i := range keys {
				keys[i] = fmt.Sprintf(`"k%d":1`, i)
			}
			return strings.Join(keys, ",")
		}
		at := time.Now()
		if m[5] != "" {
			d, err := time.ParseDuration(m[5])
			require.NoError(t, err)
			at = at.Add(d)
		}
		return at.UTC().Format(time.RFC3339)
	}))
}

// TestBadInputCatalog publishes the whole catalog of bad input on NATS: each message meets the fate that stands there, and nothing
// else happens.
func TestBadInputCatalog(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/bad_input.yaml")
	require.NoError(t, err)
	var cases []badInput
	require.NoError(t, yaml.Unmarshal(raw, &cases))
	require.Greater(t, len(cases), 100)
	js := streams(t)
	places := make([]uint64, len(cases))
	refused, taken := 0, 0
	for i := range cases {
		c := &cases[i]
		message := nats.NewMsg("onramp.events." + cmp.Or(c.Subject, "test"))
		message.Data = c.raw(t)
		for name, value := range c.Headers {
			message.Header.Set(name, value)
		}
		ack, err := js.PublishMsg(t.Context(), message)
		if c.Server {
			require.Error(t, err, c.Name)
			continue
		}
		require.NoError(t, err, c.Name)
		places[i] = ack.Sequence
		if c.Taken {
			taken++
		} else {
			refused++
		}
	}
	s := &sender{}
	in, _ := run(t, js, s, ingest.Config{})
	eventually(t, func() bool { return in.Stats().Received == int64(refused+taken) }, "not all messages are read")
	settled(t, js)
	published := time.Now()
	publish(t, js, "next", "next1", "x")
	eventually(t, func() bool { return len(s.ids("next")) == 1 }, "the next event does not go on")
	assert.Less(t, time.Since(published), time.Second)

	reasons := map[uint64]schema.Reason{}
	for _, letter := range letters(t, js) {
		sequence, err := strconv.ParseUint(letter.Header.Get(schema.HeaderSequence), 10, 64)
		require.NoError(t, err)
		require.Empty(t, reasons[sequence], "two letters of one message")
		reasons[sequence] = schema.Reason(letter.Header.Get(schema.HeaderReason))
		assert.LessOrEqual(t, len(letter.Data), schema.MaxDeadLetterBytes)
	}
	require.Len(t, reasons, refused)
	events := map[string]schema.UserEvent{}
	for _, call := range s.taken {
		require.NoError(t, schema.CheckToken(call.user.UserToken))
		events[call.user.UserID] = call.batch.Events[0]
	}
	require.Len(t, events, taken+1, "each user is somebody else")
	for i, c := range cases {
		t.Run(fmt.Sprintf("%d %s", c.Nr, c.Name), func(t *testing.T) {
			t.Parallel()
			if c.Server {
				return // it never came in
			}
			assert.Equal(t, c.Refused, reasons[places[i]])
			if !c.Taken {
				return
			}
			event, known := events[c.User]
			require.True(t, known, "%q is nobody", c.User)
			assert.Equal(t, places[i], event.Sequence)
			if c.Lateness != "" {
				assert.Equal(t, c.Lateness, event.Lateness)
			}
		})
	}
}

// TestTenThousandEmptyMessages: a publisher gone mad is put aside at the pace of the stream, and the next event goes on (case 77).
func TestTenThousandEmptyMessages(t *testing.T) {
	t.Parallel()
	js := streams(t)
	const many = 10_000
	for range many {
		_, err := js.PublishAsync(schema.EventSubject("mad"), nil, jetstream.WithStallWait(patience))
		require.NoError(t, err)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		require.Fail(t, "the stream does not take them")
	}
	s := &sender{}
	in, _ := run(t, js, s, ingest.Config{})
	began := time.Now()
	eventually(t, func() bool { return in.Stats().Rejected == many }, "not all are put aside")
	t.Logf("%d dead letters in %s", many, time.Since(began).Round(time.Millisecond))
	publish(t, js, "next", "next1", "x")
	eventually(t, func() bool { return s.count() == 1 }, "the next event does not go on")
}

// TestSameMessageIDWithAnotherBody: the stream drops the second, the first counts (case 79). Without a message id both come in
// under one event id, and the workflow takes the first.
func TestSameMessageIDWithAnotherBody(t *testing.T) {
	t.Parallel()
	js := streams(t)
	for _, name := range []string{"first", "second"} {
		message := nats.NewMsg(schema.EventSubject("test"))
		message.Data = fmt.Appendf(nil, `{"event_name":%q,"user_id":"a"}`, name)
		message.Header.Set("Nats-Msg-Id", "one")
		_, err := js.PublishMsg(t.Context(), message)
		require.NoError(t, err)
	}
	s := &sender{}
	run(t, js, s, ingest.Config{})
	publish(t, js, "next", "next1", "x")
	eventually(t, func() bool { return s.count() == 2 }, "the events do not arrive")
	settled(t, js)
	require.Equal(t, []string{"one"}, s.ids("a"))
	for _, call := range s.taken {
		if call.user.UserID == "a" {
			require.Equal(t, "first", call.batch.Events[0].EventName)
		}
	}
}
