package activities

import (
	"context"
	"encoding/json"
	"errors"
	"sync/atomic"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/schema"
)

// profiles publishes users' profiles and takes none back: a worker that slept, or whose task another has been given, can come late. Each one
// names the place in the stream of the one that it follows on, and the server refuses what does not.
type profiles struct {
	js     jetstream.JetStream
	places *recent.Map[string, uint64]      // by user token: where the last one stands that this process published
	stream atomic.Pointer[jetstream.Stream] // nil until somebody asks what it holds
}

// profilesKept is of how many users a process remembers the place; of others it asks.
const profilesKept = 10_000

func newProfiles(js jetstream.JetStream) *profiles {
	return &profiles{js: js, places: recent.New[string, uint64](profilesKept)}
}

// publish publishes a profile unless there is a newer one. outcomes is how many led to it.
func (p *profiles) publish(ctx context.Context, profile *schema.Profile, outcomes int) error {
	body, err := json.Marshal(profile)
	if err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "encode profile", Err: err}
	}
	place, known := p.places.Get(profile.UserToken)
	known = known || profile.Sequence <= uint64(outcomes) //nolint:gosec // a length; all there ever were: the user has none yet, or the server says so
	for {
		if !known {
			newest, at, err := p.newest(ctx, profile.UserToken)
			if err != nil {
				return err
			}
			if newest.Sequence > profile.Sequence && newest.UpdatedAt >= profile.UpdatedAt { // not of a workflow that was ended since
				return nil
			}
			place = at
		}
		ack, err := p.js.Publish(ctx, schema.ProfileSubject(profile.UserToken), body, jetstream.WithExpectLastSequencePerSubject(place))
		if err == nil {
			p.places.Put(profile.UserToken, ack.Sequence)
			return nil
		}
		if refusal, ok := errors.AsType[*jetstream.APIError](err); !ok || refusal.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequence &&
			refusal.ErrorCode != jetstream.JSErrCodeStreamWrongLastSequenceConstant {
			return &schema.Error{Code: schema.CodeUnavailable, Message: "publish profile of " + profile.UserToken, Err: err}
		}
		known = false
	}
}

// newest returns a user's profile in the stream and its place there: an empty one where there is none, or where the user was erased.
func (p *profiles) newest(ctx context.Context, token string) (schema.Profile, uint64, error) {
	unavailable := func(err error) error {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "read profile of " + token, Err: err}
	}
	stream, err := p.open(ctx)
	if err != nil {
		return schema.Profile{}, 0, unavailable(err)
	}
	message, err := stream.GetLastMsgForSubject(ctx, schema.ProfileSubject(token))
	if errors.Is(err, jetstream.ErrMsgNotFound) {
		return schema.Profile{}, 0, nil
	}
	if err != nil {
		return schema.Profile{}, 0, unavailable(err)
	}
	var profile schema.Profile
	if json.Unmarshal(message.Data, &profile) != nil { // nothing that anybody could read
		profile = schema.Profile{}
	}
	return profile, message.Sequence, nil
}

func (p *profiles) open(ctx context.Context) (jetstream.Stream, error) {
	if stream := p.stream.Load(); stream != nil {
		return *stream, nil
	}
	stream, err := p.js.Stream(ctx, schema.ProfilesStream)
	if err != nil {
		return nil, err
	}
	p.stream.Store(&stream)
	return stream, nil
}

// point lets a profile that nobody has published say whom its user has become.
func (p *profiles) point(ctx context.Context, token, into string) error {
	return p.publish(ctx, &schema.Profile{
		UserToken: token, Stage: schema.StageMerged, Segments: []schema.Membership{}, Journeys: []schema.JourneyStatus{}, MergedInto: into,
	}, 0)
}
