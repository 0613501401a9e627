// Package deploy_test reads the deployment's files as their servers would, as far as that goes without running containers.
package deploy_test

import (
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

	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
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
	require.Len(t, secrets, 6)
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

// TestNATS lets the server read its file.
func TestNATS(t *testing.T) {
	t.Setenv("NATS_PASSWORD", "secret")
	options, err := server.ProcessConfigFile(filepath.Join("nats", "nats.conf"))
	require.NoError(t, err)
	require.True(t, options.JetStream)
	require.Equal(t, "/data", options.StoreDir)
	require.True(t, options.SyncAlways)
	require.Equal(t, "onramp", options.Username)
	require.Equal(t, "secret", options.Password)
	require.EqualValues(t, 1<<20, options.MaxPayload)
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
