package eventlog_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/internal/eventlog"
)

func TestMappingValidate(t *testing.T) {
	t.Parallel()
	require.NoError(t, eventlog.Mapping{}.Validate())
	require.NoError(t, eventlog.Mapping{Delimiter: "tab", TimeLayout: "02/01/06 03:04 PM", Zone: "UTC", Properties: []string{"*", "a=b"}}.Validate())
	require.Equal(t, eventlog.Mapping{TimeUnit: "auto", Delimiter: "\t"}, eventlog.Mapping{Delimiter: "tab"}.WithDefaults())
	cases := []struct {
		name string
		m    eventlog.Mapping
		want []string
	}{
		{"all at once", eventlog.Mapping{Format: "xml", TimeUnit: "days", Zone: "Mars", Delimiter: ";;"}, []string{
			`format "xml" is neither csv nor jsonl`, `time unit "days" is not one of rfc3339, s, ms, us, ns, auto`,
			`zone "Mars" is not an IANA zone`, `delimiter ";;" is not one character`,
		}},
		{"zone of the machine", eventlog.Mapping{Zone: "Local"}, []string{`zone "Local" is not`}},
		{"quote for a delimiter", eventlog.Mapping{Delimiter: `"`}, []string{"delimiter"}},
		{"broken delimiter", eventlog.Mapping{Delimiter: "\xff"}, []string{"delimiter"}},
		{"layout and unit", eventlog.Mapping{TimeLayout: "2006-01-02", TimeUnit: "ms", Zone: "UTC"}, []string{"time unit ms is for numbers"}},
		{"layout without a zone", eventlog.Mapping{TimeLayout: "2006-01-02 15:04:05"}, []string{"has no zone: name the zone too"}},
		{"layout without a year", eventlog.Mapping{TimeLayout: "Jan 2 15:04", Zone: "UTC"}, []string{"is not a Go layout"}},
		{"layout of twelve hours without PM", eventlog.Mapping{TimeLayout: "2006-01-02 03:04", Zone: "UTC"}, []string{"is not a Go layout"}},
		{"layout of another language", eventlog.Mapping{TimeLayout: "%Y-%m-%d", Zone: "UTC"}, []string{"is not a Go layout"}},
		{"selectors", eventlog.Mapping{Properties: []string{"", "a=", "=a", "x=*", "x=a.*", "b", "b=c"}}, []string{
			`properties: "" is neither`, `properties: "a=" is neither`, `properties: "=a" is neither`,
			`properties: "x=*" names many fields`, `properties: "x=a.*" names many fields`, `properties: "b" is there twice`,
		}},
		{"both everything", eventlog.Mapping{Properties: []string{"*"}, Traits: []string{"*"}}, []string{`properties and traits cannot both be "*"`}},
		{"rename", eventlog.Mapping{Rename: map[string]string{"": "x", "y": ""}}, []string{`rename "" to "x"`, `rename "y" to ""`}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := c.m.Validate()
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.Len(t, strings.Split(err.Error(), "\n"), len(c.want), err)
		})
	}
}

func TestLoadMapping(t *testing.T) {
	t.Parallel()
	m, err := eventlog.LoadMapping(strings.NewReader(`
format: csv
user: user_pseudo_id
event: 1   # a column called 1
time: event_timestamp
event_id: insert_id
time_unit: us
time_layout: "02.01.2006 15:04:05"
zone: Europe/Berlin
properties: [plan, source=utm_source]
traits: "*"
delimiter: ;
rename: {onboarding_welcome_screen: welcome_shown, yes: "no"}
`), "m.yaml")
	require.NoError(t, err)
	require.Equal(t, eventlog.Mapping{
		Format: "csv", User: "user_pseudo_id", Event: "1", Time: "event_timestamp", EventID: "insert_id", TimeUnit: "us",
		TimeLayout: "02.01.2006 15:04:05", Zone: "Europe/Berlin", Properties: []string{"plan", "source=utm_source"},
		Traits: []string{"*"}, Delimiter: ";", Rename: map[string]string{"onboarding_welcome_screen": "welcome_shown", "yes": "no"},
	}, m)

	for _, empty := range []string{"", "# nothing\n", "---\n", "user:\nproperties:\nrename:\n"} {
		m, err := eventlog.LoadMapping(strings.NewReader(empty), "m.yaml")
		require.NoError(t, err, empty)
		require.NoError(t, m.Validate())
	}
}

func TestLoadMappingRefuses(t *testing.T) {
	t.Parallel()
	cases := []struct {
		name, in string
		want     []string
	}{
		{"unknown and repeated keys, all at once", "user: a\nusr: b\nuser: c\n", []string{`m.yaml:2:1: unknown key "usr": keys are format, user,`, `m.yaml:3:1: key "user" is there twice`}},
		{"values of the wrong kind", "user: [a]\nproperties: {a: b}\nrename: x\ntraits: [[a]]\n", []string{
			"m.yaml:1:7: user is not text", "m.yaml:2:13: properties is not text", "m.yaml:3:9: rename is not a mapping", "m.yaml:4:10: traits is not text",
		}},
		{"renamed twice", "rename:\n  a: b\n  a: c\n", []string{`m.yaml:3:3: key "a" is there twice`}},
		{"alias", "user: &a x\nevent: *a\n", []string{"m.yaml:2:8: event is not text"}},
		{"list", "- user\n", []string{"m.yaml:1:1: a mapping file is not a mapping"}},
		{"not YAML", "properties: *\n", []string{"read mapping m.yaml: yaml: "}},
		{"two documents", "user: a\n---\nuser: b\n", []string{"more than one document"}},
		{"huge", strings.Repeat("#", 2<<20), []string{"more than 1048576 bytes"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := eventlog.LoadMapping(strings.NewReader(c.in), "m.yaml")
			require.Error(t, err)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
		})
	}
}
