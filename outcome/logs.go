package outcome

import (
	"context"
	"encoding/json"
	"errors"
	"iter"

	"github.com/onramphq/onramp/schema"
)

// UserLog is one user's archived events, in order of record.
type UserLog struct {
	UserToken string
	Events    []schema.UserEvent
}

// Logs reads the archive user by user; token, where it is not empty, names the one user to read. One user's events are in memory
// at a time. The sequence ends with an error where ClickHouse is away.
func (s *Store) Logs(ctx context.Context, token string) iter.Seq2[UserLog, error] {
	return func(yield func(UserLog, error) bool) {
		ctx, cancel := context.WithCancel(ctx) // whoever stops early stops the query too
		defer cancel()
		if err := s.logs(ctx, token, yield); err != nil {
			yield(UserLog{}, translate(err, s.addr, "read archive"))
		}
	}
}

// logs returns nil once the reader has had enough.
func (s *Store) logs(ctx context.Context, token string, yield func(UserLog, error) bool) (err error) {
	var linked bool
	if err := s.conn.QueryRow(ctx, "SELECT toBool(count() > 0) FROM outcomes WHERE kind = 'user_merged'").Scan(&linked); err != nil {
		return err
	}
	person, from, args := "user_token", "events_unique", []any{}
	if linked { // the log of somebody who became another is the other's, from its beginning
		person, from = "if(l.person_token = '', r.user_token, l.person_token)", "events_unique AS r LEFT JOIN identity_links AS l ON r.user_token = l.merged_token"
	}
	where := ""
	if token != "" {
		where, args = " WHERE person = ?", []any{token}
	}
	rows, err := s.conn.Query(ctx, `SELECT `+person+` AS person, event_id, event_name, sequence, toUnixTimestamp64Milli(occurred_at),
		toUnixTimestamp64Milli(received_at), lateness, properties, traits FROM `+from+where+` ORDER BY person, sequence`, args...)
	if err != nil {
		return err
	}
	enough := false
	defer func() {
		if closeErr := rows.Close(); !enough {
			err = errors.Join(err, closeErr)
		}
	}()
	var log UserLog
	for rows.Next() {
		var user, lateness, properties, traits string
		var e schema.UserEvent
		if err := rows.Scan(&user, &e.EventID, &e.EventName, &e.Sequence, &e.OccurredAt, &e.ReceivedAt, &lateness, &properties, &traits); err != nil {
			return err
		}
		e.Lateness, e.Properties, e.Traits = schema.Lateness(lateness), object(properties), object(traits)
		if user != log.UserToken {
			if log.UserToken != "" && !yield(log, nil) {
				enough = true
				return nil
			}
			log = UserLog{UserToken: user}
		}
		log.Events = append(log.Events, e)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if log.UserToken != "" {
		yield(log, nil)
	}
	return nil
}

// object is a stored JSON object; the archive holds none as an empty text.
func object(text string) json.RawMessage {
	if text == "" {
		return nil
	}
	return json.RawMessage(text)
}

// Users counts the users with an archived event.
func (s *Store) Users(ctx context.Context) (uint64, error) {
	var n uint64
	err := s.conn.QueryRow(ctx, "SELECT uniqExact(user_token) FROM events").Scan(&n)
	return n, translate(err, s.addr, "count users")
}

// PlaybookSince is a version of the playbook, and when a user's outcomes first name it.
type PlaybookSince struct {
	Playbook string
	Since    int64 // Unix milliseconds, the moment of record
}

// Playbooks lists the versions that a user's outcomes name, in order of time: the versions under which the user has lived, as far as
// anything came of them.
func (s *Store) Playbooks(ctx context.Context, token string) (list []PlaybookSince, err error) {
	rows, err := s.conn.Query(ctx, `SELECT playbook, toUnixTimestamp64Milli(min(at)) AS since FROM outcomes_unique
		WHERE user_token = ? GROUP BY playbook ORDER BY since, min(sequence)`, token)
	if err != nil {
		return nil, translate(err, s.addr, "read playbooks of "+token)
	}
	defer func() { err = errors.Join(err, translate(rows.Close(), s.addr, "read playbooks of "+token)) }()
	for rows.Next() {
		var p PlaybookSince
		if err := rows.Scan(&p.Playbook, &p.Since); err != nil {
			return nil, translate(err, s.addr, "read playbooks of "+token)
		}
		list = append(list, p)
	}
	return list, translate(rows.Err(), s.addr, "read playbooks of "+token)
}
