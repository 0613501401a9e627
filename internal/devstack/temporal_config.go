//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"sync/atomic"
	"time"

	sdkworker "go.temporal.io/sdk/worker"
	"go.temporal.io/server/common/cluster"
	"go.temporal.io/server/common/config"
	"go.temporal.io/server/common/dynamicconfig"
	"go.temporal.io/server/common/membership/static"
	"go.temporal.io/server/common/primitives"
)

const (
	clusterName = "active"
	// No limit a laptop can reach: a benchmark must measure the server, not its rate limits.
	unlimited = 1_000_000
	// Visibility has one SQLite connection, so a runaway list loop is still bounded.
	visibilityRPS = 500
	// Entries of workflow state kept in memory, about 10 KB each in our workflows.
	historyCacheSize = 8192
	// How long the server's parts may disagree about a namespace and its search attributes: while it is made ready, and afterwards, when nobody
	// changes them. Each of four services asks the database so often, which is most of what an engine costs where nothing happens.
	namespaceRefresh, namespaceCalm = 500 * time.Millisecond, 10 * time.Second
	// How long the server gathers timers before it fires them.
	timerShift = 5 * time.Millisecond
	// Pollers of the server's own workers (schedules, batches): idle in Onramp.
	systemPollers = 2
)

// temporalPorts are the ports of the four services; only the frontend's is for clients.
type temporalPorts struct{ frontend, history, matching, worker int }

func choosePorts(ctx context.Context, book *portBook, frontend int) (p temporalPorts, err error) {
	p.frontend = frontend
	for _, port := range []*int{&p.frontend, &p.history, &p.matching, &p.worker} {
		if *port, err = book.choose(ctx, *port); err != nil {
			return p, err
		}
	}
	return p, nil
}

// hosts is the whole membership: with static hosts there is no ring to join, and no host of a crashed run is waited for.
func (p temporalPorts) hosts() map[primitives.ServiceName]static.Hosts {
	return map[primitives.ServiceName]static.Hosts{ //nolint:exhaustive // those of temporal.DefaultServices
		primitives.FrontendService: static.SingleLocalHost(hostPort(p.frontend)),
		primitives.HistoryService:  static.SingleLocalHost(hostPort(p.history)),
		primitives.MatchingService: static.SingleLocalHost(hostPort(p.matching)),
		primitives.WorkerService:   static.SingleLocalHost(hostPort(p.worker)),
	}
}

func serverConfig(ports temporalPorts, state, list *config.SQL) *config.Config {
	service := func(port int) config.Service {
		return config.Service{RPC: config.RPC{GRPCPort: port, BindOnIP: loopback}}
	}
	disabled := config.ArchivalNamespaceDefaults{
		History:    config.HistoryArchivalNamespaceDefaults{State: "disabled"},
		Visibility: config.VisibilityArchivalNamespaceDefaults{State: "disabled"},
	}
	return &config.Config{
		Persistence: config.Persistence{
			DefaultStore:    stateDatabase,
			VisibilityStore: listDatabase,
			// One node has one shard; the number can never be changed for a database.
			NumHistoryShards: 1,
			DataStores:       map[string]config.DataStore{stateDatabase: {SQL: state}, listDatabase: {SQL: list}},
		},
		ClusterMetadata: &cluster.Config{
			FailoverVersionIncrement: 10,
			MasterClusterName:        clusterName,
			CurrentClusterName:       clusterName,
			ClusterInformation: map[string]cluster.ClusterInformation{clusterName: {
				Enabled: true, InitialFailoverVersion: 1, RPCAddress: hostPort(ports.frontend),
			}},
		},
		DCRedirectionPolicy: config.DCRedirectionPolicy{Policy: "noop"},
		Services: map[string]config.Service{
			string(primitives.FrontendService): service(ports.frontend),
			string(primitives.HistoryService):  service(ports.history),
			string(primitives.MatchingService): service(ports.matching),
			string(primitives.WorkerService):   service(ports.worker),
		},
		Archival: config.Archival{
			History:    config.HistoryArchival{State: "disabled"},
			Visibility: config.VisibilityArchival{State: "disabled"},
		},
		NamespaceDefaults: config.NamespaceDefaults{Archival: disabled},
		PublicClient:      config.PublicClient{HostPort: hostPort(ports.frontend)},
	}
}

// dynamicSettings are read by the server whenever it needs them.
type dynamicSettings struct {
	dynamicconfig.StaticClient

	ready atomic.Bool // the namespace is as it shall be
}

// GetValue implements dynamicconfig.Client.
func (d *dynamicSettings) GetValue(key dynamicconfig.Key) []dynamicconfig.ConstrainedValue {
	if key == dynamicconfig.NamespaceCacheRefreshInterval.Key() && d.ready.Load() {
		return []dynamicconfig.ConstrainedValue{{Value: namespaceCalm}}
	}
	return d.StaticClient.GetValue(key)
}

func dynamicConfig(cfg Config) *dynamicSettings {
	return &dynamicSettings{StaticClient: dynamicconfig.StaticClient{
		dynamicconfig.FrontendRPS.Key():                                  unlimited,
		dynamicconfig.FrontendMaxNamespaceRPSPerInstance.Key():           unlimited,
		dynamicconfig.FrontendMaxNamespaceVisibilityRPSPerInstance.Key(): visibilityRPS,
		dynamicconfig.HistoryRPS.Key():                                   unlimited,
		dynamicconfig.MatchingRPS.Key():                                  unlimited,
		dynamicconfig.FrontendPersistenceMaxQPS.Key():                    unlimited,
		dynamicconfig.HistoryPersistenceMaxQPS.Key():                     unlimited,
		dynamicconfig.MatchingPersistenceMaxQPS.Key():                    unlimited,

		// Partitions spread one queue over hosts; on one host they only make pollers miss tasks.
		dynamicconfig.MatchingNumTaskqueueReadPartitions.Key():  1,
		dynamicconfig.MatchingNumTaskqueueWritePartitions.Key(): 1,

		dynamicconfig.HistoryCacheHostLevelMaxSize.Key():  historyCacheSize,
		dynamicconfig.WorkerStickyCacheSize.Key():         cfg.WorkflowCache,
		dynamicconfig.NamespaceCacheRefreshInterval.Key(): namespaceRefresh,
		// By default the server gathers timers and fires each up to a second late. Here they are few, and on time matters.
		dynamicconfig.TimerProcessorMaxTimeShift.Key(): timerShift,

		// The scanners look for leftovers of large clusters; here they would only keep the disk busy.
		dynamicconfig.HistoryScannerEnabled.Key():   false,
		dynamicconfig.TaskQueueScannerEnabled.Key(): false,
		dynamicconfig.WorkerPerNamespaceWorkerOptions.Key(): sdkworker.Options{
			MaxConcurrentWorkflowTaskPollers: systemPollers,
			MaxConcurrentActivityTaskPollers: systemPollers,
		},
	}}
}
