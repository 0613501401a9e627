package schema_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/schema"
)

// TestIdsOfOthers: who becomes one with the user is held to what the user's own id is, and the field at fault is named.
func TestIdsOfOthers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`"anonymous_id":"v"`:                                "",
		`"anonymous_id":null`:                               "",
		`"anonymous_id":""`:                                 "",
		`"anonymous_id":"u"`:                                "", // the user's own id says nothing
		`"anonymous_id":"undefined"`:                        "illegal_id anonymous_id",
		`"anonymous_id":7`:                                  "wrong_type anonymous_id",
		`"anonymous_id":"a\nb"`:                             "bad_id anonymous_id",
		`"anonymous_id":" "`:                                "missing_user anonymous_id",
		`"anonymous_id":"` + strings.Repeat("x", 257) + `"`: "id_too_long anonymous_id",
		`"previous_id":"v"`:                                 "",
		`"previous_id":null`:                                "",
		`"previous_id":"u"`:                                 "merge_cycle previous_id",
		`"previous_id":"null"`:                              "illegal_id previous_id",
		`"previous_id":[]`:                                  "wrong_type previous_id",
	} {
		event, err := schema.DecodeEvent([]byte(`{"event_name":"alias","user_id":"u",` + body + `}`))
		if want == "" {
			require.NoError(t, err, body)
			require.Contains(t, []string{"", "v", "u"}, event.AnonymousID+event.PreviousID, body)
			continue
		}
		rejection, ok := err.(*schema.Rejection) //nolint:errorlint // it is returned as it is
		require.True(t, ok, body)
		require.Equal(t, want, string(rejection.Reason)+" "+rejection.Field, body)
	}
	_, err := schema.DecodeEvent([]byte(`{"event_name":"seen","user_id":"u","previous_id":"v"}`))
	require.ErrorContains(t, err, "previous_id")
}

func TestCanaryJoinsNobody(t *testing.T) {
	t.Parallel()
	event, err := schema.DecodeEvent([]byte(`{"event_name":"onramp_canary","user_id":"u"}`))
	require.NoError(t, err)
	require.True(t, event.Canary())
	_, err = schema.DecodeEvent([]byte(`{"event_name":"onramp_canary","user_id":"u","anonymous_id":"v"}`))
	require.ErrorContains(t, err, "anonymous_id")
}
