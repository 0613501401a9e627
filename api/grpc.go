package api

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/reflection"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/onramphq/onramp/api/onrampv1"
	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// Limits of gRPC.
const (
	maxGRPCBytes   = 4 << 20 // a message
	maxGRPCStreams = 1000    // of one connection
	grpcIdle       = 30 * time.Second
)

// ServeGRPC serves the service of onrampv1 on listener until ctx ends, with the keys, rates and limits of HTTP, reflection for tools, and
// the health service of gRPC. It closes listener. Errors: invalid for a configuration that cannot work.
func (s *Server) ServeGRPC(ctx context.Context, listener net.Listener) error {
	if err := errors.Join(s.cfg.validate(), s.sheltered(listener)); err != nil {
		return errors.Join(&schema.Error{Code: schema.CodeInvalid, Message: "configure api", Err: err}, listener.Close())
	}
	server := grpc.NewServer(
		grpc.MaxRecvMsgSize(maxGRPCBytes), grpc.MaxConcurrentStreams(maxGRPCStreams), grpc.ConnectionTimeout(readHeaderTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: grpcIdle}), grpc.UnaryInterceptor(s.guardCall), grpc.StreamInterceptor(s.guardStream),
	)
	service := &grpcService{server: s, ended: ctx.Done()}
	onrampv1.RegisterOnrampServer(server, service)
	alive := health.NewServer()
	healthpb.RegisterHealthServer(server, alive)
	reflection.Register(server)
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	s.logger.InfoContext(ctx, "gRPC listens", slog.String("addr", listener.Addr().String()))
	select {
	case err := <-failed:
		return fmt.Errorf("serve gRPC: %w", err)
	case <-ctx.Done():
	}
	alive.Shutdown() // says NOT_SERVING to whoever balances load
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		server.GracefulStop()
	}()
	select {
	case <-gone:
	case <-time.After(shutdownTimeout):
		s.logger.WarnContext(ctx, "gRPC ends with calls in hand", slog.Duration("patience", shutdownTimeout))
		server.Stop()
		<-gone
	}
	if err := <-failed; err != nil && !errors.Is(err, grpc.ErrServerStopped) {
		return fmt.Errorf("stop gRPC: %w", err)
	}
	return nil
}

// grpcCall is what is known of a call beside the call itself.
type grpcCall struct {
	id    string
	key   *apiKey
	trace schema.Trace // in which the events of this call are, where it brought any
}

type grpcCallKey struct{}

func callOf(ctx context.Context) *grpcCall {
	if known, ok := ctx.Value(grpcCallKey{}).(*grpcCall); ok {
		return known
	}
	return &grpcCall{key: &apiKey{}} // outside of the service: may do nothing
}

func (s *Server) guardCall(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (answer any, err error) {
	began := time.Now()
	ctx, call := withCall(ctx)
	defer func() {
		err = s.told(ctx, info.FullMethod, call, began, err, recover())
	}()
	if err := s.admitCall(ctx, info.FullMethod, call); err != nil {
		return nil, err
	}
	return next(ctx, request)
}

func (s *Server) guardStream(service any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) (err error) {
	began := time.Now()
	ctx, call := withCall(stream.Context())
	defer func() {
		err = s.told(ctx, info.FullMethod, call, began, err, recover())
	}()
	if err := s.admitCall(ctx, info.FullMethod, call); err != nil {
		return err
	}
	return next(service, &guarded{stream, ctx})
}

// guarded is a stream whose context knows the call.
type guarded struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // the interface asks for it
}

// Context implements grpc.ServerStream.
func (g *guarded) Context() context.Context { return g.ctx }

func withCall(ctx context.Context) (context.Context, *grpcCall) {
	call := &grpcCall{id: rand.Text()}
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		ctx = tracing.Within(ctx, schema.TraceOf(in))
	}
	return context.WithValue(ctx, grpcCallKey{}, call), call
}

