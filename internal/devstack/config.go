package devstack

import (
	"cmp"
	"errors"
	"io"
	"log/slog"

	enumspb "go.temporal.io/api/enums/v1"
)

// ChildCommand is the hidden first argument with which this program is started again to be the ClickHouse server.
const ChildCommand = "__clickhouse"

// ErrNotBuilt is returned by [Start] in a program built without the embedded servers.
var ErrNotBuilt = errors.New("start local servers: this program was built without them (tag noembed, or a system " +
	"other than Linux and macOS): give the addresses of running NATS, Temporal and ClickHouse servers instead")

// Config says what to run and where. The zero value runs everything on free ports in a temporary folder.
type Config struct {
	// Dir is the data folder; it is created if missing. Defaults to a temporary folder that Close removes.
	Dir string
	// NATSPort is the port of NATS on 127.0.0.1. Defaults to any free port.
	NATSPort int
	// NATSWebSocketPort is the port on 127.0.0.1 on which NATS also takes WebSocket connections; -1 for any free one. Defaults to 0,
	// none: pages of other sites can reach a port of loopback too, and NATS without users lets everybody do everything.
	NATSWebSocketPort int
	// NATSOrigins are the pages that may connect there, as scheme://host[:port]. Defaults to those of the same host and port.
	NATSOrigins []string
	// MQTTPort is the port on 127.0.0.1 on which NATS also takes MQTT 3.1.1; -1 for any free one. Defaults to 0, none.
	MQTTPort int
	// TemporalPort is the port of the Temporal frontend on 127.0.0.1. Defaults to any free port.
	TemporalPort int
	// UIPort is the port of the Temporal Web UI on 127.0.0.1. Defaults to any free port.
	UIPort int
	// ClickHousePort is the port of ClickHouse's native protocol on 127.0.0.1. Defaults to any free port.
	ClickHousePort int
	// ClickHouseHTTPPort is the port of ClickHouse's HTTP interface on 127.0.0.1. Defaults to any free port.
	ClickHouseHTTPPort int
	// NoUI leaves the Temporal Web UI out. Defaults to false.
	NoUI bool
	// NoNATS, NoTemporal and NoClickHouse leave a server out, so that each can run, and be killed, in a process of its own.
	// Without Temporal there is no Web UI either. Default to false.
	NoNATS, NoTemporal, NoClickHouse bool
	// Namespace is the Temporal namespace that exists when Start returns. Defaults to "default".
	Namespace string
	// SearchAttributes can be used in Namespace when Start returns, in a new data folder and in an old one.
	// Defaults to none.
	SearchAttributes map[string]enumspb.IndexedValueType
	// WorkflowCache is how many workflows the SDK workers of this process keep in memory together. Temporal has workers of its own, which
	// start first, and the first decides: what a later one asks for counts for nothing. Defaults to the SDK's 10,000.
	WorkflowCache int
	// EngineCache is the folder in which the fetched ClickHouse library is kept, about 570 MB.
	// Defaults to the folder onramp in the user's cache folder (os.UserCacheDir).
	EngineCache string
	// ClickHouseBinary is the path of a clickhouse program to run.
	// Defaults to the clickhouse on PATH, else to the library in EngineCache.
	ClickHouseBinary string
	// Progress is where the bar of the one download is drawn. Defaults to nowhere.
	Progress io.Writer
	// Logger gets warnings of the servers and what the watchdog does. Defaults to slog.DiscardHandler.
	Logger *slog.Logger
}

// Stack is a set of running servers. Its methods may be called from several goroutines.
type Stack struct {
	// NATSURL is the address for nats.Connect.
	NATSURL string `json:"nats_url"`
	// NATSWebSocketURL is the address for clients over WebSocket, empty where that is not asked for.
	NATSWebSocketURL string `json:"nats_websocket_url,omitempty"`
	// MQTTURL is the address for MQTT clients, empty where that is not asked for.
	MQTTURL string `json:"mqtt_url,omitempty"`
	// TemporalAddress is the host:port of the Temporal frontend.
	TemporalAddress string `json:"temporal_address"`
	// UIURL is the address of the Temporal Web UI; empty with Config.NoUI.
	UIURL string `json:"ui_url"`
	// ClickHouseAddr is the host:port of the native protocol. The users are default (all rights) and analyst
	// (read only, with limits), both without a password.
	ClickHouseAddr string `json:"clickhouse_addr"`
	// ClickHouseHTTPURL is the address of the HTTP interface; /play is a query page.
	ClickHouseHTTPURL string `json:"clickhouse_http_url"`
	// Dir is the absolute path of the data folder.
	Dir string `json:"dir"`

	parts parts
}

func (c Config) withDefaults() Config {
	c.Namespace = cmp.Or(c.Namespace, "default")
	c.NoUI = c.NoUI || c.NoTemporal
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
