package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// bus is a server that answers over NATS, with profiles of ann and Jürgen.
type bus struct {
	broker  *testenv.Broker
	js      jetstream.JetStream
	nc      *nats.Conn
	handler http.Handler
}

// openBus makes one. connect opts are of the server's own connection.
func openBus(t *testing.T, broker *testenv.Broker, change func(*api.Config), connect ...nats.Option) *bus {
	t.Helper()
	b := &bus{broker: broker, js: broker.Connect(t, connect...)}
	b.nc = b.js.Conn()
	makeStream(t, b.js)
	_, err := b.js.CreateStream(t.Context(), jetstream.StreamConfig{
		Name: schema.EventsStream, Subjects: []string{schema.EventsSubjects}, Discard: jetstream.DiscardNew, Duplicates: 2 * time.Minute, AllowDirect: true,
	})
	require.NoError(t, err)
	publish(t, b.js, profileOf("ann", 1))
	publish(t, b.js, profileOf("Jürgen", 1))
	mirror := api.NewMirror(b.js, quiet())
	run(t, mirror)
	ready(t, mirror)
	events, err := jetstream.New(b.nc, api.IntakeOptions()...)
	require.NoError(t, err)
	cfg := api.Config{WorkspaceKey: key(), Events: events, Version: "v0.0.0-test"}
	if change != nil {
		change(&cfg)
	}
	s := api.New(cfg, mirror, nil, quiet())
	b.handler = s.Handler()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.ServeNATS(ctx, b.nc) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
	require.Eventually(t, func() bool { // the last endpoint is there: the service is before them
		return bytes.Contains(ask(t, b.nc, "$SRV.INFO."+api.ServiceName, ``).Data, []byte(`"web-track"`))
	}, patience, poll)
	return b
}

// ask asks once. No answer at all is one with status 503.
func ask(t *testing.T, nc *nats.Conn, subject, body string) *nats.Msg {
	t.Helper()
	answer, err := nc.Request(subject, []byte(body), patience)
	if err == nats.ErrNoResponders { //nolint:errorlint // as documented
		return &nats.Msg{Header: nats.Header{"Status": {"503"}}}
	}
	require.NoError(t, err)
	return answer
}

func read[T any](t *testing.T, raw []byte) (value T) {
	t.Helper()
	require.NoError(t, json.Unmarshal(raw, &value), "%s", raw)
	return value
}