// told logs the call, and turns a panic into an answer. Errors carry the id by which the log knows the call.
func (s *Server) told(ctx context.Context, method string, call *grpcCall, began time.Time, err error, cause any) error {
	if cause != nil {
		s.logger.ErrorContext(ctx, "call panicked", slog.String("request_id", call.id), slog.Any("cause", cause), slog.String("stack", string(debug.Stack())))
		err = status.Error(codes.Internal, "a defect of ours; quote the request id")
	}
	took := time.Since(began)
	code := status.Code(err)
	attrs := []slog.Attr{slog.String("route", method), slog.String("code", code.String()), slog.Duration("took", took), slog.String("request_id", call.id)}
	if call.key != nil && call.key.name != "" {
		attrs = append(attrs, slog.String("key", call.key.name))
	}
	if in := cmp.Or(call.trace, tracing.Of(ctx)); in != "" {
		attrs = append(attrs, tracing.Logged(in))
	}
	s.logger.LogAttrs(ctx, slog.LevelInfo, "call answered", attrs...)
	if s.cfg.Answered != nil {
		s.cfg.Answered("grpc "+method, httpStatus(code), took)
	}
	if err == nil {
		return nil
	}
	refused := status.Convert(err)
	if with, detailErr := refused.WithDetails(&errdetails.RequestInfo{RequestId: call.id}); detailErr == nil {
		refused = with
	}
	return refused.Err()
}

// httpStatus is what the metrics of answers count a code as.
func httpStatus(code codes.Code) int {
	switch code {
	case codes.OK:
		return http.StatusOK
	case codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange:
		return http.StatusBadRequest
	case codes.Unauthenticated:
		return http.StatusUnauthorized
	case codes.PermissionDenied:
		return http.StatusForbidden
	case codes.NotFound:
		return http.StatusNotFound
	case codes.ResourceExhausted:
		return http.StatusTooManyRequests
	case codes.Unavailable:
		return http.StatusServiceUnavailable
	case codes.Canceled:
		return 499 // as gateways log a caller who has gone
	default:
		return http.StatusInternalServerError
	}
}

// admitCall finds the caller by the metadata. Health and reflection tell nothing of users and want no key; what is no method of ours wants one.
func (s *Server) admitCall(ctx context.Context, method string, call *grpcCall) error {
	if s.cfg.Keys == nil {
		call.key = freeKey
		return nil
	}
	if strings.HasPrefix(method, "/grpc.health.v1.Health/") || strings.HasPrefix(method, "/grpc.reflection.") {
		call.key = &apiKey{}
		return nil
	}
	r := &http.Request{Header: make(http.Header)} // what a caller shows is read as over HTTP
	if from, ok := peer.FromContext(ctx); ok {
		r.RemoteAddr = from.Addr.String()
	}
	if in, ok := metadata.FromIncomingContext(ctx); ok {
		for _, name := range []string{"Authorization", "X-Api-Key"} {
			for _, value := range in.Get(name) {
				r.Header.Set(name, value)
			}
		}
	}
	secret, _ := presented(r)
	key, err := s.caller(addrOf(r), secret)
	switch {
	case errors.Is(err, errGuessing):
		return busy(guessPause, guessMessage)
	case err != nil:
		return status.Error(codes.Unauthenticated, "this key is not known, or there is none: authorization: Bearer <key>, or x-api-key")
	}
	call.key = key
	return nil
}

// allowCall refuses where the key has not the role, or has used up its rate.
func allowCall(ctx context.Context, n int, roles ...Role) error {
	key := callOf(ctx).key
	if !key.may(roles...) {
		return status.Error(codes.PermissionDenied, "this key has not the role that the call asks for")
	}
	if wait, ok := key.take(time.Now(), n); !ok {
		return busy(wait, "this key has used up its rate")
	}
	return nil
}

func busy(wait time.Duration, message string) error {
	return detailed(codes.ResourceExhausted, message, &errdetails.RetryInfo{RetryDelay: durationpb.New(wait)})
}

func wrongArgument(field, message string) error {
	return detailed(codes.InvalidArgument, field+" "+message, &errdetails.BadRequest{
		FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: field, Description: message}},
	})
}

func detailed(code codes.Code, message string, detail protoadapt.MessageV1) error {
	refused := status.New(code, message)
	if with, err := refused.WithDetails(detail); err == nil {
		refused = with
	}
	return refused.Err()
}

