package api_test

import (
	"context"
	"encoding/json"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/api/onrampv1"
	"github.com/onramphq/onramp/schema"
)

// spoken is the gRPC door over a real stream of events and profiles.
type spoken struct {
	door   *door
	client onrampv1.OnrampClient
	conn   *grpc.ClientConn
	mirror *api.Mirror
}

func speak(t *testing.T, keys *api.Keyring) *spoken {
	t.Helper()
	s := &spoken{door: openDoor(t), mirror: filled(t)}
	events, err := jetstream.New(s.door.js.Conn(), api.IntakeOptions()...)
	require.NoError(t, err)
	server := api.New(api.Config{WorkspaceKey: key(), Events: events, Keys: keys}, s.mirror, nil, quiet())
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.ServeGRPC(ctx, listener) }()
	s.conn, err = grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, s.conn.Close())
		cancel()
		require.NoError(t, <-ended)
	})
	s.client = onrampv1.NewOnrampClient(s.conn)
	return s
}

func with(t *testing.T, secret string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+secret)
}

func TestGRPCPublish(t *testing.T) {
	t.Parallel()
	s := speak(t, nil)
	properties, err := structpb.NewStruct(map[string]any{"plan": "pro", "seats": 12, "share": 0.5, "tags": []any{"a", nil}})
	require.NoError(t, err)
	at := time.Now().Add(-time.Hour).UTC().Truncate(time.Millisecond)
	good := &onrampv1.Event{EventId: "g1", EventName: "trial_started", UserId: "ann", Properties: properties, OccurredAt: timestamppb.New(at)}
	answer, err := s.client.Publish(t.Context(), &onrampv1.PublishRequest{Events: []*onrampv1.Event{
		good,
		{EventName: "no_user"},
		good,
		{EventId: "g1", EventName: "another", UserId: "ann"},
		{EventName: "has_no_id", UserId: "ann"},
		{EventId: "g2", EventName: "x", UserId: "ann", OccurredAt: &timestamppb.Timestamp{Seconds: 1 << 60}},
		{EventId: "g3", EventName: "x", UserId: strings.Repeat("u", 300)},
		{EventId: "g4", EventName: "x", UserId: "u", Properties: &structpb.Struct{Fields: map[string]*structpb.Value{"t": structpb.NewStringValue(strings.Repeat("x", 33<<10))}}},
	}})
	require.NoError(t, err)
	require.EqualValues(t, 3, answer.GetAccepted())
	require.EqualValues(t, 1, answer.GetDuplicates())
	got := make(map[uint32]string)
	for _, r := range answer.GetRejected() {
		require.NotEmpty(t, r.GetMessage())
		got[r.GetIndex()] = r.GetCode() + " " + r.GetField()
	}
	require.Equal(t, map[uint32]string{
		1: "missing_user user_id", 3: "event_conflict event_id", 5: "bad_timestamp occurred_at", 6: "id_too_long user_id", 7: "too_large ",
	}, got)
	require.Equal(t, "g1", answer.GetEventIds()[0])
	require.Empty(t, answer.GetEventIds()[3])
	require.Regexp(t, `^api-`, answer.GetEventIds()[4])
	all := s.door.stored(t)
	require.Len(t, all, 2)
	require.Equal(t, at, all[0].Timing.OccurredAt)
	require.JSONEq(t, `{"plan":"pro","seats":12,"share":0.5,"tags":["a",null]}`, string(all[0].Properties))
	require.Equal(t, "onramp.events.tracking", all[0].subject)

	for _, events := range [][]*onrampv1.Event{nil, make([]*onrampv1.Event, 2501)} {
		_, err = s.client.Publish(t.Context(), &onrampv1.PublishRequest{Events: events})
		require.Equal(t, codes.InvalidArgument, status.Code(err))
	}
	s.door.broker.Stop()
	require.Eventually(t, func() bool {
		_, err = s.client.Publish(t.Context(), &onrampv1.PublishRequest{Events: []*onrampv1.Event{good}})
		return status.Code(err) == codes.Unavailable
	}, patience, poll)
	require.NotNil(t, detail[*errdetails.RetryInfo](err), "when to try again")
	require.NotEmpty(t, detail[*errdetails.RequestInfo](err).GetRequestId())
}

// detail finds a detail of an error.
func detail[D any](err error) (found D) {
	for _, d := range status.Convert(err).Details() {
		if is, ok := d.(D); ok {
			return is
		}
	}
	return found
}