func TestServiceAnswers(t *testing.T) {
	t.Parallel()
	b := openBus(t, testenv.NewBroker(t), nil)
	want := profileOf("ann", 1)
	require.Equal(t, want, read[schema.Profile](t, ask(t, b.nc, schema.SubjectProfile, `{"user_id":"ann"}`).Data))
	require.Equal(t, want, read[schema.Profile](t, ask(t, b.nc, schema.SubjectProfile, `{"user_token":"`+tokenOf("ann")+`"}`).Data))
	http := get(t, b.handler, "/v1/users/ann")
	require.Equal(t, http.Body.String(), string(ask(t, b.nc, schema.SubjectProfile, `{"user_id":"ann"}`).Data), "the same as over HTTP, byte for byte")

	one := ask(t, b.nc, schema.SubjectFlag, `{"key":"segment.engaged_newcomer","context":{"targetingKey":"ann","plan":"pro"}}`)
	require.JSONEq(t, post(t, b.handler, "/ofrep/v1/evaluate/flags/segment.engaged_newcomer", asking("ann")).Body.String(), string(one.Data))
	for _, id := range []string{"Jürgen", "nobody"} {
		over := read[map[string]any](t, post(t, b.handler, "/ofrep/v1/evaluate/flags", asking(id)).Body.Bytes())
		delete(over, "eventStreams") // NATS has subscriptions
		require.Equal(t, over, read[map[string]any](t, ask(t, b.nc, schema.SubjectFlags, asking(id)).Data))
	}

	for _, c := range []struct{ name, subject, body, code, kind, field string }{
		{"no JSON", schema.SubjectProfile, `{`, "400", "invalid", ""},
		{"nothing", schema.SubjectProfile, ``, "400", "invalid", ""},
		{"nobody named", schema.SubjectProfile, `{}`, "400", "invalid", "user_id"},
		{"both", schema.SubjectProfile, `{"user_id":"ann","user_token":"` + tokenOf("ann") + `"}`, "400", "invalid", "user_id"},
		{"a number", schema.SubjectProfile, `{"user_id":5}`, "400", "invalid", "user_id"},
		{"no token", schema.SubjectProfile, `{"user_token":"ann"}`, "400", "invalid", "user_token"},
		{"an unknown field", schema.SubjectProfile, `{"userId":"ann"}`, "400", "invalid", "userId"},
		{"twice", schema.SubjectProfile, `{"user_id":"ann","user_id":"bob"}`, "400", "invalid", ""},
		{"a stranger", schema.SubjectProfile, `{"user_id":"bob"}`, "404", "not_found", "user_id"},
		{"no key", schema.SubjectFlag, asking("ann"), "400", "invalid", "key"},
		{"no context", schema.SubjectFlag, `{"key":"stage"}`, "400", "invalid", "context"},
		{"no targeting key", schema.SubjectFlags, `{"context":{}}`, "400", "invalid", "context.targetingKey"},
		{"no such flag", schema.SubjectFlag, `{"key":"segment.none","context":{"targetingKey":"ann"}}`, "404", "not_found", "key"},
		{"flag of a stranger", schema.SubjectFlag, `{"key":"stage","context":{"targetingKey":"bob"}}`, "404", "not_found", "context.targetingKey"},
	} {
		answer := ask(t, b.nc, c.subject, c.body)
		require.Equal(t, c.code, answer.Header.Get(micro.ErrorCodeHeader), c.name)
		require.Contains(t, answer.Header.Get(micro.ErrorHeader), c.kind+": ", c.name)
		problem := read[struct {
			Error struct {
				Code      string `json:"code"`
				Field     string `json:"field"`
				Message   string `json:"message"`
				RequestID string `json:"request_id"`
			} `json:"error"`
		}](t, answer.Data).Error
		require.Equal(t, []string{c.kind, c.field}, []string{problem.Code, problem.Field}, c.name)
		require.NotEmpty(t, problem.Message, c.name)
		require.NotEmpty(t, problem.RequestID, c.name)
	}
}

// TestAnswersGoToInboxes is case 82 of the catalog: who asks may name any subject to answer to, and must not have the engine write with its
// own rights where they could not: acknowledge or empty a stream, or put something into one.
func TestAnswersGoToInboxes(t *testing.T) {
	t.Parallel()
	b := openBus(t, testenv.NewBroker(t), nil)
	heard, err := b.nc.SubscribeSync(">")
	require.NoError(t, err)
	const question = `{"user_id":"ann"}`
	forged := []string{
		"$JS.API.STREAM.PURGE." + schema.EventsStream, "$JS.ACK." + schema.EventsStream + "." + schema.IngestConsumer + ".1.1.1.1.1",
		"$KV." + schema.LeasesBucket + ".ingest", schema.EventSubject("forged"), schema.ProfileSubject(tokenOf("ann")),
	}
	for _, reply := range forged {
		require.NoError(t, b.nc.PublishRequest(schema.SubjectProfile, reply, []byte(question)))
	}
	require.Equal(t, profileOf("ann", 1), read[schema.Profile](t, ask(t, b.nc, schema.SubjectProfile, question).Data)) // asked after them, answered after them
	require.NoError(t, b.nc.Flush())
	for {
		m, err := heard.NextMsg(poll)
		if errors.Is(err, nats.ErrTimeout) {
			break
		}
		require.NoError(t, err)
		require.NotContains(t, forged, m.Subject)
	}
}

