package eventlog_test

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/internal/eventlog"
	"github.com/onramphq/onramp/schema"
)

func idsOf(records []eventlog.Record) []string {
	ids := make([]string, len(records))
	for i := range records {
		ids[i] = records[i].Event.EventID
	}
	return ids
}

func TestSort(t *testing.T) {
	t.Parallel()
	a := write(t, "z.csv", []byte("user_id,event,time\nu1,z2,1700000000000000002\nu1,z1,1700000000000000001\nu1,z3,1700000000000000002\n"))
	b := write(t, "a.csv", []byte("user_id,event,time\nu1,a1,1700000000000000002\nu1,a2,1700000000000000000\n"))
	l := readFiles(t, eventlog.Mapping{}, a, b)
	require.NoError(t, l.err)
	for range 20 {
		rand.Shuffle(len(l.records), func(i, j int) { l.records[i], l.records[j] = l.records[j], l.records[i] })
		eventlog.Sort(l.records)
		var names []string
		for _, r := range l.records {
			names = append(names, r.Event.EventName)
		}
		require.Equal(t, []string{"a2", "z1", "z2", "z3", "a1"}, names)
	}
}

func TestIdentifyKeepsIDs(t *testing.T) {
	t.Parallel()
	l := readText(t, "log.csv", "user_id,event,time,id\nu1,a,1700000000,e1\nu1,a,1700000000,\nu1,a,1700000000,e1\nu1,a,1700000000,\n", eventlog.Mapping{EventID: "id"})
	require.NoError(t, l.err)
	eventlog.Identify(l.records)
	ids := idsOf(l.records)
	require.Equal(t, []string{"e1", "e1"}, []string{ids[0], ids[2]})
	require.Equal(t, strings.TrimSuffix(ids[1], "-1"), strings.TrimSuffix(ids[3], "-2"))
	eventlog.Identify(l.records)
	require.Equal(t, ids, idsOf(l.records))
}

func TestIdentifyTellsApart(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700000000, 1).UTC()
	record := func(user, name string, at time.Time, properties string) eventlog.Record {
		return eventlog.Record{Event: schema.Event{UserID: user, EventName: name, Properties: []byte(properties)}, At: at}
	}
	same := []eventlog.Record{
		record("u", "a", at, `{"x":1,"y":"é"}`), record("u", "a", at, `{ "y":"\u00e9", "x":1 }`), record("u", "a", at.In(time.FixedZone("", 3600)), `{"y":"é","x":1}`),
	}
	eventlog.Identify(same)
	for i, id := range idsOf(same) {
		require.Equal(t, strings.TrimSuffix(same[0].Event.EventID, "1")+strconv.Itoa(i+1), id)
	}
	other := []eventlog.Record{
		record("u", "a", at, ``), record("u", "b", at, ``), record("ua", "", at, ``), record("", "ua", at, ``), record("v", "a", at, ``),
		record("u", "a", at.Add(1), ``), record("u", "a", at.AddDate(3000, 0, 0), ``), record("u", "a", at, `{"x":1}`), record("u", "a", at, `{"x":"1"}`),
		record("u", "a", at, `{"x":12345678901234567}`), record("u", "a", at, `{"x":12345678901234568}`),
	}
	eventlog.Identify(other)
	for _, id := range idsOf(other) {
		require.True(t, strings.HasSuffix(id, "-1"), id)
	}
	empty := []eventlog.Record{record("u", "a", at, ``), record("u", "a", at, `{}`)}
	eventlog.Identify(empty)
	require.True(t, strings.HasSuffix(empty[1].Event.EventID, "-2"))
}

func TestIdentifyProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		row := rapid.Custom(func(t *rapid.T) eventlog.Record {
			return eventlog.Record{
				Event: schema.Event{
					UserID: rapid.SampledFrom([]string{"u1", "u2"}).Draw(t, "user"), EventName: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
					Properties: []byte(rapid.SampledFrom([]string{"", `{"p":1,"q":2}`, `{"q":2,"p":1}`}).Draw(t, "properties")),
				},
				At: time.Unix(1700000000, rapid.Int64Range(0, 3).Draw(t, "ns")).UTC(),
			}
		})
		records := rapid.SliceOfN(row, 1, 40).Draw(t, "records")
		for i := range records {
			records[i].Line = i + 1
		}
		first := slices.Clone(records)
		eventlog.Sort(first)
		eventlog.Identify(first)
		ids := idsOf(first)
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(ids))), len(records), "ids are unique")
		for _, id := range ids {
			require.NotEmpty(t, id)
			require.LessOrEqual(t, len(id), schema.MaxEventID)
		}

		again := rapid.Permutation(records).Draw(t, "shuffled")
		eventlog.Sort(again)
		eventlog.Identify(again)
		require.Equal(t, first, again, "the order of arrival does not matter")

		late := rapid.IntRange(0, len(records)).Draw(t, "cut")
		shorter := slices.Clone(records[:late])
		eventlog.Sort(shorter)
		eventlog.Identify(shorter)
		byLine := map[int]string{}
		for _, r := range first {
			byLine[r.Line] = r.Event.EventID
		}
		for _, r := range shorter {
			require.Equal(t, byLine[r.Line], r.Event.EventID, "a log that grew keeps the ids of its beginning")
		}
	})
}
