package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// StreamsConfig sizes the streams.
type StreamsConfig struct {
	// Replicas of every stream. Defaults to 1; a production cluster has 3.
	Replicas int
	// MaxBytes bounds the event stream; beyond it publishers are refused, never events dropped. Defaults to 0: no bound but
	// the server's.
	MaxBytes int64
	// MaxAge is how long events and outcomes stay. Defaults to 0: for ever, so that every state can be rebuilt.
	MaxAge time.Duration
}

// codeInvalidStream is the server's answer to a configuration that it cannot change the stream into.
const codeInvalidStream jetstream.ErrorCode = 10052

// EnsureStreams creates the streams or brings their configuration in line, and returns an error where the server keeps
// another: a stream that drops its oldest events when full would break the first guarantee in silence.
func EnsureStreams(ctx context.Context, js jetstream.JetStream, cfg StreamsConfig) error {
	for _, want := range streams(cfg) {
		stream, err := js.CreateOrUpdateStream(ctx, want)
		if err != nil {
			code := schema.CodeUnavailable
			if refusal, ok := errors.AsType[*jetstream.APIError](err); ok && refusal.ErrorCode == codeInvalidStream {
				code = schema.CodeConflict // the stream is there and cannot be changed into what is asked for
			}
			return &schema.Error{Code: code, Message: "create stream " + want.Name, Err: err}
		}
		got := stream.CachedInfo().Config
		if got.Retention != want.Retention || got.Discard != want.Discard || got.Storage != want.Storage || got.MaxMsgsPerSubject != want.MaxMsgsPerSubject {
			return &schema.Error{Code: schema.CodeConflict, Message: fmt.Sprintf(
				"stream %s keeps messages otherwise than asked: retention %v, discard %v, storage %v", want.Name, got.Retention, got.Discard, got.Storage)}
		}
	}
	return nil
}

func streams(cfg StreamsConfig) []jetstream.StreamConfig {
	base := func(name, subjects, description string) jetstream.StreamConfig {
		return jetstream.StreamConfig{
			Name: name, Subjects: []string{subjects}, Description: description, Retention: jetstream.LimitsPolicy,
			Discard: jetstream.DiscardNew, Storage: jetstream.FileStorage, Replicas: max(1, cfg.Replicas), MaxAge: cfg.MaxAge,
			MaxBytes: -1, MaxMsgsPerSubject: -1, Duplicates: min(2*time.Minute, maxDuration(cfg.MaxAge)), AllowDirect: true,
		}
	}
	events := base(schema.EventsStream, schema.EventsSubjects, "User events as services publish them")
	if cfg.MaxBytes > 0 {
		events.MaxBytes = cfg.MaxBytes
	}
	actions := base(schema.ActionsStream, schema.ActionsSubjects, "Actions for the services that carry them out")
	deadLetters := base(schema.DeadLettersStream, schema.DeadLettersSubjects, "Messages that could not be read or delivered, with the reason")
	deadLetters.Subjects = append(deadLetters.Subjects, schema.AdvisorySubjects)
	profiles := base(schema.ProfilesStream, schema.ProfilesSubjects, "The newest profile of every user")
	profiles.Discard, profiles.MaxMsgsPerSubject, profiles.MaxAge = jetstream.DiscardOld, 1, 0
	identities := base(schema.IdentitiesStream, schema.IdentitiesSubjects, "Who has become one with whom; a message each")
	identities.MaxAge = 0 // without a link a visitor would begin anew
	identities.Duplicates = 2 * time.Minute
	return []jetstream.StreamConfig{
		events,
		base(schema.OutcomesStream, schema.OutcomesSubjects, "What was decided and what came of it"),
		deadLetters,
		actions,
		profiles,
		identities,
	}
}

// maxDuration is the longest window for repeated message ids that a stream of that age may have.
func maxDuration(age time.Duration) time.Duration {
	if age == 0 {
		return 2 * time.Minute
	}
	return age
}