// TestD1Service: NATS's own discovery finds the service, what it answers and how often it could not.
func TestD1Service(t *testing.T) {
	t.Parallel()
	b := openBus(t, testenv.NewBroker(t), nil)
	info := read[micro.Info](t, ask(t, b.nc, "$SRV.INFO."+api.ServiceName, ``).Data)
	require.Equal(t, micro.InfoResponseType, info.Type)
	require.Equal(t, api.ServiceVersion, info.Version)
	require.Equal(t, "v0.0.0-test", info.Metadata["build"])
	require.Equal(t, "onramp.profiles.<user_token>", info.Metadata["profiles"])
	found := make(map[string]string)
	for _, e := range info.Endpoints {
		require.Equal(t, "onramp-api", e.QueueGroup)
		require.NotEmpty(t, e.Metadata["description"])
		found[e.Name] = e.Subject
	}
	require.Equal(t, map[string]string{
		"profile": "onramp.v1.profile", "flag": "onramp.v1.flag", "flags": "onramp.v1.flags",
		"web-profile": "onramp.web.*.profile", "web-flags": "onramp.web.*.flags", "web-track": "onramp.web.*.track",
	}, found)

	stats := func() map[string]*micro.EndpointStats {
		all := make(map[string]*micro.EndpointStats)
		for _, e := range read[micro.Stats](t, ask(t, b.nc, "$SRV.STATS."+api.ServiceName, ``).Data).Endpoints {
			all[e.Name] = e
		}
		return all
	}
	require.Zero(t, stats()["profile"].NumErrors)
	bad := ask(t, b.nc, schema.SubjectProfile, `{"user_id":5}`)
	require.Equal(t, "400", bad.Header.Get("Nats-Service-Error-Code"))
	require.Equal(t, "invalid: is missing, or is not a string", bad.Header.Get("Nats-Service-Error"))
	require.Eventually(t, func() bool { return stats()["profile"].NumErrors == 1 }, patience, poll)
	require.Equal(t, 1, stats()["profile"].NumRequests)
	require.Contains(t, stats()["profile"].LastError, "400:invalid")
	require.Zero(t, stats()["flag"].NumErrors)

	cli, err := exec.LookPath("nats")
	if err != nil {
		t.Log("there is no nats on PATH: its CLI was not tried")
		return
	}
	out, err := exec.CommandContext(t.Context(), cli, "--server", b.nc.ConnectedUrl(), "service", "info", api.ServiceName).CombinedOutput()
	require.NoError(t, err, "%s", out)
	for _, part := range []string{api.ServiceVersion, schema.SubjectProfile, "onramp-api", "v0.0.0-test"} {
		require.Contains(t, string(out), part)
	}
}

// TestServiceShares: several processes share the questions, and one that ends leaves none unanswered.
func TestServiceShares(t *testing.T) {
	t.Parallel()
	b := openBus(t, testenv.NewBroker(t), nil)
	ctx, cancel := context.WithCancel(t.Context())
	mirror := api.NewMirror(b.js, quiet())
	run(t, mirror)
	ready(t, mirror)
	other := b.broker.Connect(t)
	second := api.New(api.Config{WorkspaceKey: key()}, mirror, nil, quiet())
	done := make(chan error, 1)
	go func() { done <- second.ServeNATS(ctx, other.Conn()) }()
	answered := func() int {
		inbox, err := b.nc.SubscribeSync(nats.NewInbox())
		require.NoError(t, err)
		require.NoError(t, b.nc.PublishRequest("$SRV.PING."+api.ServiceName, inbox.Subject, nil))
		n := 0
		for ; ; n++ {
			if _, err := inbox.NextMsg(200 * time.Millisecond); err != nil {
				return n
			}
		}
	}
	require.Eventually(t, func() bool { return answered() == 2 }, patience, poll)
	for range 20 {
		require.Equal(t, "ann", map[string]string{tokenOf("ann"): "ann"}[read[schema.Profile](t, ask(t, b.nc, schema.SubjectProfile, `{"user_id":"ann"}`).Data).UserToken])
	}
	cancel()
	require.NoError(t, <-done)
	require.Eventually(t, func() bool { return answered() == 1 }, patience, poll, "NATS may still know of it for a moment")
	require.Equal(t, tokenOf("ann"), read[schema.Profile](t, ask(t, b.nc, schema.SubjectProfile, `{"user_id":"ann"}`).Data).UserToken)
}

