// Package deploy_test reads the deployment's files as their servers would, as far as that goes without running containers.
package deploy_test

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/client"
	"github.com/onramphq/onramp/schema"
)

type service struct {
	Image       string                       `yaml:"image"`
	Restart     string                       `yaml:"restart"`
	MemLimit    string                       `yaml:"mem_limit"`
	Environment map[string]string            `yaml:"environment"`
	Ports       []string                     `yaml:"ports"`
	Volumes     []string                     `yaml:"volumes"`
	DependsOn   map[string]map[string]string `yaml:"depends_on"`
	Healthcheck struct{ Test []string }      `yaml:"healthcheck"`
}

type composeFile struct {
	Services map[string]service   `yaml:"services"`
	Volumes  map[string]yaml.Node `yaml:"volumes"`
}

func read(t *testing.T, parts ...string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(append([]string{".."}, parts...)...))
	require.NoError(t, err)
	return string(raw)
}

func compose(t *testing.T) composeFile {
	t.Helper()
	var file composeFile
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "docker-compose.yml")), &file))
	require.NotEmpty(t, file.Services)
	return file
}

func TestServices(t *testing.T) {
	t.Parallel()
	file := compose(t)
	pinned := regexp.MustCompile(`^[a-z0-9./-]+:v?[0-9]+\.[0-9]+[a-z0-9.-]*$`)
	for name, s := range file.Services {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if s.Image != "onramp:${ONRAMP_VERSION:-dev}" { // built from this repository
				require.Regexp(t, pinned, s.Image, "an exact version")
			}
			require.NotEmpty(t, s.Healthcheck.Test)
			require.Equal(t, "unless-stopped", s.Restart)
			require.NotEmpty(t, s.MemLimit)
			for on, how := range s.DependsOn {
				require.Contains(t, file.Services, on)
				require.Equal(t, "service_healthy", how["condition"], on)
			}
			for _, port := range s.Ports {
				require.True(t, strings.HasPrefix(port, "127.0.0.1:"), "%s is published beyond this host", port)
			}
			for _, volume := range s.Volumes {
				source, _, _ := strings.Cut(volume, ":")
				if strings.HasPrefix(source, "./") {
					_, err := os.Stat(filepath.Join("..", source))
					require.NoError(t, err)
					require.True(t, strings.HasSuffix(volume, ":ro"), "%s can be written from inside", volume)
				} else {
					require.Contains(t, file.Volumes, source)
				}
			}
		})
	}
	for _, role := range []string{"ingest", "worker", "sink", "api"} {
		require.Equal(t, []string{"clickhouse", "nats", "temporal"}, sortedKeys(file.Services[role].DependsOn), role)
	}
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// TestEnvironment holds the names in the compose file to those that the program reads.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join("..", "cmd", "onramp", "*.go"))
	require.NoError(t, err)
	known := map[string]bool{}
	for _, file := range files {
		for _, tag := range regexp.MustCompile(`env:"([A-Z_,]+)"`).FindAllStringSubmatch(read(t, file[len("../"):]), -1) {
			for name := range strings.SplitSeq(tag[1], ",") {
				known[name] = true
			}
		}
	}
	require.NotEmpty(t, known)
	for name, s := range compose(t).Services {
		for variable := range s.Environment {
			if strings.HasPrefix(variable, "ONRAMP_") {
				require.True(t, known[variable], "service %s sets %s, which the program does not read", name, variable)
			}
		}
	}
}

