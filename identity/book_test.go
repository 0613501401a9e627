package identity_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/schema"
)

var key = []byte("a key of at least sixteen bytes")

func token(id string) string { return schema.UserToken(key, id) }

func event(seq uint64, user, anonymous, previous string) *schema.Received {
	name := "seen"
	if previous != "" {
		name = schema.AliasEvent
	}
	return &schema.Received{
		Event:    schema.Event{EventName: name, UserID: user, AnonymousID: anonymous, PreviousID: previous},
		Sequence: seq, ReceivedAt: time.UnixMilli(int64(seq)),
	}
}

// rule rules on an event that is not refused.
func rule(t *testing.T, b *identity.Book, e *schema.Received) identity.Ruling {
	t.Helper()
	r, err := b.Rule(key, e)
	require.NoError(t, err)
	return r
}

func TestVisitorBecomesUser(t *testing.T) {
	t.Parallel()
	var b identity.Book
	require.Equal(t, identity.Ruling{User: token("visitor"), UserID: "visitor"}, rule(t, &b, event(1, "visitor", "", "")))
	r := rule(t, &b, event(2, "ann", "visitor", ""))
	require.Equal(t, &identity.Link{From: token("visitor"), Into: token("ann"), Sequence: 2, At: 2, UserID: "ann"}, r.Link)
	require.Equal(t, token("ann"), r.User)
	require.Nil(t, rule(t, &b, event(3, "ann", "visitor", "")).Link, "once is enough")
	r = rule(t, &b, event(4, "visitor", "", ""))
	require.Equal(t, token("ann"), r.User)
	require.Equal(t, "ann", r.UserID)
	require.Equal(t, identity.Ruling{User: token("same"), UserID: "same"}, rule(t, &b, event(5, "same", "same", "")))
}

func TestSharedBrowser(t *testing.T) {
	t.Parallel()
	var b identity.Book
	rule(t, &b, event(1, "ann", "browser", ""))
	r := rule(t, &b, event(2, "ben", "browser", ""))
	require.Nil(t, r.Link, "the first link stands")
	require.Equal(t, token("ben"), r.User)
	require.Equal(t, &identity.Link{From: token("ben"), Sequence: 2, At: 2}, r.Known)
	require.Nil(t, rule(t, &b, event(3, "cleo", "ben", "")).Link, "who stood beside a visitor is known")
	require.Nil(t, rule(t, &b, event(4, "cleo", "ann", "")).Link, "and so is who took one over")
	require.NotNil(t, rule(t, &b, event(5, "cleo", "", "ben")).Link, "but for an alias")
	require.Equal(t, token("cleo"), rule(t, &b, event(6, "ben", "", "")).User)
	require.Equal(t, token("ann"), rule(t, &b, event(7, "browser", "", "")).User)
}

func TestCycles(t *testing.T) {
	t.Parallel()
	var b identity.Book
	rule(t, &b, event(1, "b", "", "a"))
	rule(t, &b, event(2, "c", "", "b"))
	require.Equal(t, token("c"), rule(t, &b, event(3, "a", "", "")).User)
	_, err := b.Rule(key, event(4, "a", "", "c"))
	rejection, ok := err.(*schema.Rejection) //nolint:errorlint // it is returned as it is
	require.True(t, ok, "%v", err)
	require.Equal(t, schema.ReasonMergeCycle, rejection.Reason)
	require.Nil(t, rule(t, &b, event(5, "c", "", "a")).Link, "again")
	_, err = b.Rule(key, event(6, "b", "", "c"))
	require.Error(t, err)
	require.Nil(t, rule(t, &b, event(7, "a", "c", "")).Link, "no alias, no refusal")
}

func TestMergesAreBounded(t *testing.T) {
	t.Parallel()
	var b identity.Book
	linked := 0
	for n := range uint64(10_000) {
		if rule(t, &b, event(n+1, "shared", fmt.Sprint("visitor-", n), "")).Link != nil {
			linked++
		}
	}
	require.Equal(t, identity.MaxMerged, linked)
	_, err := b.Rule(key, event(10_001, "shared", "", "one more"))
	require.ErrorContains(t, err, string(schema.ReasonMergeLimit))
	_, err = b.Rule(key, event(10_002, "another", "", "shared"))
	require.ErrorContains(t, err, string(schema.ReasonMergeLimit), "with all who were merged before")
}

// TestReaderBeginsAgain: whoever reads a stream again from somewhere, with the links of all of it or of any part at hand, rules as the first
// time.
func TestReaderBeginsAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		name := func() string { return fmt.Sprint("u", random.IntN(8)) }
		var events []*schema.Received
		for seq := range uint64(60) {
			e := event(seq+1, name(), "", "")
			switch random.IntN(6) {
			case 0, 1:
				e = event(seq+1, name(), "a"+name(), "")
			case 2:
				if e = event(seq+1, name(), "", name()); e.PreviousID == e.UserID {
					continue
				}
			case 3:
				e = event(seq+1, "a"+name(), "", "")
			}
			events = append(events, e)
		}
		type verdict struct {
			identity.Ruling

			err string
		}
		var first identity.Book
		verdicts, made := make([]verdict, len(events)), []identity.Link{}
		judge := func(b *identity.Book, e *schema.Received) verdict {
			r, err := b.Rule(key, e)
			if err != nil {
				return verdict{err: err.Error()}
			}
			return verdict{Ruling: r}
		}
		for i, e := range events {
			verdicts[i] = judge(&first, e)
			for _, l := range []*identity.Link{verdicts[i].Link, verdicts[i].Known} {
				if l != nil {
					made = append(made, *l)
				}
			}
		}
		from := rapid.IntRange(0, len(events)-1).Draw(t, "from")
		var again identity.Book
		for _, l := range made { // all before, and of those after as many as were written
			if l.Sequence < events[from].Sequence || random.IntN(2) == 0 {
				again.Add(l)
			}
		}
		for i := from; i < len(events); i++ {
			got := judge(&again, events[i])
			if got.Past {
				require.NotNil(t, verdicts[i].User)
				continue // it was handed over already
			}
			if got.Known == nil { // written already
				got.Known = verdicts[i].Known
			}
			require.Equal(t, verdicts[i], got, "event %d", events[i].Sequence)
		}
	})
}