// secured is a server in operator mode: users come with JWTs that their account signed.
type secured struct {
	broker  *testenv.Broker
	account nkeys.KeyPair
	ours    nats.Option // credentials of this program's own connection
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	pair := func(kp nkeys.KeyPair, err error) (nkeys.KeyPair, string) {
		require.NoError(t, err)
		public, err := kp.PublicKey()
		require.NoError(t, err)
		return kp, public
	}
	operator, operatorKey := pair(nkeys.CreateOperator())
	account, accountKey := pair(nkeys.CreateAccount())
	_, systemKey := pair(nkeys.CreateAccount())
	claims := jwt.NewAccountClaims(accountKey)
	claims.Name = "onramp"
	claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: -1, DiskStorage: -1, Streams: -1, Consumer: -1}
	accountJWT, err := claims.Encode(operator)
	require.NoError(t, err)
	systemJWT, err := jwt.NewAccountClaims(systemKey).Encode(operator)
	require.NoError(t, err)
	operatorClaims := jwt.NewOperatorClaims(operatorKey)
	operatorClaims.SystemAccount = systemKey
	resolver := &server.MemAccResolver{}
	require.NoError(t, resolver.Store(accountKey, accountJWT))
	require.NoError(t, resolver.Store(systemKey, systemJWT))
	user, userKey := pair(nkeys.CreateUser())
	userJWT, err := jwt.NewUserClaims(userKey).Encode(account)
	require.NoError(t, err)
	seed, err := user.Seed()
	require.NoError(t, err)
	return &secured{account: account, ours: nats.UserJWTAndSeed(userJWT, string(seed)), broker: testenv.NewBrokerWith(t, func(o *server.Options) {
		o.TrustedOperators, o.AccountResolver, o.SystemAccount = []*jwt.OperatorClaims{operatorClaims}, resolver, systemKey
		o.Websocket = server.WebsocketOpts{Host: "127.0.0.1", Port: -1, NoTLS: true, AllowedOrigins: []string{"https://app.example.com"}}
	})}
}

type issued struct {
	JWT         string `json:"jwt"`
	ExpiresAt   int64  `json:"expires_at"`
	URL         string `json:"url"`
	InboxPrefix string `json:"inbox_prefix"`
	Subjects    struct {
		Track   string `json:"track"`
		Profile string `json:"profile"`
		Flags   string `json:"flags"`
		Changes string `json:"changes"`
	} `json:"subjects"`
}