func TestGRPCReads(t *testing.T) {
	t.Parallel()
	s := speak(t, nil)
	profile, err := s.client.GetProfile(t.Context(), &onrampv1.GetProfileRequest{UserId: "ann"})
	require.NoError(t, err)
	want, known := s.mirror.Get(schema.UserToken(key(), "ann"))
	require.True(t, known)
	require.Equal(t, want.UserToken, profile.GetUserToken())
	require.Equal(t, want.Sequence, profile.GetSequence())
	require.Equal(t, want.Variants, profile.GetVariants())
	require.Len(t, profile.GetSegments(), len(want.Segments))
	require.Equal(t, want.Segments[0].Reason, profile.GetSegments()[0].GetReason())
	require.Equal(t, want.UpdatedAt, profile.GetUpdatedAt().AsTime().UnixMilli())
	same, err := s.client.GetProfile(t.Context(), &onrampv1.GetProfileRequest{UserToken: want.UserToken})
	require.NoError(t, err)
	require.Equal(t, profile.String(), same.String())

	_, err = s.client.GetProfile(t.Context(), &onrampv1.GetProfileRequest{UserId: "nobody"})
	require.Equal(t, codes.NotFound, status.Code(err))
	for _, bad := range []*onrampv1.GetProfileRequest{{}, {UserId: "a", UserToken: want.UserToken}, {UserToken: "no token"}, {UserId: strings.Repeat("u", 257)}} {
		_, err = s.client.GetProfile(t.Context(), bad)
		require.Equal(t, codes.InvalidArgument, status.Code(err))
		require.Len(t, detail[*errdetails.BadRequest](err).GetFieldViolations(), 1)
	}

	// The same flags as over HTTP.
	flags, err := s.client.EvaluateFlags(t.Context(), &onrampv1.EvaluateFlagsRequest{TargetingKey: "ann"})
	require.NoError(t, err)
	var overHTTP struct {
		Flags []struct {
			Key      string         `json:"key"`
			Value    any            `json:"value"`
			Reason   string         `json:"reason"`
			Variant  string         `json:"variant"`
			Metadata map[string]any `json:"metadata"`
		} `json:"flags"`
	}
	w := post(t, api.New(api.Config{WorkspaceKey: key()}, s.mirror, nil, quiet()).Handler(), flagsPath, asking("ann"))
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &overHTTP))
	require.Len(t, flags.GetFlags(), len(overHTTP.Flags))
	for i, f := range overHTTP.Flags {
		one := flags.GetFlags()[i]
		require.Equal(t, f.Key, one.GetKey())
		require.Equal(t, f.Value, one.GetValue().AsInterface())
		require.Equal(t, f.Reason, one.GetReason())
		require.Equal(t, f.Variant, one.GetVariant())
		single, err := s.client.EvaluateFlag(t.Context(), &onrampv1.EvaluateFlagRequest{TargetingKey: "ann", Flag: f.Key})
		require.NoError(t, err)
		require.Equal(t, one.GetValue().AsInterface(), single.GetValue().AsInterface())
	}
	none, err := s.client.EvaluateFlags(t.Context(), &onrampv1.EvaluateFlagsRequest{TargetingKey: "nobody"})
	require.NoError(t, err)
	require.Empty(t, none.GetFlags())
	_, err = s.client.EvaluateFlag(t.Context(), &onrampv1.EvaluateFlagRequest{TargetingKey: "ann", Flag: "no.such"})
	require.Equal(t, codes.NotFound, status.Code(err))
	_, err = s.client.EvaluateFlag(t.Context(), &onrampv1.EvaluateFlagRequest{TargetingKey: " ", Flag: "stage"})
	require.Equal(t, codes.InvalidArgument, status.Code(err))
}

// TestGRPCWatch: whoever watches has the profile as it is, hears of every change, and of a user who comes later.
func TestGRPCWatch(t *testing.T) {
	t.Parallel()
	k := newKiosk(t, "")
	k.start(t)
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- k.server.ServeGRPC(ctx, listener) }()
	conn, err := grpc.NewClient(listener.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	watch, err := onrampv1.NewOnrampClient(conn).WatchProfile(with(t, "service"), &onrampv1.WatchProfileRequest{UserId: "ann"})
	require.NoError(t, err)
	first, err := watch.Recv()
	require.NoError(t, err)
	require.False(t, first.GetSegments()[1].GetIn())
	k.change(t, first.GetSequence()+1, true)
	second, err := watch.Recv()
	require.NoError(t, err)
	require.True(t, second.GetSegments()[1].GetIn())
	cancel()
	_, err = watch.Recv()
	require.Equal(t, codes.Unavailable, status.Code(err), "it is told that the server stops: %v", err)
	require.NoError(t, <-ended)
}

