package eventlog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/eventlog"
)

func TestReadJSONL(t *testing.T) {
	t.Parallel()
	const ok = `"user_id":"u1","event":"a","time":1700000000`
	nested := eventlog.Mapping{User: "context.user.id", Properties: []string{"properties.*"}, Traits: []string{"land=context.geo.country"}}
	cases := []struct {
		name, in string
		m        eventlog.Mapping
		want     []string
	}{
		{"empty", "", eventlog.Mapping{}, []string{}},
		{"byte order mark, blank lines, no line break at the end", "\xef\xbb\xbf\n {" + ok + "} \r\n \n{" + ok + "}", eventlog.Mapping{}, []string{"2 u1 a", "4 u1 a"}},
		{
			"nested fields", `{"context":{"user":{"id":"u9"},"geo":{"country":"DE"}},"event":"a","time":1700000000,"properties":{"plan":{"name":"pro","seats":[1,2]},"n":12345678901234567890}}`,
			nested,
			[]string{`1 u9 a {"plan":{"name":"pro","seats":[1,2]},"n":12345678901234567890} traits {"land":"DE"}`},
		},
		{
			"nested fields that are not there", `{"context":{"user":{"id":"u9"}},"event":"a","time":1700000000}` + "\n" +
				`{"context":"x","event":"a","time":1700000000}` + "\n" + `{"context":{"user":{"id":"u9"}},"event":"a","time":1700000000,"properties":null}` + "\n" +
				`{"context":{"user":{"id":"u9"}},"event":"a","time":1700000000,"properties":"x"}`,
			nested,
			[]string{"1 u9 a", "3 u9 a", "2 !missing_user", "4 !wrong_type"},
		},
		{"a name with dots comes first", `{` + ok + `,"a.b":1,"a":{"b":2}}`, eventlog.Mapping{Properties: []string{"a.b"}}, []string{`1 u1 a {"b":1}`}},
		{"all others", `{` + ok + `,"x":null,"y":[],"z":"<&>"}`, eventlog.Mapping{Properties: []string{"*"}}, []string{`1 u1 a {"x":null,"y":[],"z":"<&>"}`}},
		{
			"all others but traits", `{` + ok + `,"x":1,"traits":{"y":2}}`,
			eventlog.Mapping{Properties: []string{"*"}, Traits: []string{"traits.*"}},
			[]string{`1 u1 a {"x":1} traits {"y":2}`},
		},
		{"one name out of two objects", `{` + ok + `,"a":{"x":1},"b":{"x":2}}`, eventlog.Mapping{Properties: []string{"a.*", "b.*"}}, []string{"1 !duplicate_key"}},
		{"a whole number for an id", `{"user_id":12345678901234567890,"event":"a","time":1700000000}`, eventlog.Mapping{}, []string{"1 12345678901234567890 a"}},
		{
			"wrong types", `{"user_id":1.5,"event":"a","time":1700000000}` + "\n" + `{"user_id":{},"event":"a","time":1700000000}` + "\n" +
				`{"user_id":"u","event":true,"time":1700000000}` + "\n" + `{"user_id":"u","event":"a","time":[]}` + "\n" + `{"user_id":null,"event":"a","time":1700000000}`,
			eventlog.Mapping{},
			[]string{"1 !wrong_type", "2 !wrong_type", "3 !wrong_type", "4 !bad_timestamp", "5 !missing_user"},
		},
		{
			"time that a float64 spoilt", `{"user_id":"u","event":"a","time":1.538405774195002e18}` + "\n" + `{"user_id":"u","event":"a","time":1538405774.195}`,
			eventlog.Mapping{},
			[]string{"1 !bad_timestamp", "2 !bad_timestamp"},
		},
		{
			"not one object a line", `{` + ok + `}{}` + "\n" + `null` + "\n" + `[1]` + "\n" + `{` + ok + "\n" + `}` + "\n" + `{` + ok + `,}` + "\n" + `{` + ok + `}`,
			eventlog.Mapping{},
			[]string{"7 u1 a", "1 !trailing_data", "2 !not_an_object", "3 !not_an_object", "4 !malformed_json", "5 !malformed_json", "6 !malformed_json"},
		},
		{
			"names twice", `{` + ok + `,"user_id":"u2"}` + "\n" + `{` + ok + `,"unused":{"a":1,"a":2}}`,
			eventlog.Mapping{},
			[]string{"1 !duplicate_key", "2 !duplicate_key"},
		},
		{"broken text", "{" + ok + ",\"x\":\"\xff\"}\n{" + ok + `,"x":"\ud800"}`, eventlog.Mapping{}, []string{"1 !invalid_utf8", "2 !invalid_utf8"}},
		{
			"too deep", `{` + ok + `,"x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}` + "\n" + `{` + ok + `,"x":` + strings.Repeat("[", 20000) + strings.Repeat("]", 20000) + `}`,
			eventlog.Mapping{Properties: []string{"x"}},
			[]string{"1 !too_deep", "2 !too_deep"},
		},
		{"number out of range", `{` + ok + `,"x":1e400}`, eventlog.Mapping{Properties: []string{"x"}}, []string{"1 !number_range"}},
		{"event too large", `{` + ok + `,"x":[` + strings.Repeat(`"`+strings.Repeat("y", 30000)+`",`, 10) + `1]}`, eventlog.Mapping{Properties: []string{"x"}}, []string{"1 !too_large"}},
		{"long line", `{` + ok + `,"x":"` + strings.Repeat("y", 4<<20) + `"}` + "\n{" + ok + "}", eventlog.Mapping{}, []string{"2 u1 a", "1 !too_large"}},
		{"line at the limit", `{` + ok + `,"x":"` + strings.Repeat("y", eventlog.MaxLine-len(`{,"x":""}`)-len(ok)) + "\"}\r\n", eventlog.Mapping{}, []string{"1 u1 a"}},
		{"line one over the limit", `{` + ok + `,"x":"` + strings.Repeat("y", eventlog.MaxLine-len(`{,"x":""}`)-len(ok)+1) + "\"}\n", eventlog.Mapping{}, []string{"1 !too_large"}},
		{"escapes in names and ids", `{"\u0075ser_id":"\u0075\n1","event":"a","time":1700000000}`, eventlog.Mapping{}, []string{"1 !bad_id"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := readText(t, "log.jsonl", c.in, c.m)
			require.NoError(t, l.err)
			require.Equal(t, c.want, l.lines())
		})
	}
}

func TestReadJSONLRefusesFile(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, in string
		m        eventlog.Mapping
		want     string
	}{
		{"array", `[{"user_id":"u1"}]`, eventlog.Mapping{}, "line 1: it is one JSON document over all lines: write one object a line"},
		{"printed over lines", "{\n\"user_id\":1\n}", eventlog.Mapping{}, "line 1: it is one JSON document"},
		{"no known field", `{"uid":"u1","event":"a","ts":1}`, eventlog.Mapping{}, "columns are uid, event, ts; name it with --user"},
		{
			"two names alike", `{"user_id":"u1","event":"a","ts":1700000000}`,
			eventlog.Mapping{Properties: []string{"a.id", "b.id"}},
			`properties: two fields would be called "id": rename one with name=path`,
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			require.ErrorContains(t, readText(t, "log.json", c.in, c.m).err, c.want)
		})
	}
}