// TestD5BrowserCredentials: a page of a user reaches what is this user's and nothing else, its events are this user's whatever they say, and
// when its credentials end it is cut off.
func TestD5BrowserCredentials(t *testing.T) {
	t.Parallel()
	testenv.NeedNode(t, nodePackages) // before the clock of the credentials runs
	s := newSecured(t)
	seed, err := s.account.Seed()
	require.NoError(t, err)
	browsers, err := api.NewBrowsers(api.BrowsersConfig{Seed: seed, URL: "wss://nats.example.com"})
	require.NoError(t, err)
	b := openBus(t, s.broker, func(c *api.Config) {
		c.Browsers, c.Keys = browsers, ring(t, entry("w", api.RoleWrite, "write"), entry("r", api.RoleRead, "read"))
	}, s.ours)
	issue := func(id string) issued {
		answer := post(t, b.handler, "/v1/users/"+id+"/credentials", "", "Authorization", basic("read"))
		require.Equal(t, http.StatusOK, answer.Code, answer.Body.String())
		require.Equal(t, "no-store", answer.Header().Get("Cache-Control"))
		return read[issued](t, answer.Body.Bytes())
	}
	require.Equal(t, http.StatusForbidden, post(t, b.handler, "/v1/users/ann/credentials", "", "Authorization", basic("write")).Code, "a page cannot make itself another's")
	require.Equal(t, http.StatusUnauthorized, post(t, b.handler, "/v1/users/ann/credentials", "").Code)
	require.Equal(t, http.StatusMethodNotAllowed, get(t, b.handler, "/v1/users/ann/credentials", "Authorization", basic("read")).Code)
	ann, jurgen := issue("ann"), issue("J%C3%BCrgen")
	require.Equal(t, "wss://nats.example.com", ann.URL)
	require.NotContains(t, ann.Subjects.Track, "ann", "a subject names nobody")
	require.Equal(t, ann.Subjects, issue("ann").Subjects, "and stays the same")
	require.InDelta(t, float64(time.Now().Add(15*time.Minute).UnixMilli()), float64(ann.ExpiresAt), 60_000)

	var seen struct {
		Tracked      string   `json:"tracked"`
		Profile      string   `json:"profile"`
		Flags        int      `json:"flags"`
		Explanations int      `json:"explanations"`
		Change       uint64   `json:"change"`
		Denied       []string `json:"denied"`
		Refused      string   `json:"refused"`
		Ended        string   `json:"ended"`
		Origin       string   `json:"origin"`
	}
	mine, theirs := writeJSON(t, ann), writeJSON(t, jurgen)
	short := ann
	short.JWT = shorter(t, ann.JWT, s.account, 20*time.Second) // from now on: Node takes its time to start
	changed := make(chan struct{})
	go func() { // as soon as the page listens
		defer close(changed)
		for !s.listens(ann.Subjects.Changes) && t.Context().Err() == nil {
			<-time.After(poll)
		}
		publish(t, b.js, profileOf("ann", 2)) //nolint:testifylint // the test waits for it below
	}()
	node(t, &seen, "browser_nats.mjs", s.broker.WebSocketURL(), mine, theirs, writeJSON(t, short))
	<-changed
	require.Equal(t, tokenOf("ann"), seen.Profile)
	require.Positive(t, seen.Flags)
	require.Zero(t, seen.Explanations, "a page is not told the rules")
	require.Equal(t, uint64(2), seen.Change)
	require.Equal(t, []string{
		jurgen.Subjects.Track, jurgen.Subjects.Profile, jurgen.Subjects.Flags, "onramp.events.web", schema.SubjectProfile, "$JS.API.INFO",
		jurgen.Subjects.Changes, "onramp.profiles.>", "onramp.events.>",
	}, seen.Denied)
	require.Equal(t, "400", seen.Refused)
	require.Contains(t, seen.Ended, "Authentication Expired")
	require.Contains(t, seen.Origin, "403")

	message, err := lastEvent(t, b.js)
	require.NoError(t, err)
	require.Equal(t, schema.EventSubject("web"), message.Subject)
	received, err := schema.Receive(message.Data, message.Header, message.Sequence, message.Time)
	require.NoError(t, err)
	require.Equal(t, seen.Tracked, received.ID)
	require.Equal(t, "ann", received.UserID, "though the body said Jürgen")
	require.Equal(t, uint64(1), message.Sequence, "and nothing else was taken")

	forged := ask(t, b.nc, "onramp.web."+ann.Subjects.Track[len("onramp.web."):len(ann.Subjects.Track)-len(".track")-2]+"xx.track", `{"event_name":"x"}`)
	require.Equal(t, "403", forged.Header.Get(micro.ErrorCodeHeader), "a token that nobody sealed")
}

