//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	enumspb "go.temporal.io/api/enums/v1"
	"go.temporal.io/api/operatorservice/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/server/common/config"
	sqliteplugin "go.temporal.io/server/common/persistence/sql/sqlplugin/sqlite"
	"go.temporal.io/server/common/primitives/timestamp"
	"go.temporal.io/server/schema/sqlite"
)

const (
	// Closed workflows can be looked at for three days, the window in which late events still count.
	retentionHours = 72
	namespacePoll  = 50 * time.Millisecond

	// Files of a data folder's temporal/.
	stateDatabase = "temporal.db"
	listDatabase  = "visibility.db"
)

// sqliteStore describes the database file. The attribute names have no underscore in front: with one, as temporaltest
// writes them, SQLite ignores them in silence.
func sqliteStore(file string) *config.SQL {
	return &config.SQL{
		PluginName:   sqliteplugin.PluginName,
		DatabaseName: uriPath(file),
		// NORMAL: after a crash of the process nothing is lost, after a power cut the last transactions may be.
		// The plugin hands on what it does not know as pragmas. With SQLite's own 2 MB of cache a start of a workflow cost half
		// as much CPU again. More than 8 MB costs too: a commit that has split a page of a table or an index may walk through all pages that are kept.
		ConnectAttributes: map[string]string{
			"mode": "rwc", "journal_mode": "wal", "synchronous": "1", "cache_size": "-8192", "wal_autocheckpoint": "8000", "temp_store": "2",
		},
		MaxConns: 1,
	}
}

// uriPath escapes what means something in an SQLite URI.
func uriPath(file string) string { return (&url.URL{Path: file}).EscapedPath() }

// stores describes Temporal's database files in dir: of what runs, and of the list of it that people search. Each has one connection, so the one does
// not wait for the other. A folder of before has both in one.
func stores(ctx context.Context, dir string) (state, list *config.SQL, err error) {
	stateFile, listFile := filepath.Join(dir, stateDatabase), filepath.Join(dir, listDatabase)
	state, list = sqliteStore(stateFile), sqliteStore(listFile)
	isNew, err := missing(stateFile)
	if err != nil {
		return nil, nil, err
	}
	if isNew { // the list first: where the other is there, both are
		if err := createDatabase(ctx, listFile); err != nil {
			return nil, nil, err
		}
		return state, list, createDatabase(ctx, stateFile)
	}
	isFormer, err := missing(listFile)
	if isFormer {
		list = state
	}
	return state, list, err
}

func missing(file string) (bool, error) {
	_, err := os.Stat(file)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("look for Temporal database: %w", err)
	}
	return err != nil, nil
}

// createNamespace creates the namespace if it is missing.
func createNamespace(state *config.SQL, cfg Config) error {
	namespace, err := sqlite.NewNamespaceConfig(clusterName, cfg.Namespace, false, cfg.SearchAttributes)
	if err != nil {
		return fmt.Errorf("describe namespace %s: %w", cfg.Namespace, err)
	}
	namespace.Detail.Config.Retention = timestamp.DurationFromHours(retentionHours)
	if err := sqlite.CreateNamespaces(state, namespace); err != nil {
		return fmt.Errorf("create namespace %s in %s: %w", cfg.Namespace, state.DatabaseName, err)
	}
	return nil
}

// createDatabase makes the schema under another name and renames it, so that a crash on the way leaves no half schema.
func createDatabase(ctx context.Context, file string) error {
	fresh := file + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove half made Temporal database: %w", err)
	}
	store := sqliteStore(fresh)
	// No journal: what is not renamed is thrown away.
	store.ConnectAttributes["journal_mode"], store.ConnectAttributes["synchronous"] = "off", "0"
	if err := sqlite.SetupSchema(store); err != nil {
		return fmt.Errorf("create Temporal schema: %w", err)
	}
	if err := fewIndexes(ctx, fresh); err != nil {
		return fmt.Errorf("create Temporal schema: %w", err)
	}
	if err := os.Rename(fresh, file); err != nil {
		return fmt.Errorf("create Temporal database: %w", err)
	}
	return nil
}

// fewIndexes leaves the list of workflows the indexes that people ask by: of all workflows, the newest first, one workflow, those in a status, and those with a
// keyword. Temporal has an index for every column there might ever be something in, more than sixty, and the code to write all of them was made
// anew for each workflow at each change. What has none is found as well, by reading the list.
func fewIndexes(ctx context.Context, file string) (err error) {
	db, err := sql.Open("sqlite", "file:"+uriPath(file))
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	db.SetMaxOpenConns(1)
	changes, err := indexChanges(ctx, db)
	if err != nil {
		return fmt.Errorf("look at the indexes of %s: %w", file, err)
	}
	for _, statement := range append([]string{"PRAGMA journal_mode=off", "PRAGMA synchronous=0"}, changes...) {
		if _, err := db.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("%s: %w", statement, err)
		}
	}
	return nil
}

