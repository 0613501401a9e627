package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/playbook"
	"github.com/onramphq/onramp/schema"
)

type importCommand struct {
	Experiment string   `arg:"" help:"Key of the experiment in the playbook."`
	Files      []string `arg:"" help:"Event logs: CSV or JSON Lines, plain or gzip; - for standard input."`

	Playbook string `required:"" help:"Playbook that has the experiment and its metrics."`
	Variant  string `required:"" placeholder:"PROPERTY" help:"Property that says which variant the user met; the first event that has it is the exposure."`
	JSON     bool   `name:"json" help:"Print one JSON document."`

	mappingFlags
	clickhouseFlags

	WorkspaceKey string `env:"ONRAMP_WORKSPACE_KEY" help:"Secret that makes user tokens. Defaults to that of onramp dev."`
}

// Help is shown by onramp experiment import --help.
func (*importCommand) Help() string {
	return "Example: onramp experiment import gate cookie_cats.csv.gz --playbook examples/cookie-cats --mapping examples/cookie-cats/import/mapping.yaml --variant version\n\n" +
		"Loads an experiment that ran elsewhere into ClickHouse: its events into the archive, and who met which variant as exposures. No workflow runs and nobody is sent anything. Loaded twice, nothing is counted twice. `onramp results KEY --playbook …` reads it."
}

// imported is what an import did.
type imported struct {
	Experiment string            `json:"experiment"`
	Rows       int               `json:"rows"`
	Rejected   int               `json:"rejected"`
	Events     int               `json:"events"`
	Exposed    map[string]uint64 `json:"exposed"` // by variant
	Unexposed  int               `json:"unexposed"`
}

// Run loads the files.
func (c *importCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	book, err := compiledPlaybook(c.Playbook)
	if err != nil {
		return err
	}
	load, err := c.read(ctx, book, io)
	if err != nil {
		return err
	}
	if err := c.withStore(ctx, logger, load.into); err != nil {
		return err
	}
	return c.print(io, book.Experiments[c.Experiment], load)
}

// importing is what an import has read and is to write.
type importing struct {
	imported

	events    []outcome.ImportEvent
	exposures []outcome.ImportOutcome
	token     string
}

func (i *importing) into(ctx context.Context, store *outcome.Store) error {
	return store.Import(ctx, i.token, i.events, i.exposures)
}

// read reads the files. It writes nothing.
func (c *importCommand) read(ctx context.Context, book *playbook.Playbook, io stdio) (*importing, error) {
	if book.Experiments[c.Experiment] == nil {
		return nil, usagef("the playbook %s has no experiment %s", c.Playbook, schema.Clean(c.Experiment))
	}
	mapping, err := c.mapping()
	if err != nil {
		return nil, err
	}
	log, err := readEvents(ctx, c.Files, mapping, io, nil)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil, &usageError{err}
		}
		return nil, err
	}
	log.printRejects(io)
	return c.rows(book, log)
}

func (c *importCommand) print(io stdio, x *playbook.Experiment, load *importing) error {
	if c.JSON {
		return writeJSON(io.out, load.imported)
	}
	say(io.out, "%s events, %s users exposed to %s\n", digits(load.Events), digits(len(load.exposures)), c.Experiment)
	for _, v := range x.Variants {
		say(io.out, "  %-24s %12s\n", v.Key, digits(load.Exposed[v.Key]))
	}
	if load.Unexposed > 0 {
		say(io.out, "%d events have no %s: their users count only where another has\n", load.Unexposed, schema.Clean(c.Variant))
	}
	return nil
}

// rows turns records into what the archive and the outcomes hold.
func (c *importCommand) rows(book *playbook.Playbook, log *eventLog) (*importing, error) {
	key := []byte(cmp.Or(c.WorkspaceKey, embeddedKey))
	result := imported{Experiment: c.Experiment, Rows: log.counts.Rows, Rejected: log.counts.Rejects, Events: len(log.records), Exposed: map[string]uint64{}}
	details, err := importDetails(book.Experiments[c.Experiment])
	if err != nil {
		return nil, err
	}
	events := make([]outcome.ImportEvent, len(log.records))
	var exposures []outcome.ImportOutcome
	met := make(map[string]bool)
	for i := range log.records {
		e := &log.records[i].Event
		events[i] = outcome.ImportEvent{UserID: e.UserID, UserToken: schema.UserToken(key, e.UserID), UserEvent: schema.UserEvent{
			EventID: e.EventID, EventName: e.EventName, OccurredAt: e.OccurredAt.UnixMilli(), Properties: e.Properties, Traits: e.Traits,
		}}
		variant := textOf(e.Properties, c.Variant)
		if variant == "" {
			result.Unexposed++
			continue
		}
		token := events[i].UserToken
		if met[token+" "+variant] {
			continue
		}
		met[token+" "+variant] = true
		result.Exposed[variant]++
		exposures = append(exposures, outcome.ImportOutcome{Outcome: schema.Outcome{
			OutcomeID: schema.OutcomeID(schema.ExposureRecorded, token, c.Experiment, variant), Kind: schema.ExposureRecorded, UserToken: token,
			At: events[i].OccurredAt, RecordedAt: events[i].OccurredAt, CauseEventID: e.EventID, Playbook: book.Hash,
			Experiment: c.Experiment, Variant: variant, Details: details,
		}})
	}
	return &importing{imported: result, events: events, exposures: exposures, token: importToken(c.Experiment, log)}, nil
}

// importDetails say what the users are compared with, and that no hash of ours gave them their variants.
func importDetails(x *playbook.Experiment) (json.RawMessage, error) {
	weights, variants := map[string]float64{}, []string{}
	for _, v := range x.Variants {
		weights[v.Key] = v.Weight
		variants = append(variants, v.Key)
	}
	raw, err := json.Marshal(map[string]any{"weights": weights, "variants": variants, "coverage": 1, "source": "import", "segments": []string{}})
	if err != nil {
		return nil, fmt.Errorf("describe the experiment: %w", err)
	}
	return raw, nil
}

// textOf is a property as text; empty where it is missing or no text, number or yes-or-no.
func textOf(properties []byte, name string) string {
	var all map[string]any
	if json.Unmarshal(properties, &all) != nil {
		return ""
	}
	switch v := all[name].(type) {
	case string:
		return v
	case float64, bool:
		return fmt.Sprint(v)
	default:
		return ""
	}
}

// importToken names the content of an import, so that one that is repeated after a lost answer writes nothing.
func importToken(key string, log *eventLog) string {
	h := sha256.New()
	for i := range log.records {
		fmt.Fprintf(h, "%s\n", log.records[i].Event.EventID)
	}
	return "import:" + key + ":" + hex.EncodeToString(h.Sum(nil)[:8])
}