func (s *secured) listens(subject string) bool {
	subs, err := s.broker.Server().Subsz(&server.SubszOptions{Subscriptions: true, Limit: 1000})
	if err != nil {
		return false
	}
	for _, sub := range subs.Subs {
		if sub.Subject == subject {
			return true
		}
	}
	return false
}

// shorter is the same JWT with another end.
func shorter(t *testing.T, token string, account nkeys.KeyPair, ttl time.Duration) string {
	t.Helper()
	claims, err := jwt.DecodeUserClaims(token)
	require.NoError(t, err)
	claims.Expires = time.Now().Add(ttl).Unix()
	again, err := claims.Encode(account)
	require.NoError(t, err)
	return again
}

func writeJSON(t *testing.T, value any) string {
	t.Helper()
	raw, err := json.Marshal(value)
	require.NoError(t, err)
	return string(raw)
}

func lastEvent(t *testing.T, js jetstream.JetStream) (*jetstream.RawStreamMsg, error) {
	t.Helper()
	stream, err := js.Stream(t.Context(), schema.EventsStream)
	require.NoError(t, err)
	return stream.GetLastMsgForSubject(t.Context(), schema.EventsSubjects)
}

// TestBrowserLimits: one user's pages cannot use up everybody's stream.
func TestBrowserLimits(t *testing.T) {
	t.Parallel()
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	browsers, err := api.NewBrowsers(api.BrowsersConfig{Seed: seed})
	require.NoError(t, err)
	b := openBus(t, testenv.NewBroker(t), func(c *api.Config) { c.Browsers = browsers })
	track := read[issued](t, post(t, b.handler, "/v1/users/ann/credentials", "").Body.Bytes()).Subjects.Track
	refused := 0
	for i := range 200 {
		answer := ask(t, b.nc, track, `{"event_name":"x","event_id":"`+strconv.Itoa(i)+`"}`)
		if answer.Header.Get(micro.ErrorCodeHeader) == "429" {
			refused++
		}
	}
	require.Positive(t, refused)
	other := read[issued](t, post(t, b.handler, "/v1/users/bob/credentials", "").Body.Bytes()).Subjects.Track
	require.Empty(t, ask(t, b.nc, other, `{"event_name":"x"}`).Header.Get(micro.ErrorCodeHeader))
	for _, body := range []string{`{`, `{"event_name":"x","properties":[]}`, `{"event_name":"x","secret":1}`, `{}`} {
		require.Equal(t, "400", ask(t, b.nc, other, body).Header.Get(micro.ErrorCodeHeader), body)
	}
	again := ask(t, b.nc, other, `{"event_name":"x","event_id":"1"}`) // as ann's
	require.NotContains(t, string(again.Data), "duplicate")
	require.Contains(t, string(ask(t, b.nc, other, `{"event_name":"x","event_id":"1"}`).Data), `"duplicate":true`)
}

func TestNewBrowsersRefuses(t *testing.T) {
	t.Parallel()
	user, err := nkeys.CreateUser()
	require.NoError(t, err)
	userSeed, err := user.Seed()
	require.NoError(t, err)
	account, err := nkeys.CreateAccount()
	require.NoError(t, err)
	seed, err := account.Seed()
	require.NoError(t, err)
	for name, cfg := range map[string]api.BrowsersConfig{
		"no seed": {}, "no seed at all": {Seed: []byte("SA")}, "a user's": {Seed: userSeed}, "no account": {Seed: seed, Account: "A1"},
		"too short": {Seed: seed, TTL: time.Second}, "too long": {Seed: seed, TTL: 48 * time.Hour},
	} {
		_, err := api.NewBrowsers(cfg)
		require.Equal(t, schema.CodeInvalid, schema.CodeOf(err), name)
		require.NotContains(t, err.Error(), string(seed))
	}
}
