//go:build deps

package deps
import (
 _ "go.temporal.io/server/temporal"
 _ "go.temporal.io/server/schema/sqlite"
 _ "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
 _ "github.com/temporalio/ui-server/v2/server"
 _ "github.com/nats-io/nats-server/v2/server"
 _ "github.com/nats-io/nats.go/jetstream"
 _ "github.com/ClickHouse/clickhouse-go/v2"
 _ "cel.dev/cel-go/cel"
 _ "github.com/ebitengine/purego"
 _ "github.com/pressly/goose/v3"
 _ "go.temporal.io/sdk/worker"
 _ "go.temporal.io/sdk/testsuite"
 _ "pgregory.net/rapid"
 _ "go.uber.org/goleak"
 _ "github.com/alecthomas/kong"
 _ "go.yaml.in/yaml/v3"
 _ "github.com/go-json-experiment/json"
 _ "gonum.org/v1/gonum/stat/distuv"
 _ "github.com/schollz/progressbar/v3"
 _ "golang.org/x/sync/errgroup"
 _ "golang.org/x/sys/unix"
 _ "github.com/standard-webhooks/standard-webhooks/libraries/go"
 _ "github.com/stretchr/testify/require"
)