// grpcService answers the calls of onrampv1.
type grpcService struct {
	onrampv1.UnimplementedOnrampServer

	server *Server
	ended  <-chan struct{} // closed when the server stops: streams end then
}

// Publish implements onrampv1.OnrampServer.
func (g *grpcService) Publish(ctx context.Context, in *onrampv1.PublishRequest) (*onrampv1.PublishResponse, error) {
	events := in.GetEvents()
	switch {
	case g.server.intake == nil:
		return nil, status.Error(codes.Unimplemented, "this server takes no events")
	case len(events) == 0:
		return nil, wrongArgument("events", "is empty")
	case len(events) > maxBatchItems:
		return nil, wrongArgument("events", fmt.Sprintf("has %d; at most %d are taken at once", len(events), maxBatchItems))
	}
	if err := allowCall(ctx, len(events), RoleWrite); err != nil {
		return nil, err
	}
	answer := &onrampv1.PublishResponse{EventIds: make([]string, len(events))}
	reject := func(index int, reason schema.Reason, field, message string) {
		answer.Rejected = append(answer.Rejected, &onrampv1.Rejected{Index: uint32(index), Code: string(reason), Field: field, Message: message}) //nolint:gosec // at most 2,500
	}
	var good []tracked
	for i, event := range events {
		one, err := trackedEvent(event)
		if err != nil {
			rejection, ok := errors.AsType[*schema.Rejection](err)
			if !ok {
				rejection = refusal(schema.ReasonMalformedJSON, "", "cannot be written as an event")
			}
			reject(i, rejection.Reason, rejection.Field, rejection.Message)
			continue
		}
		one.index, answer.EventIds[i] = i, one.eventID
		good = append(good, one)
	}
	g.server.verdict(VerdictRefused, len(answer.GetRejected()))
	kept, err := g.server.keep(ctx, callOf(ctx).key, good)
	switch {
	case errors.Is(err, errBusy):
		return nil, busy(patienceBusy, "the stream takes no more at the moment; nothing was acknowledged, publish it again")
	case err != nil:
		return nil, detailed(codes.Unavailable, "the stream does not answer; nothing was acknowledged, publish it again", &errdetails.RetryInfo{RetryDelay: durationpb.New(patienceAway)})
	}
	for _, k := range kept.conflicts {
		answer.EventIds[good[k].index] = ""
		reject(good[k].index, reasonConflict, "event_id", conflictMessage)
	}
	answer.Accepted, answer.Duplicates = uint32(len(good)-len(kept.conflicts)), uint32(kept.duplicates) //nolint:gosec // at most 2,500
	return answer, nil
}

// trackedEvent is a message as the event that ingest will read. Errors are *schema.Rejection.
func trackedEvent(in *onrampv1.Event) (tracked, error) {
	event := schema.Event{
		EventID: in.GetEventId(), EventName: in.GetEventName(), UserID: in.GetUserId(), AnonymousID: in.GetAnonymousId(),
		PreviousID: in.GetPreviousId(), Backfill: in.GetBackfill(),
	}
	for _, text := range []string{event.EventID, event.EventName, event.UserID, event.AnonymousID, event.PreviousID} {
		if !utf8.ValidString(text) {
			return tracked{}, refusal(schema.ReasonInvalidUTF8, "", "is not valid UTF-8")
		}
	}
	made := event.EventID == ""
	if made {
		event.EventID = newMessageID()
	}
	for _, at := range []struct {
		field string
		from  *timestamppb.Timestamp
		into  *time.Time
	}{{"occurred_at", in.GetOccurredAt(), &event.OccurredAt}, {"sent_at", in.GetSentAt(), &event.SentAt}} {
		if at.from == nil {
			continue
		}
		if err := at.from.CheckValid(); err != nil {
			return tracked{}, refusal(schema.ReasonBadTimestamp, at.field, "is no time between the years 1 and 9999")
		}
		*at.into = at.from.AsTime()
	}
	var err error
	if event.Properties, err = objectFrom("properties", in.GetProperties()); err != nil {
		return tracked{}, err
	}
	if event.Traits, err = objectFrom("traits", in.GetTraits()); err != nil {
		return tracked{}, err
	}
	body, err := json.Marshal(event)
	if err != nil {
		return tracked{}, refusal(schema.ReasonMalformedJSON, "", "cannot be written as an event")
	}
	if len(body) > maxCallBytes {
		return tracked{}, refusal(schema.ReasonTooLarge, "", "an event has more than 32 KiB")
	}
	return trackedOf(body, made, time.Now())
}