// TestSecrets: each must be given, none has a default, and the example names them all and gives none.
func TestSecrets(t *testing.T) {
	t.Parallel()
	text, example := read(t, "docker-compose.yml"), read(t, "deploy", "onramp.env.example")
	secrets := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$\{([A-Z_]+)([^}]*)\}`).FindAllStringSubmatch(text, -1) {
		name, rest := m[1], m[2]
		require.Contains(t, example, name+"=")
		if strings.HasSuffix(name, "_PASSWORD") || strings.HasSuffix(name, "_KEY") {
			require.True(t, strings.HasPrefix(rest, ":?"), "%s may be missing", name)
			require.Regexp(t, `(?m)^`+name+`=$`, example)
			secrets[name] = true
		} else {
			require.True(t, strings.HasPrefix(rest, ":-"), "%s has no default", name)
		}
	}
	require.Len(t, secrets, 9)
	for name, s := range compose(t).Services {
		for variable, value := range s.Environment {
			if strings.Contains(variable, "PASSWORD") || strings.HasSuffix(variable, "_PWD") || strings.HasSuffix(variable, "_KEY") {
				require.True(t, strings.HasPrefix(value, "${"), "service %s has a secret of its own in %s", name, variable)
			}
		}
	}
}

func TestDockerfile(t *testing.T) {
	t.Parallel()
	text := read(t, "Dockerfile")
	for _, from := range regexp.MustCompile(`(?m)^FROM (\S+)`).FindAllStringSubmatch(text, -1) {
		require.Regexp(t, `:[0-9]+\.[0-9]+\.[0-9]+|@sha256:[0-9a-f]{64}$`, from[1])
	}
	require.Contains(t, text, "FROM golang:"+goVersion(t)+"-", "the toolchain of go.mod")
	for _, want := range []string{"CGO_ENABLED=0", "-tags noembed", "USER nonroot", `HEALTHCHECK`, `CMD ["/onramp", "health"]`} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "latest")
}

func goVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^go (\S+)$`).FindStringSubmatch(read(t, "go.mod"))
	require.Len(t, m, 2)
	return m[1]
}

// natsOptions lets the server read its file.
func natsOptions(t *testing.T) *server.Options {
	t.Helper()
	for _, name := range []string{"NATS_PASSWORD", "NATS_WRITER_PASSWORD", "NATS_READER_PASSWORD", "NATS_ACTOR_PASSWORD"} {
		t.Setenv(name, "secret_of_"+strings.ToLower(name))
	}
	options, err := server.ProcessConfigFile(filepath.Join("nats", "nats.conf"))
	require.NoError(t, err)
	return options
}

func TestNATS(t *testing.T) { //nolint:paralleltest // it sets the environment
	options := natsOptions(t)
	require.True(t, options.JetStream)
	require.Equal(t, "/data", options.StoreDir)
	require.True(t, options.SyncAlways)
	require.EqualValues(t, 1<<20, options.MaxPayload)
	require.Empty(t, options.NoAuthUser)
	for _, user := range options.Users {
		require.Equal(t, user.Username == "onramp", user.Permissions == nil, user.Username)
		if user.Permissions != nil {
			require.Empty(t, user.Permissions.Publish.Deny)
			require.Empty(t, user.Permissions.Subscribe.Deny)
		}
	}
}

