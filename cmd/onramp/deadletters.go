package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
	"github.com/onramphq/onramp/segment"
)

type lettersCommand struct {
	List  deadlettersList  `cmd:"" help:"List the messages that were refused for good and that nobody has settled."`
	Show  deadlettersShow  `cmd:"" help:"Show one of them with everything that is known of it."`
	Retry deadlettersRetry `cmd:"" help:"Send messages in again, once what was in their way is mended."`
	Drop  deadlettersDrop  `cmd:"" help:"Take messages off the list for good."`
}

// Help is shown by onramp deadletters --help.
func (*lettersCommand) Help() string {
	return "Examples:\n\n  onramp deadletters list --since 24h\n  onramp deadletters show 7 --payload\n" +
		"  onramp deadletters retry --reason undeliverable\n  onramp deadletters drop 7 --why \"test traffic\""
}

// since is a moment on the command line, or how long ago it was.
type since struct{ moment }

// UnmarshalText reads what moment reads, and spans such as 90m, 24h or 7d.
func (s *since) UnmarshalText(text []byte) error {
	if span, err := segment.ParseDuration(string(text)); err == nil {
		s.Time = time.Now().Add(-span)
		return nil
	}
	if err := s.moment.UnmarshalText(text); err != nil {
		return fmt.Errorf("%w, and no span such as 90m, 24h or 7d", err)
	}
	return nil
}

// openDeadLetters connects to NATS alone and makes nothing there.
func (f *natsFlags) openDeadLetters(ctx context.Context, logger *slog.Logger) (*ingest.DeadLetters, func(), error) {
	e := &engine{logger: logger, servers: servers{NATSURL: f.NATSURL, NATSCreds: f.NATSCreds}}
	if err := e.connectNATS(ctx); err != nil {
		return nil, nil, err
	}
	return ingest.NewDeadLetters(e.js, f.key(), logger), e.close, nil
}

type deadlettersList struct {
	natsFlags

	Reason []schema.Reason `help:"Only those with this reason; several with commas."`
	Since  since           `help:"Only those written off since a moment, or for so long: 24h, 7d."`
	Limit  int             `default:"50" help:"Show so many of the oldest; 0 for all."`
	JSON   bool            `name:"json" help:"Print one JSON document."`
}

// letterList is what list prints.
type letterList struct {
	Letters  []ingest.Letter       `json:"letters"` // as many as were asked for, oldest first
	Total    int                   `json:"total"`
	ByReason map[schema.Reason]int `json:"by_reason"`
}

