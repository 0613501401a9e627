package segment_test

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/segment"
)

func shop() segment.Plan {
	return segment.Plan{
		Events: map[string]segment.Properties{
			"order":    {"order_id": segment.String, "total": segment.Number, "items": segment.Int, "tags": segment.List},
			"refund":   {"order_id": segment.String, "total": segment.Int},
			"cart":     {"order_id": segment.String, "items": segment.Int},
			"login":    {},
			"checkout": {"items": segment.String},
		},
		Traits: segment.Properties{"timezone": segment.String},
		Zone:   segment.Zone{Trait: "timezone"},
	}
}

func TestFilterMatches(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, source string
		entry        []string
		event, same  map[string]any
		want         bool
	}{
		{"passes", `e.total > 10.0`, nil, map[string]any{"total": 10.5}, nil, true},
		{"whole numbers are numbers", `e.total > 10.0`, nil, map[string]any{"total": int64(11)}, nil, true},
		{"does not pass", `e.total > 10.0`, nil, map[string]any{"total": 10.0}, nil, false},
		{"missing", `e.total != 10.0`, nil, nil, nil, false},
		{"mistyped", `e.total != 10.0`, nil, map[string]any{"total": "11"}, nil, false},
		{"a side that decides makes up for one that is missing", `e.total > 1.0 || e.items == 2`, nil, map[string]any{"items": int64(2)}, nil, true},
		{"same", `e.order_id == same.order_id`, []string{"cart"}, map[string]any{"order_id": "x"}, map[string]any{"order_id": "x"}, true},
		{"not the same", `e.order_id == same.order_id`, []string{"cart"}, map[string]any{"order_id": "x"}, map[string]any{"order_id": "y"}, false},
		{"same is missing", `e.order_id == same.order_id`, []string{"cart"}, map[string]any{"order_id": "x"}, nil, false},
		{"same has been through JSON", `same.items == e.items`, []string{"cart"}, map[string]any{"items": int64(3)}, map[string]any{"items": 3.0}, true},
		{"a list", `"gift" in e.tags && e.tags.exists(t, t.startsWith("g"))`, nil, map[string]any{"tags": []any{"x", "gift"}}, nil, true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			f, problems := segment.NewSet(shop(), 1).CompileFilter(c.source, []string{"order"}, c.entry)
			require.Empty(t, problems)
			require.Equal(t, c.want, f.Match(c.event, c.same))
		})
	}
}

func TestFilterNamesWhatItReadsOfTheEntry(t *testing.T) {
	t.Parallel()
	f, problems := segment.NewSet(shop(), 1).CompileFilter(`e.order_id == same.order_id && same.items > 1 && same.items < 9`, []string{"order", "refund"}, []string{"cart", "order"})
	require.Empty(t, problems)
	require.Equal(t, []string{"items", "order_id"}, f.Same)
}

func TestFilterRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, source  string
		events, entry []string
		want          string
	}{
		{"empty", " ", []string{"order"}, nil, "1:1: the rule is empty"},
		{"syntax", "e.total >", []string{"order"}, nil, "1:"},
		{"unknown property", "true ||\n e.color == 'x'", []string{"order"}, nil, "2:2: undeclared reference to 'e.color'; the declared properties of order are: items, order_id, tags, total"},
		{"not on all", "e.items == 1", []string{"order", "refund"}, nil, "the events order, refund do not all declare items alike"},
		{"not alike on all", "e.total > 1.0", []string{"order", "refund"}, nil, "the events order, refund do not all declare total alike"},
		{"not alike on all entries", "e.items == same.items", []string{"order"}, []string{"cart", "checkout"}, "the events cart, checkout do not all declare items alike"},
		{"no entry", "e.order_id == same.order_id", []string{"order"}, nil, "only journeys know the event that let a user in"},
		{"the user's behavior", `did("order")`, []string{"order"}, nil, "undeclared reference to 'did'"},
		{"traits", `traits.timezone == "x"`, []string{"order"}, nil, "undeclared reference to 'traits"},
		{"not a truth", `e.total`, []string{"order"}, nil, "answers with double"},
		{"unknown event", `e.total > 1.0`, []string{"ordr"}, nil, `event "ordr" is not declared`},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, problems := segment.NewSet(shop(), 1).CompileFilter(c.source, c.events, c.entry)
			require.NotEmpty(t, problems)
			_, ok := errors.AsType[*segment.RuleError](problems[0])
			require.True(t, ok)
			require.Contains(t, errors.Join(problems...).Error(), c.want)
		})
	}
}

func TestZone(t *testing.T) {
	t.Parallel()
	tokyo, _ := segment.Location("Asia/Tokyo")
	withDefault := shop()
	withDefault.Zone.Default = tokyo
	for _, c := range []struct {
		name, traits string
		plan         segment.Plan
		want         string
	}{
		{"the trait's", `{"timezone":"Europe/Berlin"}`, withDefault, "Europe/Berlin"},
		{"no such zone", `{"timezone":"Europe/Nowhere"}`, withDefault, "Asia/Tokyo"},
		{"not a text", `{"timezone":5}`, withDefault, "Asia/Tokyo"},
		{"the machine's own is none", `{"timezone":"Local"}`, shop(), "UTC"},
		{"none", `{}`, withDefault, "Asia/Tokyo"},
		{"no default", `{}`, shop(), "UTC"},
		{"nothing declared", `{"timezone":"Europe/Berlin"}`, plan(), "UTC"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			set := segment.NewSet(c.plan, 1)
			var facts segment.Facts
			e := event("login", 1, "", c.traits)
			set.Apply(&facts, &e, segment.Done{})
			require.Equal(t, c.want, set.Zone(&facts).String())
		})
	}
	require.Equal(t, time.UTC, segment.NewSet(plan(), 1).Zone(&segment.Facts{}))
}
