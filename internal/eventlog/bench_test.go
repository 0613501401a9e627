package eventlog_test

import (
	"strings"
	"testing"

	"github.com/onramphq/onramp/internal/eventlog"
)

func BenchmarkReadCSV(b *testing.B) {
	const rows = 1000
	text := "user_id,event,time,plan,amount\n" + strings.Repeat("19abd470e3fe588ae02c83973d4e8dea,screen_viewed,1538405774195002000,pro,12.50\n", rows)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		counts, err := eventlog.ReadStream(b.Context(), "log.csv", strings.NewReader(text), eventlog.Mapping{Properties: []string{"*"}}, nil, nil)
		if err != nil || counts.Records != rows {
			b.Fatal(counts, err)
		}
	}
}

func BenchmarkReadJSONL(b *testing.B) {
	const rows = 1000
	text := strings.Repeat(`{"user_id":"19abd470e3fe588ae02c83973d4e8dea","event":"screen_viewed","ts":1538405774195002000,"properties":{"plan":"pro","amount":12.5}}`+"\n", rows)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		counts, err := eventlog.ReadStream(b.Context(), "log.jsonl", strings.NewReader(text), eventlog.Mapping{Properties: []string{"properties.*"}}, nil, nil)
		if err != nil || counts.Records != rows {
			b.Fatal(counts, err)
		}
	}
}