// objectFrom writes a struct as JSON. Whole numbers are written as such: in a struct all numbers are doubles.
func objectFrom(field string, in *structpb.Struct) (json.RawMessage, error) {
	if in == nil {
		return nil, nil
	}
	raw, err := json.Marshal(in.AsMap())
	if err != nil {
		return nil, refusal(schema.ReasonNumberRange, field, "holds a number that JSON has no word for")
	}
	return raw, nil
}

// GetProfile implements onrampv1.OnrampServer.
func (g *grpcService) GetProfile(ctx context.Context, in *onrampv1.GetProfileRequest) (*onrampv1.Profile, error) {
	token, err := g.readable(ctx, in.GetUserId(), in.GetUserToken())
	if err != nil {
		return nil, err
	}
	profile, known := g.server.mirror.Get(token)
	switch {
	case known:
		return profileMessage(&profile), nil
	case !g.server.mirror.Ready():
		return nil, notReady()
	default:
		return nil, status.Error(codes.NotFound, "no event of this user has led to a profile")
	}
}

// WatchProfile implements onrampv1.OnrampServer.
func (g *grpcService) WatchProfile(in *onrampv1.WatchProfileRequest, stream grpc.ServerStreamingServer[onrampv1.Profile]) error {
	ctx := stream.Context()
	token, err := g.readable(ctx, in.GetUserId(), in.GetUserToken())
	if err != nil {
		return err
	}
	changed, stop := g.server.mirror.watch(token)
	defer stop()
	var sent uint64
	first := true
	for {
		if profile, known := g.server.mirror.Get(token); known && (first || profile.Sequence != sent) {
			if err := stream.Send(profileMessage(&profile)); err != nil {
				return err //nolint:wrapcheck // a status of gRPC
			}
			first, sent = false, profile.Sequence
		}
		select {
		case <-changed:
		case <-g.ended:
			return status.Error(codes.Unavailable, "the server stops; ask another, or again")
		case <-ctx.Done():
			return status.FromContextError(ctx.Err()).Err() //nolint:wrapcheck // likewise
		}
	}
}

// readable is the token of the user asked for, by a caller who may read.
func (g *grpcService) readable(ctx context.Context, id, token string) (string, error) {
	if err := allowCall(ctx, 1, RoleRead); err != nil {
		return "", err
	}
	switch {
	case g.server.mirror == nil:
		return "", status.Error(codes.Unimplemented, "this server knows no users")
	case (id == "") == (token == ""):
		return "", wrongArgument("user_id", "or user_token names the user; give one of them")
	case token != "" && schema.CheckToken(token) != nil:
		return "", wrongArgument("user_token", "is none")
	case token != "":
		return token, nil
	case len(id) > schema.MaxUserID || !utf8.ValidString(id):
		return "", wrongArgument("user_id", "is 1 to 256 bytes of UTF-8")
	default:
		return g.server.tokens.Of(id), nil
	}
}

