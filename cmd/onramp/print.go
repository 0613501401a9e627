package main

import (
	"encoding/json"
	"text/tabwriter"

	"github.com/onramphq/onramp/worker"
)

// printAddresses tells where everything listens.
func printAddresses(io stdio, l *local, current worker.Current, asJSON bool) {
	apiURL, admin, metricsURL := "http://"+l.listen.Addr().String(), "", "off"
	if l.admin != nil {
		admin = "http://" + l.admin.Addr().String()
		metricsURL = admin + "/metrics"
	}
	if asJSON {
		if err := json.NewEncoder(io.out).Encode(map[string]string{
			"nats": l.stack.NATSURL, "temporal": l.stack.TemporalAddress, "ui": l.stack.UIURL, "clickhouse": l.stack.ClickHouseAddr,
			"clickhouse_http": l.stack.ClickHouseHTTPURL, "api": apiURL, "admin": admin, "data": l.stack.Dir, "playbook": current.Hash,
			"grpc": l.grpcAddr(), "nats_websocket": l.stack.NATSWebSocketURL, "mqtt": l.stack.MQTTURL,
		}); err != nil {
			l.logger.Warn("addresses not printed")
		}
		return
	}
	w := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	rows := [][2]string{
		{"Publish events", l.stack.NATSURL + "  subject onramp.events.<source>"},
		{"Temporal UI", l.stack.UIURL},
		{"Temporal", l.stack.TemporalAddress},
		{"ClickHouse", l.stack.ClickHouseAddr + "  database onramp"},
		{"ClickHouse HTTP", l.stack.ClickHouseHTTPURL + "/play"},
		{"API", apiURL},
		{"Metrics", metricsURL},
		{"Playbook", current.Name + "  version " + current.Hash},
		{"Data", l.stack.Dir},
	}
	for name, url := range map[string]string{"NATS over WebSocket": l.stack.NATSWebSocketURL, "MQTT": l.stack.MQTTURL, "gRPC": l.grpcAddr()} {
		if url != "" {
			rows = append(rows, [2]string{name, url})
		}
	}
	for _, row := range rows {
		say(w, "%s\t%s\n", row[0], row[1])
	}
	if err := w.Flush(); err != nil {
		l.logger.Warn("addresses not printed")
	}
	say(io.out, "\nStop with Ctrl-C.\n")
}

// grpcAddr is where the API answers over gRPC; empty where it does not.
func (l *local) grpcAddr() string {
	if l.listenGRPC == nil {
		return ""
	}
	return l.listenGRPC.Addr().String()
}