// TestNATSPermissions has every role of the file try every subject on a server that runs by it.
func TestNATSPermissions(t *testing.T) { //nolint:paralleltest // likewise
	options := natsOptions(t)
	options.Host, options.Port, options.HTTPPort, options.StoreDir = "127.0.0.1", server.RANDOM_PORT, 0, t.TempDir()
	options.SyncAlways, options.NoLog, options.NoSigs = false, true, true
	broker, err := server.NewServer(options)
	require.NoError(t, err)
	broker.Start()
	t.Cleanup(broker.WaitForShutdown)
	t.Cleanup(broker.Shutdown)
	require.True(t, broker.ReadyForConnections(30*time.Second))

	denied := make(chan string, 100)
	connect := func(user string) *nats.Conn {
		name := "NATS_" + strings.ToUpper(user) + "_PASSWORD"
		if user == "onramp" {
			name = "NATS_PASSWORD"
		}
		nc, err := nats.Connect(broker.ClientURL(), nats.UserInfo(user, os.Getenv(name)), nats.CustomInboxPrefix("_INBOX_"+user),
			nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { denied <- err.Error() }))
		require.NoError(t, err)
		t.Cleanup(nc.Close)
		return nc
	}
	engine := connect("onramp")
	js, err := jetstream.New(engine)
	require.NoError(t, err)
	for stream, subjects := range map[string]string{
		schema.EventsStream: schema.EventsSubjects, schema.OutcomesStream: schema.OutcomesSubjects, schema.DeadLettersStream: schema.DeadLettersSubjects,
		schema.ActionsStream: schema.ActionsSubjects, schema.ProfilesStream: schema.ProfilesSubjects,
	} {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: stream, Subjects: []string{subjects}})
		require.NoError(t, err)
	}
	_, err = nats.Connect(broker.ClientURL())
	require.ErrorIs(t, err, nats.ErrAuthorization, "nobody comes in without a name")
	_, err = nats.Connect(broker.ClientURL(), nats.UserInfo("reader", os.Getenv("NATS_WRITER_PASSWORD")))
	require.ErrorIs(t, err, nats.ErrAuthorization)

	publish := map[string]string{ // who may
		"onramp.events.billing": "writer", "onramp.events": "", "onramp.outcomes.segment_entered": "", "onramp.deadletters.too_large": "",
		"onramp.actions.greet": "", "onramp.profiles.u1": "", "onramp.identities.u1": "", "other": "", "$SYS.REQ.SERVER.PING": "",
		"onramp.v1.profile": "reader", "onramp.v1.flags": "reader", "onramp.web.u1.track": "", "$SRV.INFO.onramp": "reader", "$SRV.PING": "reader",
		"$JS.API.INFO": "actor", "$JS.API.STREAM.NAMES": "", "$JS.API.STREAM.INFO.ONRAMP_ACTIONS": "actor", "$JS.API.STREAM.INFO.ONRAMP_EVENTS": "",
		"$JS.API.STREAM.DELETE.ONRAMP_ACTIONS": "", "$JS.API.STREAM.PURGE.ONRAMP_ACTIONS": "", "$JS.API.STREAM.UPDATE.ONRAMP_ACTIONS": "",
		"$JS.API.STREAM.CREATE.X": "", "$JS.API.STREAM.MSG.DELETE.ONRAMP_ACTIONS": "", "$JS.API.STREAM.MSG.GET.ONRAMP_EVENTS": "",
		"$JS.API.STREAM.SNAPSHOT.ONRAMP_EVENTS": "", "$JS.API.DIRECT.GET.ONRAMP_EVENTS": "", "$JS.API.CONSUMER.MSG.NEXT.ONRAMP_ACTIONS.c": "actor",
		"$JS.API.CONSUMER.MSG.NEXT.ONRAMP_EVENTS.ingest": "", "$JS.API.CONSUMER.CREATE.ONRAMP_EVENTS.x": "", "$JS.API.CONSUMER.DELETE.ONRAMP_EVENTS.ingest": "",
		"$JS.API.CONSUMER.DELETE.ONRAMP_ACTIONS.c": "", "$JS.ACK.ONRAMP_ACTIONS.c.1.1.1.1.1": "actor", "$JS.ACK.ONRAMP_EVENTS.ingest.1.1.1.1.1": "",
		"$KV.onramp.x": "", "$KV.actors.x": "actor", "$JS.API.STREAM.DELETE.KV_actors": "", "_INBOX.x": "", "_INBOX_reader.x": "",
	}
	subscribe := map[string]string{
		"onramp.events.>": "", "onramp.outcomes.>": "", "onramp.profiles.>": "reader", "onramp.actions.>": "", "onramp.identities.>": "", ">": "",
		"_INBOX.>": "", "_INBOX_reader.>": "reader", "_INBOX_writer.>": "writer", "_INBOX_actor.>": "actor", "_INBOX_onramp.>": "", "$SYS.>": "", "$JS.>": "",
	}
	for _, role := range []string{"writer", "reader", "actor"} {
		nc := connect(role)
		try := func(what, subject string, allowed bool, do func() error) {
			require.NoError(t, do())
			require.NoError(t, nc.Flush()) // a violation comes before the answer to it
			select {
			case message := <-denied:
				require.False(t, allowed, "%s may not %s %s: %s", role, what, subject, message)
			case <-time.After(20 * time.Millisecond): // errors are told by a goroutine of the client
				require.True(t, allowed, "%s may %s %s", role, what, subject)
			}
		}
		for subject, who := range publish {
			try("publish", subject, who == role, func() error { return nc.Publish(subject, nil) })
		}
		for subject, who := range subscribe {
			try("subscribe", subject, who == role, func() error {
				sub, err := nc.SubscribeSync(subject)
				if err == nil {
					t.Cleanup(func() { _ = sub.Unsubscribe() }) // gone already where it was refused
				}
				return err
			})
		}
	}

	t.Run("a writer learns that JetStream has the event", func(t *testing.T) { //nolint:paralleltest // the server is the parent's
		events, err := jetstream.New(connect("writer"))
		require.NoError(t, err)
		_, err = events.Publish(t.Context(), "onramp.events.billing", []byte(`{}`))
		require.NoError(t, err)
	})
	t.Run("an actor takes actions", func(t *testing.T) { //nolint:paralleltest // likewise
		_, err := js.Publish(t.Context(), "onramp.actions.greet", []byte(`{}`))
		require.NoError(t, err)
		actions, err := jetstream.New(connect("actor"))
		require.NoError(t, err)
		consumer, err := actions.CreateOrUpdateConsumer(t.Context(), schema.ActionsStream, jetstream.ConsumerConfig{Durable: "crm", AckPolicy: jetstream.AckExplicitPolicy})
		require.NoError(t, err)
		message, err := consumer.Next(jetstream.FetchMaxWait(10 * time.Second))
		require.NoError(t, err)
		require.NoError(t, message.DoubleAck(t.Context()))
	})
	t.Run("an actor uses the client", func(t *testing.T) { //nolint:paralleltest // likewise
		c, err := client.New(connect("actor"), "mailer")
		require.NoError(t, err)
		memory, err := c.OpenMemory(t.Context(), "actors", time.Hour, time.Minute)
		require.NoError(t, err)
		_, err = js.Publish(t.Context(), "onramp.actions.ring", []byte(`{"action_id":"a1","action":"ring"}`))
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		done := ""
		require.NoError(t, c.Handle(ctx, client.HandlerConfig{Consumer: "mailer", Action: "ring", Memory: memory, Do: func(_ context.Context, action schema.ActionRequest) error {
			done = action.ActionID
			cancel()
			return nil
		}}))
		require.Equal(t, "a1", done)
	})
}

