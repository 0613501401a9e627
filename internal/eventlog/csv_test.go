package eventlog_test

import (
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/eventlog"
)

func TestReadCSV(t *testing.T) {
	t.Parallel()
	const header = "user_id,event,time,plan,note\n"
	all := eventlog.Mapping{Properties: []string{"*"}}
	cases := []struct {
		name, in string
		m        eventlog.Mapping
		want     []string
	}{
		{"header only", header, all, []string{}},
		{"byte order mark", "\xef\xbb\xbf" + header + "u1,a,1700000000,,\n", all, []string{"2 u1 a"}},
		{"no line break at the end", header + "u1,a,1700000000,,", all, []string{"2 u1 a"}},
		{"carriage returns", "user_id,event,time\r\nu1,a,1700000000\r\n\r\nu2,b,1700000000\r\n", all, []string{"2 u1 a", "4 u2 b"}},
		{"blank lines", "\n" + header + "\nu1,a,1700000000,,\n\n", all, []string{"4 u1 a"}},
		{"spaces around header names", " user_id , event, time\nu1,a, 1700000000\n", all, []string{"2 u1 a"}},
		{"quoted fields", header + `u1,"a, b",1700000000,"say ""hi""",` + "\n", all, []string{`2 u1 a, b {"plan":"say \"hi\""}`}},
		{
			"line numbers after quoted line breaks", header + "u1,a,1700000000,,\"one\ntwo\r\n\nfour\"\nu2,b\nu3,c,1700000000,,\n", all,
			[]string{`2 u1 a {"note":"one\ntwo\n\nfour"}`, "7 u3 c", "6 !ragged_row"},
		},
		{"ragged rows", header + "u1,a\nu2,b,1700000000,,,\nu3,c,1700000000,,\n", all, []string{"4 u3 c", "2 !ragged_row", "3 !ragged_row"}},
		{"ragged row over two lines is one", header + "u1,\"a\nb\"\nu3,c,1700000000,,\n", all, []string{"4 u3 c", "2 !ragged_row"}},
		{"bare quote", header + "u1,a\"b,1700000000,,\nu2,b,1700000000,,\n", all, []string{"3 u2 b", "2 !malformed_csv"}},
		{"text after a closing quote", header + "u1,\"a\"b,1700000000,,\nu2,b,1700000000,,\n", all, []string{"3 u2 b", "2 !malformed_csv"}},
		{
			"open quote to the end of the file", header + "u1,\"a,1700000000,,\nu2,b,1700000000,,\nu3,c,1700000000,,", all,
			[]string{"3 u2 b", "4 u3 c", "2 !malformed_csv"},
		},
		{
			"open quote to the next quote", header + "u1,\"a,1700000000,,\nu2,b,1700000000,,\nu3,\"c\",1700000000,,\n", all,
			[]string{"3 u2 b", "4 u3 c", "2 !malformed_csv"},
		},
		{"broken bytes", header + "u1,a,1700000000,\xff,\nu2,b,1700000000,,\n", all, []string{"3 u2 b", "2 !invalid_utf8"}},
		{
			"types", "user_id,event,time,a,b,c,d,e,f,g,h,i\nu,x,1700000000,42,-1.50,true,007,1e5,True,9223372036854775808,9223372036854775807,+1\n", all,
			[]string{`2 u x {"a":42,"b":-1.50,"c":true,"d":"007","e":"1e5","f":"True","g":"9223372036854775808","h":9223372036854775807,"i":"+1"}`},
		},
		{
			"numbers that are none", "user_id,event,time,a,b,c,d,e,f,g\nu,x,1700000000,.5,5.,-,1.2.3,NaN,0x10,0.0\n", all,
			[]string{`2 u x {"a":".5","b":"5.","c":"-","d":"1.2.3","e":"NaN","f":"0x10","g":0.0}`},
		},
		{
			"decimal beyond a float", "user_id,event,time,a,b\nu,x,1700000000," + strings.Repeat("9", 400) + ".5,0." + strings.Repeat("0", 400) + "1\n", all,
			[]string{`2 u x {"a":"` + strings.Repeat("9", 400) + `.5","b":"0.` + strings.Repeat("0", 400) + `1"}`},
		},
		{"empty is absent", header + "u1,a,1700000000,\"\",x\n", all, []string{`2 u1 a {"note":"x"}`}},
		{"none by default", header + "u1,a,1700000000,pro,x\n", eventlog.Mapping{}, []string{"2 u1 a"}},
		{"renamed column", header + "u1,a,1700000000,pro,x\n", eventlog.Mapping{Properties: []string{"tier=plan"}}, []string{`2 u1 a {"tier":"pro"}`}},
		{
			"all others, some renamed, some traits", "user_id,event,time,plan,note,country,\nu1,a,1700000000,pro,x,DE,7\n",
			eventlog.Mapping{Properties: []string{"tier=plan", "*"}, Traits: []string{"country"}},
			[]string{`2 u1 a {"tier":"pro","note":"x"} traits {"country":"DE"}`},
		},
		{"renamed event", header + "u1,a,1700000000,,\n", eventlog.Mapping{Rename: map[string]string{"a": "signed_up"}}, []string{"2 u1 signed_up"}},
		{"tabs", "user_id\tevent\ttime\nu,1\ta\t1700000000\n", eventlog.Mapping{Delimiter: `\t`}, []string{"2 u,1 a"}},
		{"a delimiter of two bytes", "user_id§event§time\nu1§\"a§b\"§1700000000\n", eventlog.Mapping{Delimiter: "§"}, []string{"2 u1 a§b"}},
		{
			"nobody", header + "undefined,a,1700000000,,\n,a,1700000000,,\n" + strings.Repeat("u", 257) + ",a,1700000000,,\nu\x01,a,1700000000,,\n", all,
			[]string{"2 !illegal_id", "3 !missing_user", "4 !id_too_long", "5 !bad_id"},
		},
		{"no event name", header + "u1,,1700000000,,\n", all, []string{"2 !bad_event_name"}},
		{"no time", header + "u1,a,,,\nu1,a,yesterday,,\n", all, []string{"2 !bad_timestamp", "3 !bad_timestamp"}},
		{"long value", header + "u1,a,1700000000," + strings.Repeat("x", 40000) + ",\n", all, []string{"2 !value_too_long"}},
		{
			"event ids", "user_id,event,time,id\nu1,a,1700000000,e1\nu1,a,1700000000,\nu1,a,1700000000," + strings.Repeat("e", 101) + "\n",
			eventlog.Mapping{EventID: "id"},
			[]string{"2 u1 a", "3 u1 a", "4 !bad_event_id"},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := readText(t, "log.csv", c.in, c.m)
			require.NoError(t, l.err)
			require.Equal(t, c.want, l.lines())
		})
	}
}

