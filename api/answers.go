package api

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/onramphq/onramp/playbook"
)

// answersKept is how many users' flags are kept as they are sent, in each of two halves: some 4 KB each, so 40 MB at most. A page or a
// service that asks for a user asks again, and most of what it is told is the same.
const answersKept = 5000

// answered is what a user's flags are now, written out. It is never changed, but for the event stream that was named last.
type answered struct {
	known    bool
	sequence uint64            // of the profile they are of
	tag      string            // a hash of them
	head     string            // the answer to all at once, without its end: event streams follow, or a brace
	one      map[string]string // the answer to each

	raw  string // what they were made of
	book *playbook.Playbook

	stream atomic.Pointer[namedStream]
}

type answersKey struct {
	user    mirrorKey
	explain bool
}

// all is the answer to all flags at once, without event streams.
func (a *answered) all() []byte { return []byte(a.head + "}") }

// flagsFor are the flags of a user as they are sent. explain is as in flagsOf.
func (s *Server) flagsFor(token string, explain bool) *answered {
	kept, known := s.mirror.kept(token)
	met := s.cfg.Exposures.current()
	if !known {
		return s.written(token, bulk{Flags: []flag{}, Metadata: map[string]any{metadataContext: token, metadataFlagSet: flagSet}})
	}
	var book *playbook.Playbook
	if met != nil {
		book = met.Playbook
	}
	user, _ := keyOf(token)
	key := answersKey{user, explain}
	// The same text is mostly the same memory: nothing is compared.
	if answer, there := s.answers.Get(key); there && answer.raw == kept.raw && answer.book == book {
		return answer
	}
	profile, known := s.mirror.decode(token, kept.raw)
	if !known {
		return s.written(token, bulk{Flags: []flag{}, Metadata: map[string]any{metadataContext: token, metadataFlagSet: flagSet}})
	}
	answer := s.written(token, bulk{
		Flags:    s.allFlags(&profile, explain),
		Metadata: map[string]any{metadataContext: token, metadataFlagSet: flagSet, metadataVersion: profile.Playbook},
	})
	answer.known, answer.sequence, answer.raw, answer.book = true, kept.sequence, kept.raw, book
	s.answers.Put(key, answer)
	return answer
}

// written writes flags out. They are texts, numbers and booleans, of which every one can be written.
func (s *Server) written(token string, all bulk) *answered {
	body, err := json.Marshal(all)
	if err != nil {
		s.logger.Error("flags not written", slog.String("user_token", token), slog.Any("error", err))
		body = []byte(`{"flags":[],"metadata":{}}`)
	}
	sum := sha256.Sum256(body)
	answer := &answered{
		tag: base64.RawURLEncoding.EncodeToString(sum[:16]), head: string(body[:len(body)-1]), one: make(map[string]string, len(all.Flags)),
	}
	for _, f := range all.Flags {
		metadata := maps.Clone(all.Metadata)
		maps.Copy(metadata, f.Metadata)
		f.Metadata = metadata
		if one, err := json.Marshal(f); err == nil {
			answer.one[f.Key] = string(one) + "\n"
		}
	}
	return answer
}

// shown records that the flag of an experiment has treated a user, where it is one that no journey names.
func (s *Server) shown(token, experiment string) {
	if met := s.cfg.Exposures.current(); met == nil || !met.has(experiment) {
		return
	}
	if profile, known := s.mirror.Get(token); known {
		s.cfg.Exposures.treated(&profile, experiment, "", time.Now())
	}
}
