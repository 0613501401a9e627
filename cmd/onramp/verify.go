package main

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/onramphq/onramp/internal/verify"
	"github.com/onramphq/onramp/outcome"
	"github.com/onramphq/onramp/schema"
)

type verifyCommand struct {
	natsFlags
	clickhouseFlags
	temporalFlags

	User string `help:"Only this user, by raw id or by token."`
	JSON bool   `name:"json" help:"Print one JSON document."`
}

// Help is shown by onramp verify --help.
func (*verifyCommand) Help() string {
	return "Examples:\n\n  onramp verify\n  onramp verify --user u42\n\n" +
		"Reads the event stream from its beginning, the archive, the outcomes, the profiles and the state of every user's workflow, works out every user again from the log alone, and says what differs. " +
		"It changes nothing, and the engine may be running: what is on its way is left out. Ends with exit code 1 where something differs."
}

// verified is what verify found.
type verified struct {
	Users       int                 `json:"users"`
	Events      int                 `json:"events"`      // judged
	Outcomes    int                 `json:"outcomes"`    // on record
	Differences int                 `json:"differences"` // how many
	Found       []verify.Difference `json:"found"`       // the first of them, at most foundKept
	Refused     int                 `json:"refused"`     // messages of ONRAMP_EVENTS that are no events
	InFlight    int                 `json:"in_flight"`   // events that nobody has settled yet: not judged
	Unjudged    []unjudged          `json:"unjudged"`    // users whose workflow could not be compared with the log
	Trusted     int                 `json:"trusted"`     // events of which only the workflow itself says whether they were for it
	StoredTwice outcome.Copies      `json:"stored_twice"`
	Settled     verify.Settled      `json:"settled"` // up to where
	Seconds     float64             `json:"seconds"`
}

type unjudged struct {
	User string `json:"user"`
	Why  string `json:"why"`
}

// foundKept bounds the differences that are kept, foundShown those that a person is shown.
const (
	foundKept  = 10_000
	foundShown = 50
)

func (v *verified) add(differences ...verify.Difference) {
	v.Differences += len(differences)
	v.Found = append(v.Found, differences[:min(len(differences), foundKept-len(v.Found))]...)
}

// Run verifies.
func (c *verifyCommand) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	e := &engine{logger: logger, servers: c.servers()}
	e.servers.NATSURL, e.servers.NATSCreds = c.NATSURL, c.NATSCreds
	e.servers.TemporalAddress, e.servers.TemporalNamespace = c.TemporalAddress, c.TemporalNamespace
	defer e.close()
	for _, open := range []func(context.Context) error{e.connectNATS, e.dialTemporal, e.openStore} {
		if err := open(ctx); err != nil {
			return err
		}
	}
	began := time.Now()
	result, err := verifyEngine(ctx, e, c.key(), tokenOf(c.key(), c.User), io)
	if err != nil {
		return err
	}
	result.Seconds = time.Since(began).Seconds()
	if c.JSON {
		err = writeJSON(io.out, result)
	} else {
		err = result.print(io)
	}
	if err == nil && result.Differences > 0 {
		err = fmt.Errorf("%d differences", result.Differences)
	}
	return err
}

// verifyEngine judges every user of a running engine, or only the one of a token.
func verifyEngine(ctx context.Context, e *engine, key []byte, only string, io stdio) (*verified, error) {
	if err := e.readLibrary(ctx); err != nil {
		return nil, err
	}
	v := &verifier{
		engine: e, key: key, only: only, io: io, letters: verify.Letters{},
		result: &verified{Found: []verify.Difference{}, Unjudged: []unjudged{}},
	}
	v.inputs = verify.Inputs{Books: e.library, Letters: v.letters}
	var err error
	if v.inputs.Stored, err = e.library.Stored(ctx); err != nil {
		return nil, err
	}
	if err := v.begin(ctx); err != nil {
		return nil, err
	}
	defer v.parts.close()
	if err := v.judge(ctx); err != nil {
		return nil, err
	}
	if v.result.StoredTwice, err = e.store.StoredTwice(ctx); err != nil {
		return nil, err
	}
	return v.result, nil
}

func (v *verified) print(io stdio) error {
	if len(v.Found) > 0 {
		table := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
		say(table, "USER\tFIELD\tWHAT\tABOUT\tSHOULD BE\tIS\n")
		for _, d := range v.Found[:min(len(v.Found), foundShown)] {
			about := d.Subject
			if d.Sequence != 0 {
				about = strings.TrimSpace(fmt.Sprintf("%s at %d", about, d.Sequence))
			}
			say(table, "%s\t%s\t%s\t%s\t%s\t%s\n", dash(d.User), d.Field, d.What, line(dash(about)), line(dash(d.Want)), line(dash(d.Got)))
		}
		if err := table.Flush(); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		if more := v.Differences - min(len(v.Found), foundShown); more > 0 {
			say(io.out, "and %d more: --json\n", more)
		}
		say(io.out, "\n")
	}
	say(io.out, "%d users, %d events, %d outcomes in %.1f s: %d differences\n", v.Users, v.Events, v.Outcomes, v.Seconds, v.Differences)
	v.printNotes(io)
	return nil
}

// printNotes says what was not judged, and what is no difference and may be asked about.
func (v *verified) printNotes(io stdio) {
	if v.InFlight > 0 {
		say(io.out, "%d events are on their way and were not judged\n", v.InFlight)
	}
	why := make(map[string]int)
	for _, u := range v.Unjudged {
		why[u.Why]++
	}
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		say(io.out, "%d users could not be judged, only their archive and outcomes: %s\n", why[reason], unjudgedWords(reason))
	}
	if v.Trusted > 0 {
		say(io.out, "%d events were judged by what the workflows say of them: playbooks disagree on who reads them\n", v.Trusted)
	}
	if v.Refused > 0 {
		say(io.out, "%d messages are no events; each is a dead letter, or told above\n", v.Refused)
	}
	if n := v.StoredTwice.Events + v.StoredTwice.Outcomes; n > 0 {
		say(io.out, "%d rows are stored more than once and counted once\n", n)
	}
}

func unjudgedWords(reason string) string {
	switch reason {
	case verify.UnjudgedVersions:
		return "the workflow no longer knows all playbooks it lived under"
	case verify.UnjudgedPlaces:
		return "outcomes of theirs were recorded by a release that did not note between which events"
	case verify.UnjudgedPlaybook:
		return "a playbook they lived under is not stored any more"
	case verify.UnjudgedReading:
		return "playbooks disagree on whether an old event of theirs was read"
	case verify.UnjudgedNoWorkflow:
		return "they have no workflow, and playbooks disagree on whether they should"
	case verify.UnjudgedBusy:
		return "their workflows did not answer in time; ask again when the engine is less busy"
	case verify.UnjudgedRestless:
		return "time alone changes something without end"
	}
	return reason
}

func dash(text string) string {
	if text == "" {
		return "—"
	}
	return schema.Clean(text)
}