func TestReadCSVRefusesFile(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, in string
		m        eventlog.Mapping
		want     []string
	}{
		{"empty", "", eventlog.Mapping{}, []string{"log.csv: it is empty"}},
		{"no known column", "uid,what,when\n", eventlog.Mapping{}, []string{
			"no column for the user in FILE: columns are uid, what, when; name it with --user",
			"no column for the event name in FILE: columns are uid, what, when; name it with --event",
			"no column for the time in FILE: columns are uid, what, when; name it with --time",
		}},
		{"column that is not there", "user_id,event,time\n", eventlog.Mapping{User: "uid"}, []string{
			`no column "uid" for the user in FILE: columns are user_id, event, time; name it with --user`,
		}},
		{"property that is not there", "user_id,event,time\n", eventlog.Mapping{Properties: []string{"plan"}, EventID: "id"}, []string{
			`no column "id" in FILE: columns are user_id, event, time`, `no column "plan" in FILE`,
		}},
		{"column twice", "user_id,event,time,user_id\n", eventlog.Mapping{}, []string{`column "user_id" is there twice in the header of FILE`}},
		{"column twice by *", "user_id,event,time,a,a\n", eventlog.Mapping{Properties: []string{"*"}}, []string{`column "a" is there twice`}},
		{"wrong delimiter", "user_id;event;time\n", eventlog.Mapping{}, []string{`is the delimiter "," right? set it with --delimiter`}},
		{"broken header", "user_id,ev\"ent,time\n", eventlog.Mapping{}, []string{"line 1: read the header: line 1, column 11: bare"}},
		{"long header", strings.Repeat("x", eventlog.MaxLine+1) + "\n", eventlog.Mapping{}, []string{"line 1: read the header: the line has more than 1048576 bytes"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			path := write(t, "log.csv", []byte(c.in))
			l := readFiles(t, c.m, path)
			for _, want := range c.want {
				require.ErrorContains(t, l.err, strings.ReplaceAll(want, "FILE", path))
			}
		})
	}
}

