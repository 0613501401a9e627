package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/onramphq/onramp/api/onrampv1"
	"github.com/onramphq/onramp/schema"
)

// TestTrackedUser sends a call of an SDK to the program, and reads what became of it as a profile and as a flag, over
// HTTP and gRPC.
func TestTrackedUser(t *testing.T) {
	t.Parallel()
	p := startDev(t, t.TempDir(), "--grpc-addr", "127.0.0.1:0")
	ask := func(path, body string) (int, []byte) {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, p.addrs["api"]+path, strings.NewReader(body))
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(request)
		require.NoError(t, err)
		defer response.Body.Close()
		answer, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, answer
	}
	code, body := ask("/v1/track", `{"messageId":"m1","userId":"tracked@example.com","event":"Signed Up","properties":{"plan":"pro"}}`)
	require.Equal(t, 200, code, string(body))
	require.JSONEq(t, `{"success":true,"message_id":"m1"}`, string(body))
	eventually(t, 20*time.Second, "the profile", func() bool {
		code, _ := get(t, p.addrs["api"]+"/v1/users/tracked%40example.com")
		return code == 200
	})
	code, body = ask("/ofrep/v1/evaluate/flags/segment.new_user", `{"context":{"targetingKey":"tracked@example.com"}}`)
	require.Equal(t, 200, code, string(body))
	var flag struct {
		Value bool `json:"value"`
	}
	require.NoError(t, json.Unmarshal(body, &flag))
	require.True(t, flag.Value)
	conn, err := grpc.NewClient(p.addrs["grpc"], grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	profile, err := onrampv1.NewOnrampClient(conn).GetProfile(t.Context(), &onrampv1.GetProfileRequest{UserId: "tracked@example.com"})
	require.NoError(t, err)
	require.Equal(t, "m1", profile.GetLastEventId())

	// Whoever waits has the profile with the event in it, in the order of the stream; one that nothing reads changes nothing.
	var took []time.Duration
	for n, name := range []string{"Feature Viewed", "Feature Used", "Nothing Reads This", "Feature Used", "Onboarding Completed"} {
		id, began := fmt.Sprint("w", n), time.Now()
		code, body = ask("/v1/track?wait=profile", `{"messageId":"`+id+`","userId":"tracked@example.com","event":"`+name+`"}`)
		require.Equal(t, 200, code, string(body))
		took = append(took, time.Since(began))
		var answer struct {
			Profile schema.Profile `json:"profile"`
		}
		require.NoError(t, json.Unmarshal(body, &answer))
		if name != "Nothing Reads This" {
			require.Equal(t, id, answer.Profile.LastEvent, string(body))
		}
	}
	t.Logf("answers with the profile took %v", took)
	code, body = ask("/v1/track?wait=profile", `{"messageId":"n1","userId":"newcomer@example.com","event":"Signed Up"}`)
	require.Equal(t, 200, code, "the workflow is not there yet: %s", body)
	require.Contains(t, string(body), `"new_user","in":true`)

	// What the user was a moment ago is what the profile said then, once the rows are there.
	var now schema.Profile
	_, body = get(t, p.addrs["api"]+"/v1/users/tracked%40example.com")
	require.NoError(t, json.Unmarshal(body, &now))
	eventually(t, 30*time.Second, "the past", func() bool {
		code, body := get(t, p.addrs["api"]+"/v1/users/tracked%40example.com?at="+time.Now().UTC().Format(time.RFC3339Nano))
		var past struct {
			Stage    string              `json:"stage"`
			Segments []schema.Membership `json:"segments"`
		}
		return code == 200 && json.Unmarshal(body, &past) == nil && past.Stage == now.Stage && inSegments(past.Segments) == inSegments(now.Segments)
	})
}

func inSegments(list []schema.Membership) string {
	var in []string
	for _, m := range list {
		if m.In {
			in = append(in, m.Segment)
		}
	}
	slices.Sort(in)
	return strings.Join(in, " ")
}