// tables are those of the migrations.
func tables(t *testing.T) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "schema", "clickhouse", "*.sql"))
	require.NoError(t, err)
	names := map[string]bool{}
	for _, file := range files {
		for _, m := range regexp.MustCompile(`CREATE (?:TABLE|VIEW|MATERIALIZED VIEW) IF NOT EXISTS (\w+)`).FindAllStringSubmatch(read(t, file[len("../"):]), -1) {
			names[m[1]] = true
		}
	}
	require.NotEmpty(t, names)
	return names
}

// TestClickHouse: the files are well formed, and the analyst may read every table but those that hold personal data.
func TestClickHouse(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"config.xml", "users.xml"} {
		decoder := xml.NewDecoder(strings.NewReader(read(t, "deploy", "clickhouse", name)))
		for {
			_, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
		}
	}
	granted := map[string]bool{"users": true, "users_unique": true, "dead_letters_unique": true} // personal
	for _, m := range regexp.MustCompile(`GRANT SELECT(?:\([^)]*\))? ON onramp\.(\w+)<`).FindAllStringSubmatch(read(t, "deploy", "clickhouse", "users.xml"), -1) {
		granted[m[1]] = true
	}
	require.Equal(t, sortedKeys(tables(t)), sortedKeys(granted))
}

func TestDashboard(t *testing.T) {
	t.Parallel()
	var source struct {
		Datasources []struct{ UID, Type string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy", "grafana", "provisioning", "datasources", "clickhouse.yaml")), &source))
	var dashboard struct {
		Panels []struct {
			ID         int                  `yaml:"id"`
			Title      string               `yaml:"title"`
			Datasource struct{ UID string } `yaml:"datasource"`
			Targets    []struct {
				RawSQL string `yaml:"rawSql"`
			} `yaml:"targets"`
		} `yaml:"panels"`
	}
	raw := []byte(read(t, "deploy", "grafana", "dashboards", "onramp.json"))
	require.True(t, json.Valid(raw))
	require.NoError(t, yaml.Unmarshal(raw, &dashboard)) // JSON is YAML
	require.NotEmpty(t, dashboard.Panels)
	known, ids := tables(t), map[int]bool{}
	for _, panel := range dashboard.Panels {
		require.False(t, ids[panel.ID], panel.Title)
		ids[panel.ID] = true
		require.Equal(t, source.Datasources[0].UID, panel.Datasource.UID)
		require.Len(t, panel.Targets, 1, panel.Title)
		for _, m := range regexp.MustCompile(`FROM (\w+)`).FindAllStringSubmatch(panel.Targets[0].RawSQL, -1) {
			require.True(t, known[m[1]], "%s reads %s, which no migration makes", panel.Title, m[1])
		}
	}
}

// written are the metrics that docs/operations.md describes; a test of cmd/onramp holds them to what the program tells.
func written(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(onramp_[a-z_]+)`").FindAllStringSubmatch(read(t, "docs", "operations.md"), -1) {
		names[m[1]] = true
	}
	require.NotEmpty(t, names)
	return names
}

// asksFor checks that an expression asks for metrics that there are.
func asksFor(t *testing.T, known map[string]bool, expr string) {
	t.Helper()
	for _, name := range regexp.MustCompile(`onramp_[a-z_]+`).FindAllString(expr, -1) {
		base := name
		for _, ending := range []string{"_bucket", "_sum", "_count"} {
			base = strings.TrimSuffix(base, ending)
		}
		require.True(t, known[name] || known[base], "%s asks for %s", expr, name)
	}
}

// TestPrometheus: the alerts and the dashboard ask for metrics that there are, of processes that tell them.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	known := written(t)
	var rules struct {
		Groups []struct {
			Rules []struct{ Alert, Expr string }
		}
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy", "prometheus", "alerts.yml")), &rules))
	require.NotEmpty(t, rules.Groups)
	require.NotEmpty(t, rules.Groups[0].Rules)
	for _, rule := range rules.Groups[0].Rules {
		require.NotEmpty(t, rule.Alert)
		asksFor(t, known, rule.Expr)
	}

	var source struct {
		Datasources []struct{ UID string }
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy", "grafana", "provisioning", "datasources", "prometheus.yaml")), &source))
	var dashboard struct {
		Panels []struct {
			ID         int    `json:"id"`
			Title      string `json:"title"`
			Datasource struct {
				UID string `json:"uid"`
			} `json:"datasource"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, "deploy", "grafana", "dashboards", "engine.json")), &dashboard))
	require.NotEmpty(t, dashboard.Panels)
	ids := map[int]bool{}
	for _, panel := range dashboard.Panels {
		require.False(t, ids[panel.ID], panel.Title)
		ids[panel.ID] = true
		require.Equal(t, source.Datasources[0].UID, panel.Datasource.UID)
		require.NotEmpty(t, panel.Targets)
		for _, target := range panel.Targets {
			asksFor(t, known, target.Expr)
		}
	}

	var scrape struct {
		ScrapeConfigs []struct {
			Job string `yaml:"job_name"`
			DNS []struct {
				Names []string
				Port  int
			} `yaml:"dns_sd_configs"`
		} `yaml:"scrape_configs"`
	}
	require.NoError(t, yaml.Unmarshal([]byte(read(t, "deploy", "prometheus", "prometheus.yml")), &scrape))
	services := compose(t).Services
	require.Equal(t, "onramp", scrape.ScrapeConfigs[0].Job)
	for _, name := range scrape.ScrapeConfigs[0].DNS[0].Names {
		require.True(t, strings.HasSuffix(services[name].Environment["ONRAMP_ADMIN_ADDR"], ":9464"), name)
		for _, port := range services[name].Ports {
			require.NotContains(t, port, "9464", "the admin port is not published")
		}
	}
}