// Run lists.
func (c *deadlettersList) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	letters, stop, err := c.openDeadLetters(ctx, logger)
	if err != nil {
		return err
	}
	defer stop()
	list := letterList{Letters: []ingest.Letter{}, ByReason: make(map[schema.Reason]int)}
	err = letters.Each(ctx, c.Since.Time, func(l ingest.Letter) error {
		if len(c.Reason) > 0 && !slices.Contains(c.Reason, l.Reason) {
			return nil
		}
		list.Total++
		list.ByReason[l.Reason]++
		if c.Limit == 0 || len(list.Letters) < c.Limit {
			l.Payload = nil // only its user was of interest
			list.Letters = append(list.Letters, l)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return writeJSON(io.out, list)
	}
	return list.print(io)
}

func (l *letterList) print(io stdio) error {
	if l.Total == 0 {
		say(io.out, "no dead letters\n")
		return nil
	}
	table := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	say(table, "LETTER\tWHEN\tREASON\tFROM\tTRIES\tUSER\tWHAT\n")
	for i := range l.Letters {
		one := &l.Letters[i]
		say(table, "%d\t%s\t%s\t%s\t%d\t%s\t%s\n", one.Sequence, one.At.Format("2006-01-02 15:04:05"), schema.Clean(string(one.Reason)),
			place(one), one.Attempts, cmp.Or(one.UserToken, "—"), line(strings.TrimPrefix(one.Message, string(one.Reason)+": ")))
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	reasons := make([]string, 0, len(l.ByReason))
	for reason, n := range l.ByReason {
		reasons = append(reasons, fmt.Sprintf("%d %s", n, schema.Clean(string(reason))))
	}
	slices.Sort(reasons)
	say(io.out, "\n%d of %d shown: %s\n", len(l.Letters), l.Total, strings.Join(reasons, ", "))
	return nil
}

// place is where a message was refused from.
func place(l *ingest.Letter) string {
	return fmt.Sprintf("%s %d", cmp.Or(schema.Clean(l.Stream), "?"), l.Original.Sequence)
}

// lineWidth is how much of a letter's message the list shows.
const lineWidth = 80

// line makes one line of a message, however it came into the stream.
func line(text string) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > lineWidth {
		return string(runes[:lineWidth-1]) + "…"
	}
	return text
}

type deadlettersShow struct {
	natsFlags

	Sequence uint64 `arg:"" name:"letter" help:"Its number in the list."`
	Payload  bool   `help:"Show the message itself too. It may hold personal data."`
	JSON     bool   `name:"json" help:"Print one JSON document."`
}

// shownLetter is what show prints.
type shownLetter struct {
	ingest.Letter

	Cut     bool    `json:"cut"`               // the letter holds only the beginning of the message
	Bytes   int     `json:"bytes"`             // of the message, as far as the letter holds it
	Payload *string `json:"payload,omitempty"` // as text, where it was asked for and is text
	Raw     []byte  `json:"payload_base64,omitempty"`
}

// Run shows one letter.
func (c *deadlettersShow) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	letters, stop, err := c.openDeadLetters(ctx, logger)
	if err != nil {
		return err
	}
	defer stop()
	letter, err := letters.Get(ctx, c.Sequence)
	if err != nil {
		return err
	}
	shown := shownLetter{Letter: letter, Cut: letter.Cut(), Bytes: len(letter.Payload)}
	switch {
	case !c.Payload:
	case utf8.Valid(letter.Payload):
		shown.Payload = new(string(letter.Payload))
	default:
		shown.Raw = letter.Payload
	}
	if c.JSON {
		return writeJSON(io.out, shown)
	}
	return shown.print(io)
}

func (s *shownLetter) print(io stdio) error {
	table := tabwriter.NewWriter(io.out, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"Letter", strconv.FormatUint(s.Sequence, 10)},
		{"Written off", stampOf(s.At)},
		{"Reason", line(string(s.Reason))},
		{"", s.Message},
		{"From", place(&s.Letter)},
		{"Published on", s.Subject},
		{"Message id", s.MessageID},
		{"Received", stampOf(s.ReceivedAt)},
		{"Consumer", s.Consumer},
		{"Tries", strconv.FormatUint(s.Attempts, 10)},
		{"User", s.UserToken},
		{"Event id", s.EventID},
		{"First received", stampOf(s.FirstReceived)},
		{"Sent in again from", numberOf(s.RetryOf)},
		{"SHA-256", s.SHA256},
		{"Size", sizeOf(s)},
	} {
		if row[1] != "" {
			say(table, "%s\t%s\n", row[0], line(row[1]))
		}
	}
	if err := table.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	switch {
	case s.Payload != nil:
		say(io.out, "\n%s\n", *s.Payload)
	case s.Raw != nil:
		say(io.out, "\n%q\n", s.Raw)
	}
	return nil
}

func sizeOf(s *shownLetter) string {
	if s.Cut {
		return fmt.Sprintf("%d bytes of it are kept", s.Bytes)
	}
	return fmt.Sprintf("%d bytes", s.Bytes)
}

func stampOf(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.Format("2006-01-02 15:04:05.000 MST")
}

func numberOf(n uint64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint("dead letter ", n)
}

// chosen names letters one by one, or all of a reason.
type chosen struct {
	natsFlags

	Letters []uint64        `arg:"" optional:"" name:"letter" help:"Numbers in the list."`
	Reason  []schema.Reason `help:"All with this reason; several with commas."`
	Yes     bool            `short:"y" help:"Do not ask."`
	JSON    bool            `name:"json" help:"Print one JSON document."`
}

