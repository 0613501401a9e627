package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/schema"
)

type waited struct {
	Success   bool            `json:"success"`
	MessageID string          `json:"message_id"`
	Duplicate bool            `json:"duplicate"`
	Profile   *schema.Profile `json:"profile"`
	Pending   string          `json:"pending"`
}

// TestTrackAndWait: the event is in the stream before anybody waits for it, and the answer comes when it is taken, or says that it is not.
func TestTrackAndWait(t *testing.T) {
	t.Parallel()
	var d *door
	var asked atomic.Uint64
	d = openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Applied = func(ctx context.Context, token string, event *schema.Received) (schema.Profile, error) {
			stream, err := d.js.Stream(ctx, schema.EventsStream)
			if err != nil {
				return schema.Profile{}, err
			}
			if _, err := stream.GetMsg(ctx, event.Sequence); err != nil {
				return schema.Profile{}, err
			}
			asked.Store(event.Sequence)
			if event.EventName == "slow" {
				<-ctx.Done()
				return schema.Profile{}, ctx.Err()
			}
			return schema.Profile{UserToken: token, LastEvent: event.ID}, nil
		}
	})
	track := func(path, body string) (int, waited) {
		w := post(t, d.handler, path, body)
		var answer waited
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body.String())
		return w.Code, answer
	}
	code, answer := track("/v1/track?wait=profile", `{"messageId":"m1","userId":"ann","event":"Signed Up"}`)
	require.Equal(t, http.StatusOK, code)
	require.Equal(t, tokenOf("ann"), answer.Profile.UserToken)
	require.Equal(t, "m1", answer.Profile.LastEvent)
	require.Equal(t, uint64(1), asked.Load())
	_, _ = track("/v1/track", `{"messageId":"m2","userId":"ann","event":"Other"}`)
	code, answer = track("/v1/track?wait=profile", `{"messageId":"m1","userId":"ann","event":"Signed Up"}`)
	require.Equal(t, http.StatusOK, code)
	require.True(t, answer.Duplicate)
	require.Equal(t, uint64(1), asked.Load(), "the first of the same id is waited for")

	began := time.Now()
	code, answer = track("/v1/track?wait=profile", `{"messageId":"m3","userId":"ann","event":"slow"}`)
	require.Equal(t, http.StatusAccepted, code)
	require.True(t, answer.Success)
	require.Nil(t, answer.Profile)
	require.Equal(t, "accepted, not yet applied", answer.Pending)
	require.Less(t, time.Since(began), 10*time.Second)
	require.Len(t, d.stored(t), 3)

	require.Equal(t, "wait", refusalOf(t, post(t, d.handler, "/v1/track?wait=soon", `{"userId":"ann","event":"E"}`)).Error.Field)
	require.Len(t, d.stored(t), 3, "what is refused is not stored")
}

// TestTrackAndWaitKeys: a key that stands in a page sends events for anybody, and would read anybody.
func TestTrackAndWaitKeys(t *testing.T) {
	t.Parallel()
	d := openDoor(t, func(c *api.Config, _ *jetstream.StreamConfig) {
		c.Keys = ring(t, entry("w", api.RoleWrite, "write"), entry("a", api.RoleAdmin, "admin"))
		c.Applied = func(_ context.Context, token string, _ *schema.Received) (schema.Profile, error) {
			return schema.Profile{UserToken: token}, nil
		}
	})
	const body = `{"userId":"ann","event":"E"}`
	require.Equal(t, http.StatusForbidden, post(t, d.handler, "/v1/track?wait=profile", body, "Authorization", basic("write")).Code)
	require.Equal(t, http.StatusOK, post(t, d.handler, "/v1/track?wait=profile", body, "Authorization", basic("admin")).Code)
	require.Len(t, d.stored(t), 1)
	none := openDoor(t)
	require.Equal(t, http.StatusBadRequest, post(t, none.handler, "/v1/track?wait=profile", body).Code)
}

// TestUserAtAMoment: what the user was is asked of what keeps it; what is wrong is said.
func TestUserAtAMoment(t *testing.T) {
	t.Parallel()
	var problem error
	handler := api.New(api.Config{WorkspaceKey: key(), Past: func(_ context.Context, token string, at time.Time) (any, error) {
		return map[string]any{"user_token": token, "at": at.UnixMilli()}, problem
	}}, filled(t), nil, quiet()).Handler()
	w := get(t, handler, "/v1/users/ann?at=2026-11-01T10:00:00%2B01:00")
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.JSONEq(t, `{"user_token":"`+tokenOf("ann")+`","at":1793523600000}`, w.Body.String())
	require.Equal(t, http.StatusNotModified, get(t, handler, "/v1/users/ann?at=2026-11-01T10:00:00%2B01:00", "If-None-Match", w.Header().Get("ETag")).Code)
	for _, at := range []string{"yesterday", "2026-11-01", "2999-01-01T00:00:00Z", "2026-11-01T10:00:00+01:00"} {
		w := get(t, handler, "/v1/users/ann?at="+at)
		require.Equal(t, http.StatusBadRequest, w.Code, at)
		require.Equal(t, "at", refusalOf(t, w).Error.Field)
	}
	problem = &schema.Error{Code: schema.CodeNotFound, Message: "nothing"}
	require.Equal(t, http.StatusNotFound, get(t, handler, "/v1/users/ann?at=2026-11-01T10:00:00Z").Code)
	problem = errors.New("away")
	w = get(t, handler, "/v1/users/ann?at=2026-11-01T10:00:00Z")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Contains(t, refusalOf(t, w).Error.Message, "ClickHouse")
	require.NotEmpty(t, w.Header().Get("Retry-After"))
	require.Equal(t, http.StatusOK, get(t, handler, "/v1/users/ann").Code, "what is now needs no past")
	none := get(t, serverOf(filled(t)).Handler(), "/v1/users/ann?at=2026-11-01T10:00:00Z")
	require.Equal(t, http.StatusNotFound, none.Code)
}