func TestRejectSaysWhatToMend(t *testing.T) {
	t.Parallel()
	in := "who,event,time\nnull,a,1700000000\nu1,a,170000\nu1,\"a\nb\"c,1\n" + "u1," + strings.Repeat("e", 5000) + ",1700000000\n"
	l := readText(t, "log.csv", in, eventlog.Mapping{User: "who"})
	require.NoError(t, l.err)
	require.Len(t, l.rejects, 5)
	require.Equal(t, `who "null" is what a program writes when it has no user`, l.rejects[0].Message)
	require.Equal(t, "null,a,1700000000", l.rejects[0].Raw)
	require.Contains(t, l.rejects[1].Message, `time is a number of neither 10 (s)`)
	require.Equal(t, "line 5, column 2: extraneous or missing \" in quoted-field", l.rejects[2].Message)
	require.Equal(t, []int{4, 5}, []int{l.rejects[2].Line, l.rejects[3].Line}, "the second line gets its own chance")
	require.Len(t, l.rejects[4].Raw, 4<<10)
	require.Equal(t, "bad_event_name", l.rejects[4].Reason)
}

func TestReadCSVBoundsMemory(t *testing.T) { //nolint:paralleltest // it measures the memory of the process
	const header = "user_id,event,time\n"
	const good = "u1,a,1700000000\n"
	long := strings.Repeat("x", 8<<20)
	cases := []struct {
		name, in      string
		records, line int
	}{
		{"one line of 8 MiB", header + long + "\n" + good, 1, 3},
		{"quoted line of 8 MiB", header + `u1,"` + long + "\"\n" + good, 1, 3},
		{"open quote before 8 MiB of good rows", header + "u1,\"a,1\n" + strings.Repeat(good, len(long)/len(good)), len(long) / len(good), 3},
		{"open quote before blank lines", header + "u1,\"a,1" + strings.Repeat("\n", 2<<20) + good, 1, 2 + 2<<20},
		{"at the limit", header + `u1,a,"1700000000` + strings.Repeat(" ", eventlog.MaxLine-len(`u1,a,"1700000000"`)) + "\"\n", 1, 2},
	}
	for _, c := range cases { //nolint:paralleltest // as above
		t.Run(c.name, func(t *testing.T) {
			path := write(t, "log.csv", []byte(c.in))
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			line, peak := 0, uint64(0)
			counts, err := eventlog.Read(t.Context(), []string{path}, eventlog.Mapping{}, nil, func(r eventlog.Record) error {
				if line == 0 {
					line = r.Line
					runtime.ReadMemStats(&after)
					peak = after.Sys - before.Sys
				}
				return nil
			}, nil)
			require.NoError(t, err)
			require.Equal(t, c.records, counts.Records)
			require.Equal(t, c.line, line)
			require.Less(t, peak, uint64(24<<20), "%d MiB", peak>>20)
		})
	}
}