// TestGRPCKeys tries every call with no key, a wrong one, and one of each role.
func TestGRPCKeys(t *testing.T) {
	t.Parallel()
	s := speak(t, ring(t, entry("w", api.RoleWrite, "write"), entry("r", api.RoleRead, "read"), entry("a", api.RoleAdmin, "admin")))
	calls := map[string]struct {
		roles string
		call  func(context.Context) error
	}{
		"Publish": {"write admin", func(ctx context.Context) error {
			_, err := s.client.Publish(ctx, &onrampv1.PublishRequest{Events: []*onrampv1.Event{{EventName: "x", UserId: "u"}}})
			return err
		}},
		"GetProfile": {"read admin", func(ctx context.Context) error {
			_, err := s.client.GetProfile(ctx, &onrampv1.GetProfileRequest{UserId: "ann"})
			return err
		}},
		"WatchProfile": {"read admin", func(ctx context.Context) error {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stream, err := s.client.WatchProfile(ctx, &onrampv1.WatchProfileRequest{UserId: "ann"})
			if err == nil {
				_, err = stream.Recv()
			}
			return err
		}},
		"EvaluateFlag": {"read admin", func(ctx context.Context) error {
			_, err := s.client.EvaluateFlag(ctx, &onrampv1.EvaluateFlagRequest{TargetingKey: "ann", Flag: "stage"})
			return err
		}},
		"EvaluateFlags": {"read admin", func(ctx context.Context) error {
			_, err := s.client.EvaluateFlags(ctx, &onrampv1.EvaluateFlagsRequest{TargetingKey: "ann"})
			return err
		}},
	}
	require.Len(t, calls, len(onrampv1.Onramp_ServiceDesc.Methods)+len(onrampv1.Onramp_ServiceDesc.Streams))
	for name, c := range calls {
		require.Equal(t, codes.Unauthenticated, status.Code(c.call(t.Context())), name)
		require.Equal(t, codes.Unauthenticated, status.Code(c.call(with(t, "wrong"))), name)
		for _, role := range []string{"write", "read", "admin"} {
			want := codes.PermissionDenied
			if strings.Contains(c.roles, role) {
				want = codes.OK
			} else if role == "write" && strings.HasPrefix(name, "Evaluate") {
				want = codes.InvalidArgument // a page names its user by a token that was signed for it
			}
			require.Equal(t, want, status.Code(c.call(with(t, role))), role+" "+name)
		}
	}
	for range 20 {
		_, err := s.client.GetProfile(with(t, "guess"), &onrampv1.GetProfileRequest{UserId: "ann"})
		require.Error(t, err)
	}
	_, err := s.client.GetProfile(with(t, "read"), &onrampv1.GetProfileRequest{UserId: "ann"})
	require.Equal(t, codes.ResourceExhausted, status.Code(err), "whoever guesses does not learn that this one was right")
}

// TestGRPCTools: reflection names the service, and health says that it serves, without a key.
func TestGRPCTools(t *testing.T) {
	t.Parallel()
	s := speak(t, ring(t, entry("r", api.RoleRead, "read")))
	answer, err := healthpb.NewHealthClient(s.conn).Check(t.Context(), &healthpb.HealthCheckRequest{})
	require.NoError(t, err)
	require.Equal(t, healthpb.HealthCheckResponse_SERVING, answer.GetStatus())
	stream, err := reflectionpb.NewServerReflectionClient(s.conn).ServerReflectionInfo(t.Context())
	require.NoError(t, err)
	require.NoError(t, stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{}}))
	listed, err := stream.Recv()
	require.NoError(t, err)
	require.Contains(t, listed.String(), `name:"onramp.v1.Onramp"`)
	require.NoError(t, stream.Send(&reflectionpb.ServerReflectionRequest{MessageRequest: &reflectionpb.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "onramp.v1.Onramp"}}))
	described, err := stream.Recv()
	require.NoError(t, err)
	require.NotEmpty(t, described.GetFileDescriptorResponse().GetFileDescriptorProto())
	require.NoError(t, stream.CloseSend())
}
