package events_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestRolloutRef(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]events.RolloutRef{
		"win11-november/1/0/2":               {Name: "win11-november", Plan: 1, Attempt: 2},
		"0/0/0/0":                            {Name: "0"},
		strings.Repeat("a", 40) + "/1/99/13": {Name: strings.Repeat("a", 40), Plan: 1, Batch: 99, Attempt: 13},
		"a/999999999/1/1":                    {Name: "a", Plan: 999999999, Batch: 1, Attempt: 1},
	} {
		got, err := events.ParseRolloutRef(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
		require.Equal(t, text, got.String())
	}
	for _, text := range []string{
		"", "a", "a/1/2", "a/1/2/3/4", "a/1/2/3/", "/1/2/3", "A/1/2/3", "a b/1/2/3", "a_b/1/2/3", "ü/1/2/3", strings.Repeat("a", 41) + "/1/2/3",
		"a/01/2/3", "a/+1/2/3", "a/-1/2/3", "a/1/2/x", "a/1/2/", "a//2/3", "a/1000000000/2/3", "a/99999999999999999999/2/3", " a/1/2/3", "a/1/2/3\n",
	} {
		_, err := events.ParseRolloutRef(text)
		require.ErrorContains(t, err, "must be name/plan/batch/attempt", "%q", text)
	}
}

// The attribute goes along with the command that an event implies, and is not written where it is not set.
func TestTheRolloutOfAnEnvelope(t *testing.T) {
	t.Parallel()
	e := samples()[events.TypeJobCompleted+".rebuild"]
	require.NotEmpty(t, e.ID)
	require.NotContains(t, string(mustJSON(e)), "rollout")
	e.Rollout = "nov/1/0/1"
	implied, err := e.Implies(events.FnCheckImages, events.CheckImages{DesktopIDs: []string{"d"}})
	require.NoError(t, err)
	require.Equal(t, e.Rollout, implied.Rollout)
	var read events.Envelope
	require.NoError(t, json.Unmarshal(mustJSON(e), &read))
	require.Equal(t, e.Rollout, read.Rollout)
}

func TestTheNameOfARolloutIsSafeToPrint(t *testing.T) {
	t.Parallel()
	_, err := events.DecodeRollout(events.TypeRolloutPause)(json.RawMessage(`{"name":"a\u001b[2J"}`))
	require.ErrorContains(t, err, `name: may have a to z, 0 to 9 and - only; got a\u001b[2J`)
}
