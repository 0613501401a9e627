package api

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"github.com/onramphq/onramp/schema"
)

// What the service is called in the discovery of NATS. ServiceVersion is that of the questions and
// answers, not of the program.
const (
	ServiceName    = "onramp"
	ServiceVersion = "1.0.0"
	serviceQueue   = "onramp-api"

	enginesSubjects = "onramp." // with $ the beginnings of all that nobody may have the engine write to for them

	subjectWeb     = "onramp.web.*" // browsers; see web.go
	describeFlags  = "As POST /ofrep/v1/evaluate/flags over HTTP"
	describeUser   = "What a user is right now, from memory, as GET /v1/users/{id} over HTTP"
	describeWeb    = "For browsers; the user stands in the subject"
	requestProfile = `{"user_id":"string"} or {"user_token":"string"}`
	requestFlag    = `{"key":"string","context":{"targetingKey":"string"}}`
	requestFlags   = `{"context":{"targetingKey":"string"}}`
)

// ServeNATS answers the questions of services, and of browsers that have credentials, by NATS request on nc until ctx ends: as a service of
// NATS's own framework, so that `nats service` finds it. Every process that runs it shares the work. Who may ask is for the permissions of
// NATS to say. It takes up again by itself when NATS comes back. Errors: unavailable where nc is closed.
func (s *Server) ServeNATS(ctx context.Context, nc *nats.Conn) error {
	service, err := micro.AddService(nc, micro.Config{
		Name: ServiceName, Version: ServiceVersion, QueueGroup: serviceQueue,
		Description: "Profiles and flags of users, and events of browsers",
		Metadata:    map[string]string{"build": s.cfg.Version, "profiles": schema.ProfileSubject("<user_token>")},
		ErrorHandler: func(_ micro.Service, err *micro.NATSError) {
			s.logger.WarnContext(ctx, "service over NATS", slog.String("subject", schema.Clean(err.Subject)), slog.Any("error", err))
		},
	})
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "offer the service over NATS", Err: err}
	}
	if err := s.addEndpoints(ctx, service); err != nil {
		return errors.Join(&schema.Error{Code: schema.CodeUnavailable, Message: "offer the service over NATS", Err: err}, service.Stop())
	}
	s.logger.InfoContext(ctx, "service answers over NATS", slog.String("id", service.Info().ID))
	<-ctx.Done()
	if err := service.Stop(); err != nil && !nc.IsClosed() {
		s.logger.WarnContext(ctx, "service over NATS not stopped in order", slog.Any("error", err)) // NATS is away
	}
	return nil
}

func (s *Server) addEndpoints(ctx context.Context, service micro.Service) error {
	add := func(name, subject, describe, request string, handle func(micro.Request)) error {
		err := service.AddEndpoint(name, s.answerable(ctx, handle), micro.WithEndpointSubject(subject),
			micro.WithEndpointMetadata(map[string]string{"description": describe, "request": request, "format": "application/json"}))
		if err != nil {
			return fmt.Errorf("endpoint %s: %w", name, err)
		}
		return nil
	}
	var problems []error
	if s.mirror != nil {
		problems = append(problems,
			add("profile", schema.SubjectProfile, describeUser, requestProfile, s.serviceProfile),
			add("flag", schema.SubjectFlag, describeFlags+"/{key}", requestFlag, s.serviceFlag),
			add("flags", schema.SubjectFlags, describeFlags, requestFlags, s.serviceFlags),
			add("web-profile", subjectWeb+".profile", describeWeb, "", s.webProfile),
			add("web-flags", subjectWeb+".flags", describeWeb, "", s.webFlags),
		)
	}
	if s.intake != nil {
		problems = append(problems, add("web-track", subjectWeb+".track", describeWeb, `{"event_name":"string","event_id":"string","properties":{}}`,
			func(r micro.Request) { s.webTrack(ctx, r) }))
	}
	return errors.Join(problems...)
}

// answerable leaves out requests whose answer would go where only the engine may write. Who may ask may name any subject to answer to, and
// the answer goes there with the rights of this connection: into a stream of events, or to JetStream as a command.
func (s *Server) answerable(ctx context.Context, handle func(micro.Request)) micro.HandlerFunc {
	return func(r micro.Request) {
		if reply := r.Reply(); strings.HasPrefix(reply, "$") || strings.HasPrefix(reply, enginesSubjects) {
			s.logger.WarnContext(ctx, "request over NATS left out: its answer would go to a subject of the engine's",
				slog.String("subject", schema.Clean(r.Subject())), slog.String("reply", schema.Clean(reply)))
			return
		}
		handle(r)
	}
}

// serviceProblem is an answer that is an error: the framework's two headers, and the body that an error has over HTTP.
type serviceProblem struct {
	status int
	detail problemDetail
}

func (s *Server) fail(r micro.Request, p serviceProblem) {
	p.detail.RequestID = rand.Text()
	body, err := json.Marshal(problem{p.detail})
	if err == nil {
		err = r.Error(strconv.Itoa(p.status), string(p.detail.Code)+": "+p.detail.Message, body)
	}
	s.unsent(err)
}

