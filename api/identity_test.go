package api_test

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/onramphq/onramp/api"
	"github.com/onramphq/onramp/internal/testenv"
	"github.com/onramphq/onramp/schema"
)

// TestTrackingNamesTheVisitor: what a call says of the visitor beside its user stands in the event, and nothing where that is nobody.
func TestTrackingNamesTheVisitor(t *testing.T) {
	t.Parallel()
	d := openDoor(t)
	for i, c := range []struct{ route, body, anonymous, previous string }{
		{"/v1/identify", `"userId":"u1","anonymousId":"a-1"`, "a-1", ""},
		{"/v1/track", `"userId":"u1","anonymousId":"a-1","event":"Report Shared"`, "a-1", ""},
		{"/v1/track", `"anonymousId":"a-1","event":"Report Shared"`, "", ""},
		{"/v1/track", `"userId":"u1","anonymousId":"undefined","event":"Report Shared"`, "", ""},
		{"/v1/track", `"userId":"u1","anonymousId":null,"event":"Report Shared"`, "", ""},
		{"/v1/identify", `"userId":"u1","anonymousId":"u1"`, "", ""},
		{"/v1/identify", `"userId":"u1","anonymousId":77`, "77", ""},
		{"/v1/alias", `"userId":"u1","previousId":"old"`, "", "old"},
		{"/v1/alias", `"userId":"u1","previousId":"a-1","anonymousId":"a-1"`, "a-1", "a-1"},
	} {
		w := post(t, d.handler, c.route, fmt.Sprintf(`{"messageId":"m%d",%s}`, i, c.body))
		require.Equal(t, http.StatusOK, w.Code, w.Body.String())
		all := d.stored(t)
		got := all[len(all)-1]
		require.Equal(t, c.anonymous, got.AnonymousID, c.body)
		require.Equal(t, c.previous, got.PreviousID, c.body)
	}
	for body, code := range map[string]string{
		`"userId":"u1","previousId":"u1"`:   "merge_cycle",
		`"userId":"u1","previousId":"null"`: "illegal_id",
		`"userId":"u1"`:                     "missing_user",
	} {
		w := post(t, d.handler, "/v1/alias", `{"messageId":"x",`+body+`}`)
		require.Contains(t, w.Body.String(), `"code":"`+code+`"`, body)
		require.Contains(t, w.Body.String(), `"field":"previousId"`, body)
	}
	require.Len(t, d.stored(t), 9)
}

// TestMirrorFollowsMerges: who has become another is answered with the other's profile, along a chain, and whatever comes first.
func TestMirrorFollowsMerges(t *testing.T) {
	t.Parallel()
	js := testenv.NewBroker(t).Connect(t)
	makeStream(t, js)
	pointer := func(id, into string, sequence uint64) schema.Profile {
		p := profileOf(id, sequence)
		p.Stage, p.MergedInto = schema.StageMerged, tokenOf(into)
		return p
	}
	publish(t, js, pointer("visitor", "ann", 4))
	m := api.NewMirror(js, quiet())
	run(t, m)
	ready(t, m)
	profile, known := m.Get(tokenOf("visitor"))
	require.True(t, known)
	require.Equal(t, tokenOf("ann"), profile.MergedInto, "nothing is known of the other yet: the profile says where to ask")
	publish(t, js, profileOf("ann", 2))
	reaches(t, m, "visitor", 2)
	publish(t, js, pointer("ann", "ann at work", 3))
	publish(t, js, profileOf("ann at work", 9))
	reaches(t, m, "ann", 9)
	reaches(t, m, "visitor", 9)
	publishRaw(t, js, tokenOf("visitor"), nil)
	require.Eventually(t, func() bool { _, known := m.Get(tokenOf("visitor")); return !known }, patience, poll, "erased")
}