func notReady() error {
	return detailed(codes.Unavailable, "the profiles are still being read in; ask again", &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
}

// EvaluateFlag implements onrampv1.OnrampServer.
func (g *grpcService) EvaluateFlag(ctx context.Context, in *onrampv1.EvaluateFlagRequest) (*onrampv1.Flag, error) {
	token, err := g.targeted(ctx, in.GetTargetingKey())
	if err != nil {
		return nil, err
	}
	one, found := g.server.oneFlag(token, in.GetFlag(), callOf(ctx).key.may(RoleRead))
	switch {
	case found:
		return flagMessage([]byte(one))
	case g.server.unread(token):
		return nil, notReady()
	default:
		return nil, status.Error(codes.NotFound, "this user has no such flag")
	}
}

// EvaluateFlags implements onrampv1.OnrampServer.
func (g *grpcService) EvaluateFlags(ctx context.Context, in *onrampv1.EvaluateFlagsRequest) (*onrampv1.EvaluateFlagsResponse, error) {
	token, err := g.targeted(ctx, in.GetTargetingKey())
	if err != nil {
		return nil, err
	}
	answer := &onrampv1.EvaluateFlagsResponse{}
	var all struct {
		Flags []json.RawMessage `json:"flags"`
	}
	if err := json.Unmarshal(g.server.flagsFor(token, callOf(ctx).key.may(RoleRead)).all(), &all); err != nil {
		return nil, unwritable()
	}
	for _, one := range all.Flags {
		message, err := flagMessage(one)
		if err != nil {
			return nil, err
		}
		answer.Flags = append(answer.Flags, message)
	}
	return answer, nil
}

// targeted is the token of the user that a targeting key names, for this caller.
func (g *grpcService) targeted(ctx context.Context, targetingKey string) (string, error) {
	if err := allowCall(ctx, 1, RoleRead, RoleWrite); err != nil {
		return "", err
	}
	switch {
	case g.server.mirror == nil:
		return "", status.Error(codes.Unimplemented, "this server knows no users")
	case strings.TrimSpace(targetingKey) == "":
		return "", wrongArgument("targeting_key", "is empty; it names the user")
	case len(targetingKey) > schema.MaxUserID || !utf8.ValidString(targetingKey):
		return "", wrongArgument("targeting_key", "has more than 256 bytes")
	}
	token, _, failure := g.server.tokenFor(callOf(ctx).key, targetingKey)
	if failure.ErrorCode != "" {
		return "", wrongArgument("targeting_key", failure.ErrorDetails)
	}
	return token, nil
}

// stampOf is a moment in Unix milliseconds as a message; nil for none.
func stampOf(ms int64) *timestamppb.Timestamp {
	if ms == 0 {
		return nil
	}
	return timestamppb.New(time.UnixMilli(ms))
}

func profileMessage(p *schema.Profile) *onrampv1.Profile {
	out := &onrampv1.Profile{
		UserToken: p.UserToken, Sequence: p.Sequence, UpdatedAt: stampOf(p.UpdatedAt), Playbook: p.Playbook, Stage: p.Stage, Variants: p.Variants,
		NextAt: stampOf(p.NextAt), NextChange: p.NextChange, LastEventId: p.LastEvent, MergedInto: p.MergedInto,
	}
	for _, m := range p.Segments {
		out.Segments = append(out.Segments, &onrampv1.Membership{
			Segment: m.Segment, In: m.In, Unknown: m.Unknown, Since: stampOf(m.Since), Reason: m.Reason, Until: stampOf(m.Until),
		})
	}
	for _, j := range p.Journeys {
		out.Journeys = append(out.Journeys, &onrampv1.JourneyStatus{
			Journey: j.Journey, EnrollmentId: j.EnrollmentID, StartedAt: stampOf(j.StartedAt), StepKey: j.StepKey, Waiting: j.Waiting,
			Deadline: stampOf(j.Deadline), Ended: j.Ended, EndedAt: stampOf(j.EndedAt), Converted: j.Converted, Paused: j.Paused,
		})
	}
	return out
}

// flagMessage reads a flag as it is sent over HTTP, so that nobody is told anything else.
func flagMessage(raw []byte) (*onrampv1.Flag, error) {
	var f struct {
		Key      string          `json:"key"`
		Value    json.RawMessage `json:"value"`
		Reason   string          `json:"reason"`
		Variant  string          `json:"variant"`
		Metadata json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, unwritable()
	}
	out := &onrampv1.Flag{Key: f.Key, Value: &structpb.Value{}, Reason: f.Reason, Variant: f.Variant}
	if err := out.GetValue().UnmarshalJSON(f.Value); err != nil {
		return nil, unwritable()
	}
	if len(f.Metadata) > 0 {
		out.Metadata = &structpb.Struct{}
		if err := out.GetMetadata().UnmarshalJSON(f.Metadata); err != nil {
			return nil, unwritable()
		}
	}
	return out, nil
}

func unwritable() error { return status.Error(codes.Internal, "a flag cannot be written as a message") }
