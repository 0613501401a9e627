package eventlog_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/onramphq/onramp/internal/eventlog"
)

func Example() {
	dir, err := os.MkdirTemp("", "eventlog")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "log.csv")
	text := `user_id,event_name,event_timestamp,plan
u1,project_created,1538405774195002000,pro
u1,signed_up,1538405770000000000,
null,signed_up,1538405770000000000,
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		fmt.Println(err)
		return
	}

	var records []eventlog.Record
	m := eventlog.Mapping{Properties: []string{"plan"}}
	counts, err := eventlog.Read(context.Background(), []string{path}, m, nil,
		func(r eventlog.Record) error { records = append(records, r); return nil },
		func(r eventlog.Reject) error {
			fmt.Printf("line %d: %s: %s\n", r.Line, r.Reason, r.Message)
			return nil
		})
	if err != nil {
		fmt.Println(err)
		return
	}
	eventlog.Sort(records)
	eventlog.Identify(records)
	for _, r := range records {
		fmt.Println(r.At.Format("15:04:05.000000"), r.Event.UserID, r.Event.EventName, string(r.Event.Properties), r.Event.EventID)
	}
	fmt.Println(counts.Records, "events,", counts.Rejects, "rejected")
	// Output:
	// line 4: illegal_id: user_id "null" is what a program writes when it has no user
	// 14:56:10.000000 u1 signed_up  log-ac2433378248a7999b22d0f716328057-1
	// 14:56:14.195002 u1 project_created {"plan":"pro"} log-84980452cd1a13756be1c5b0313e0b28-1
	// 2 events, 1 rejected
}