// keywordIndex names those of columns for search attributes that are keywords. In which of them which attribute is, the server draws. They leave out the
// rows that have nothing there; who looks for a value finds it by the index all the same: SQLite knows that what equals a value is not null.
var keywordIndex = regexp.MustCompile(`^by_keyword_(\d+)$`)

// indexChanges are the statements that leave few.
func indexChanges(ctx context.Context, db *sql.DB) (statements []string, err error) {
	rows, err := db.QueryContext(ctx, "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND tbl_name = 'executions_visibility' AND sql IS NOT NULL")
	if err != nil {
		return nil, err //nolint:wrapcheck // the caller says of what
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var index, definition string
		if err := rows.Scan(&index, &definition); err != nil {
			return nil, err //nolint:wrapcheck // see above
		}
		keyword := keywordIndex.FindStringSubmatch(index)
		switch {
		case slices.Contains([]string{"default_idx", "by_workflow_id", "by_status", "by_temporal_namespace_division"}, index):
			// As it is. All workflows are looked for by "TemporalNamespaceDivision IS NULL".
		case keyword != nil:
			statements = append(statements, "DROP INDEX "+index, definition+" WHERE Keyword"+keyword[1]+" IS NOT NULL")
		default:
			statements = append(statements, "DROP INDEX "+index)
		}
	}
	return statements, rows.Err() //nolint:wrapcheck // see above
}

// prepareNamespace waits until the namespace answers and adds the search attributes an old data folder lacks.
func (t *temporalServer) prepareNamespace(ctx context.Context, cfg Config) error {
	ctx, cancel := context.WithTimeout(ctx, temporalReady)
	defer cancel()
	c, err := client.NewLazyClient(client.Options{
		HostPort: t.address, Namespace: cfg.Namespace, Logger: sdklog.NewStructuredLogger(t.log),
	})
	if err != nil {
		return fmt.Errorf("create Temporal client: %w", err)
	}
	defer c.Close()
	describe := &workflowservice.DescribeNamespaceRequest{Namespace: cfg.Namespace}
	err = poll(ctx, func() error {
		_, err := c.WorkflowService().DescribeNamespace(ctx, describe)
		return err
	})
	if err != nil {
		return fmt.Errorf("wait for Temporal namespace %s: %w", cfg.Namespace, err)
	}
	return t.addSearchAttributes(ctx, c, cfg)
}

// addSearchAttributes adds what is missing and waits until every service of the server can use it.
func (t *temporalServer) addSearchAttributes(ctx context.Context, c client.Client, cfg Config) error {
	missing, err := missingAttributes(ctx, c, cfg)
	if err != nil || len(missing) == 0 {
		return err
	}
	_, err = c.OperatorService().AddSearchAttributes(ctx, &operatorservice.AddSearchAttributesRequest{
		Namespace: cfg.Namespace, SearchAttributes: missing,
	})
	if err != nil {
		return fmt.Errorf("add search attributes to namespace %s: %w", cfg.Namespace, err)
	}
	for name := range missing {
		query := &workflowservice.CountWorkflowExecutionsRequest{Namespace: cfg.Namespace, Query: name + " IS NOT NULL"}
		err := poll(ctx, func() error {
			_, err := c.WorkflowService().CountWorkflowExecutions(ctx, query)
			return err
		})
		if err != nil {
			return fmt.Errorf("wait for search attribute %s: %w", name, err)
		}
	}
	// The frontend knows them now; the history service has a cache of its own, refreshed as often.
	pause(ctx, 2*namespaceRefresh)
	return ctx.Err()
}

// missingAttributes compares what the namespace has with what is asked for.
func missingAttributes(
	ctx context.Context, c client.Client, cfg Config,
) (map[string]enumspb.IndexedValueType, error) {
	list, err := c.OperatorService().ListSearchAttributes(ctx, &operatorservice.ListSearchAttributesRequest{
		Namespace: cfg.Namespace,
	})
	if err != nil {
		return nil, fmt.Errorf("list search attributes of namespace %s: %w", cfg.Namespace, err)
	}
	missing := maps.Clone(cfg.SearchAttributes)
	for name, asked := range cfg.SearchAttributes {
		found, ok := list.GetCustomAttributes()[name]
		if ok && found != asked {
			return nil, fmt.Errorf("use search attribute %s: the data folder has it as %s, not as %s: choose another "+
				"folder with --data DIR, or use --ephemeral", name, found, asked)
		}
		if ok {
			delete(missing, name)
		}
	}
	return missing, nil
}

// poll calls try until it succeeds, and returns its last error when the context ends.
func poll(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		if !pause(ctx, namespacePoll) {
			return err
		}
	}
}