// settledLetter is what became of one letter.
type settledLetter struct {
	Sequence    uint64 `json:"sequence"`
	NewSequence uint64 `json:"new_sequence,omitempty"` // of the message that was sent in again
	Error       string `json:"error,omitempty"`
}

// settlement is what became of all.
type settlement struct {
	Settled []settledLetter `json:"settled"`
	Failed  []settledLetter `json:"failed"`
}

// each does one thing to every chosen letter, in their order in the stream, and goes on where one fails.
func (c *chosen) each(ctx context.Context, io stdio, logger *slog.Logger, verb string, do func(*ingest.DeadLetters, uint64) (uint64, error)) error {
	if (len(c.Letters) == 0) == (len(c.Reason) == 0) {
		return usagef("say which: numbers from onramp deadletters list, or --reason")
	}
	if !c.Yes && !isTerminal(io.in) {
		return usagef("there is nobody to ask: add --yes")
	}
	letters, stop, err := c.openDeadLetters(ctx, logger)
	if err != nil {
		return err
	}
	defer stop()
	sequences, err := c.sequences(ctx, letters)
	if err != nil {
		return err
	}
	if len(sequences) > 0 && !c.Yes && !agreed(io, fmt.Sprintf("%s %d dead letters?", verb, len(sequences))) {
		return errors.New("nothing was changed")
	}
	result := settlement{Settled: []settledLetter{}, Failed: []settledLetter{}}
	show := newProgress(io.err, strings.ToLower(verb), int64(len(sequences)))
	for n, sequence := range sequences {
		moved, err := do(letters, sequence)
		if err != nil {
			result.Failed = append(result.Failed, settledLetter{Sequence: sequence, Error: err.Error()})
		} else {
			result.Settled = append(result.Settled, settledLetter{Sequence: sequence, NewSequence: moved})
		}
		show.set(int64(n + 1))
	}
	show.done()
	return result.print(io, c.JSON)
}

func (c *chosen) sequences(ctx context.Context, letters *ingest.DeadLetters) ([]uint64, error) {
	if len(c.Letters) > 0 {
		slices.Sort(c.Letters)
		return slices.Compact(c.Letters), nil
	}
	var all []uint64
	err := letters.Each(ctx, time.Time{}, func(l ingest.Letter) error {
		if slices.Contains(c.Reason, l.Reason) {
			all = append(all, l.Sequence)
		}
		return nil
	})
	return all, err
}

func (s *settlement) print(io stdio, asJSON bool) error {
	if asJSON {
		if err := writeJSON(io.out, s); err != nil {
			return err
		}
	} else {
		for _, one := range s.Settled {
			if one.NewSequence != 0 {
				say(io.out, "%d is %d now\n", one.Sequence, one.NewSequence)
			}
		}
		say(io.out, "%d settled, %d not\n", len(s.Settled), len(s.Failed))
	}
	if len(s.Failed) == 0 {
		return nil
	}
	for _, one := range s.Failed {
		say(io.err, "%s\n", one.Error)
	}
	return fmt.Errorf("%d dead letters were left as they are", len(s.Failed))
}

type deadlettersRetry struct{ chosen }

// Run sends letters in again.
func (c *deadlettersRetry) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	return c.each(ctx, io, logger, "Send in again", func(letters *ingest.DeadLetters, sequence uint64) (uint64, error) {
		return letters.Retry(ctx, sequence)
	})
}

type deadlettersDrop struct {
	chosen

	Why string `required:"" help:"The reason, for the log."`
}

// Run drops letters.
func (c *deadlettersDrop) Run(ctx context.Context, io stdio, logger *slog.Logger) error {
	return c.each(ctx, io, logger, "Drop", func(letters *ingest.DeadLetters, sequence uint64) (uint64, error) {
		return 0, letters.Drop(ctx, sequence, c.Why)
	})
}

// agreed asks a person.
func agreed(io stdio, question string) bool {
	say(io.out, "%s [y/N] ", question)
	answer, err := bufio.NewReader(io.in).ReadString('\n')
	return err == nil && strings.HasPrefix(strings.ToLower(strings.TrimSpace(answer)), "y")
}