func (s *Server) unsent(err error) {
	if err != nil { // whoever asked waits in vain, and asks again
		s.logger.Debug("answer over NATS not sent", slog.Any("error", err))
	}
}

func invalid(field, message string) *serviceProblem {
	return &serviceProblem{http.StatusBadRequest, problemDetail{Code: schema.CodeInvalid, Field: field, Message: message}}
}

// membersOf reads a question strictly.
func membersOf(raw []byte, known ...string) (map[string]json.RawMessage, *serviceProblem) {
	if len(raw) > maxContextBytes {
		return nil, invalid("", "the question has more than 64 KiB")
	}
	members, err := schema.ReadObject(raw)
	if err != nil {
		p := invalid("", "the question is not a JSON object")
		if rejection, ok := errors.AsType[*schema.Rejection](err); ok {
			p.detail.Message = string(rejection.Reason) + ": " + rejection.Message
		}
		return nil, p
	}
	for name := range members {
		if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+name+" ") {
			return nil, invalid(schema.Clean(name), "is not known here; known are "+strings.Join(known, ", "))
		}
	}
	return members, nil
}

// userText reads an id of 1 to 256 bytes.
func userText(members map[string]json.RawMessage, name, field string) (string, *serviceProblem) {
	raw := members[name]
	if isNull(raw) || jsontext.Value(raw).Kind() != '"' {
		return "", invalid(field, "is missing, or is not a string")
	}
	text := textOf(raw)
	if strings.TrimSpace(text) == "" || len(text) > schema.MaxUserID || !utf8.ValidString(text) {
		return "", invalid(field, "must have 1 to 256 bytes of UTF-8")
	}
	return text, nil
}

func (s *Server) serviceProfile(r micro.Request) {
	token, problem := s.profileToken(r.Data())
	if problem != nil {
		s.fail(r, *problem)
		return
	}
	s.replyProfile(r, token)
}

func (s *Server) profileToken(raw []byte) (string, *serviceProblem) {
	members, problem := membersOf(raw, "user_id", "user_token")
	if problem != nil {
		return "", problem
	}
	_, byID := members["user_id"]
	if _, byToken := members["user_token"]; byID == byToken {
		return "", invalid("user_id", "either user_id or user_token names the user")
	}
	if byID {
		id, problem := userText(members, "user_id", "user_id")
		return s.tokens.Of(id), problem
	}
	token, problem := userText(members, "user_token", "user_token")
	if problem == nil && schema.CheckToken(token) != nil {
		problem = invalid("user_token", "is not a user token")
	}
	return token, problem
}

func (s *Server) replyProfile(r micro.Request, token string) {
	raw, ok := s.mirror.raw(token)
	if !ok {
		s.fail(r, s.nobody())
		return
	}
	s.unsent(r.Respond([]byte(raw)))
}

// nobody tells a user nobody has seen from one that is not read in yet.
func (s *Server) nobody() serviceProblem {
	if !s.mirror.Ready() {
		return serviceProblem{http.StatusServiceUnavailable, problemDetail{Code: schema.CodeUnavailable, Message: "the profiles are still being read in; ask again"}}
	}
	return serviceProblem{http.StatusNotFound, problemDetail{Code: schema.CodeNotFound, Field: "user_id", Message: "no event of this user has led to a profile"}}
}

// contextToken reads who is asked about, in the words of OpenFeature.
func (s *Server) contextToken(members map[string]json.RawMessage) (string, *serviceProblem) {
	context := members["context"]
	if isNull(context) || jsontext.Value(context).Kind() != '{' {
		return "", invalid("context", `is missing, or is not an object: {"context":{"targetingKey":"u42"}}`)
	}
	inner, err := schema.ReadObject(context)
	if err != nil {
		return "", invalid("context", "is not an object that can be read")
	}
	id, problem := userText(inner, "targetingKey", "context.targetingKey")
	if problem != nil {
		return "", problem
	}
	token, _, failure := s.tokenFor(freeKey, id) // whoever may ask here is a service
	if failure.ErrorCode != "" {
		return "", invalid("context.targetingKey", failure.ErrorDetails)
	}
	return token, nil
}

func (s *Server) serviceFlag(r micro.Request) {
	members, problem := membersOf(r.Data(), "key", "context")
	var token, name string
	if problem == nil {
		name, problem = userText(members, "key", "key")
	}
	if problem == nil {
		token, problem = s.contextToken(members)
	}
	if problem != nil {
		s.fail(r, *problem)
		return
	}
	if one, found := s.oneFlag(token, name, true); found {
		s.unsent(r.Respond([]byte(one)))
		return
	}
	if _, known := s.mirror.raw(token); !known {
		p := s.nobody()
		p.detail.Field = "context.targetingKey"
		s.fail(r, p)
		return
	}
	s.fail(r, serviceProblem{http.StatusNotFound, problemDetail{Code: schema.CodeNotFound, Field: "key", Message: "this user has no such flag"}})
}

func (s *Server) serviceFlags(r micro.Request) {
	members, problem := membersOf(r.Data(), "context")
	var token string
	if problem == nil {
		token, problem = s.contextToken(members)
	}
	if problem != nil {
		s.fail(r, *problem)
		return
	}
	s.unsent(r.Respond(s.flagsFor(token, true).all()))
}
