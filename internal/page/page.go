package page

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/onramphq/onramp/backtest"
	"github.com/onramphq/onramp/playbook"
)

//go:embed page.html
var source string

// view is what the page shows.
type view struct {
	*backtest.Result

	Comparison *backtest.Comparison // with Old
	Journeys   []journeyView
	Segments   []segmentView
	Actions    []actionView
	Arms       []experimentView
	Tiles      []tile
	Period     string
	Axis       [3]string // first, middle and last day of the pictures
}

type tile struct{ Number, Label string }

type journeyView struct {
	backtest.Journey

	Description string
	Rows        []bar
	Ends        []bar
	Picture     template.HTML
}

type bar struct {
	Label   string
	Users   uint64
	Percent float64 // of the widest
	Kind    string  // class of the bar
}

type segmentView struct {
	backtest.Segment

	Description string
	Chart       template.HTML
}

type actionView struct {
	backtest.Action

	Chart  template.HTML
	Legend []legend
}

type legend struct {
	Color template.CSS
	Label string
	Users uint64
}

type experimentView struct {
	Key  string
	Arms []armView
}

type armView struct {
	backtest.Arm

	Rate float64 // percent
}

// Write writes the page of a comparison, or of one playbook's result where Old is nil. book is the playbook of New; its journeys
// are drawn with the users on them.
func Write(w io.Writer, book *playbook.Playbook, c *backtest.Comparison) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"digits": digits, "percent": percent, "what": what, "signed": signed, "time": stamp,
	}).Parse(source)
	if err != nil {
		return fmt.Errorf("parse page: %w", err)
	}
	if err := page.Execute(w, viewOf(book, c)); err != nil {
		return fmt.Errorf("write page: %w", err)
	}
	return nil
}

func viewOf(book *playbook.Playbook, c *backtest.Comparison) *view {
	r := c.New
	v := &view{Result: r, Period: stamp(r.From) + " – " + stamp(r.Until), Axis: axis(&r.Timeline)}
	if c.Old != nil {
		v.Comparison = c
	}
	var enrollments, decided, suppressed, converted uint64
	for _, j := range r.Journeys {
		enrollments, converted = enrollments+j.Enrollments, converted+j.Converted
		v.Journeys = append(v.Journeys, journeyOf(book, j))
	}
	for _, s := range r.Segments {
		v.Segments = append(v.Segments, segmentView{Segment: s, Description: description(book, s.Segment), Chart: area(r.Timeline.Segments[s.Segment], r.Timeline.Buckets)})
	}
	reasons := make(map[string]bool)
	for _, a := range r.Actions {
		for reason := range a.Reasons {
			reasons[reason] = true
		}
	}
	for _, a := range r.Actions {
		decided, suppressed = decided+a.Decided, suppressed+a.Suppressed
		v.Actions = append(v.Actions, actionOf(a, slices.Sorted(maps.Keys(reasons)), &r.Timeline))
	}
	for _, e := range r.Experiments {
		v.Arms = append(v.Arms, experimentOf(e))
	}
	v.Tiles = []tile{
		{digits(r.Users), "users"},
		{digits(r.Events), "events"},
		{digits(enrollments), "enrollments"},
		{digits(converted), "users who met a goal"},
		{digits(decided), "actions sent"},
		{digits(suppressed), "actions held back"},
	}
	return v
}

func description(book *playbook.Playbook, segment string) string {
	i := slices.IndexFunc(book.Segments, func(s playbook.Segment) bool { return s.Key == segment })
	if i < 0 {
		return ""
	}
	return book.Segments[i].Description
}

func journeyOf(book *playbook.Playbook, j backtest.Journey) journeyView {
	v := journeyView{Journey: j}
	counts := make(map[string]int)
	v.Rows = append(v.Rows, bar{"enrolled", j.Users, share(j.Users, j.Users), "enter"})
	for _, s := range j.Funnel {
		counts[s.Step] = int(s.Users) //nolint:gosec // a count of users
		v.Rows = append(v.Rows, bar{s.Step, s.Users, share(s.Users, j.Users), ""})
	}
	drawn := book.Journey(j.Journey)
	if drawn != nil && drawn.Goal != nil {
		v.Rows = append(v.Rows, bar{"converted", j.Converted, share(j.Converted, j.Users), "goal"})
	}
	for _, reason := range slices.Sorted(maps.Keys(j.Ended)) {
		v.Ends = append(v.Ends, bar{reason, j.Ended[reason], share(j.Ended[reason], j.Enrollments), ""})
	}
	if j.Open > 0 {
		v.Ends = append(v.Ends, bar{"still open", j.Open, share(j.Open, j.Enrollments), "enter"})
	}
	if drawn != nil {
		v.Description = drawn.Description
		v.Picture = template.HTML(book.JourneySVG(drawn, counts)) //nolint:gosec // drawn by us, its texts escaped
	}
	return v
}

// actionOf draws an action. reasons are those of all actions: one color for each, wherever it stands.
func actionOf(a backtest.Action, reasons []string, t *backtest.Timeline) actionView {
	v := actionView{Action: a}
	series := t.Actions[a.Action]
	stack := [][]int64{series[backtest.Decided]}
	v.Legend = append(v.Legend, legend{colorOf(0), "sent", a.Decided})
	for i, reason := range reasons {
		stack = append(stack, series[reason])
		if n := a.Reasons[reason]; n > 0 {
			v.Legend = append(v.Legend, legend{colorOf(i + 1), reason, n})
		}
	}
	v.Chart = columns(stack, t.Buckets)
	return v
}

func experimentOf(e backtest.Experiment) experimentView {
	v := experimentView{Key: e.Experiment}
	for _, a := range e.Arms {
		v.Arms = append(v.Arms, armView{a, share(a.Converted, a.Users)})
	}
	return v
}

func share(n, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return 100 * float64(n) / float64(of)
}

func what(c backtest.Change) string {
	switch c.What {
	case backtest.Enters:
		return "enters journey " + c.Key
	case backtest.Converts:
		return "converts in " + c.Key
	case backtest.Gets:
		return "gets " + c.Key
	case backtest.Suppressed:
		return c.Key + " held back: " + c.Reason
	case backtest.EverIn:
		return "was ever in segment " + c.Key
	default:
		return "is in segment " + c.Key
	}
}

func percent(f float64) string { return strconv.FormatFloat(f, 'f', 1, 64) + " %" }

func signed(n int64) string {
	if n < 0 {
		return "−" + digits(uint64(-n))
	}
	return digits(uint64(n))
}

// digits writes a number in groups of three digits.
func digits(n uint64) string {
	text := strconv.FormatUint(n, 10)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func stamp(at int64) string { return time.UnixMilli(at).UTC().Format("2 January 2006, 15:04 UTC") }

// axis labels the pictures: their first moment, their middle and their end.
func axis(t *backtest.Timeline) [3]string {
	layout := "2 Jan 2006"
	if t.BucketMS < 24*time.Hour.Milliseconds() {
		layout = "2 Jan 15:04"
	}
	at := func(bucket int) string {
		return time.UnixMilli(t.Start + int64(bucket)*t.BucketMS).UTC().Format(layout)
	}
	return [3]string{at(0), at(t.Buckets / 2), at(t.Buckets - 1)}
}
