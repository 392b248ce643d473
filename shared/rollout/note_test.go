package rollout

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// An event whose data cannot be read changes nothing, and the step reports it.
func TestAnEventThatCannotBeReadIsReported(t *testing.T) {
	t.Parallel()
	unreadable := json.RawMessage(`{"command": 5}`)
	for _, typ := range []string{
		events.TypeDesktopsListed, events.TypeImagesChecked, events.TypeJobAccepted, events.TypeCommandUnclear,
		events.TypeCommandSplit, events.TypeJobCompleted, events.TypeCommandFailed,
	} {
		s := &step{Facts: Facts{Now: t0}}
		s.noteBatch(&Batch{}, Event{Type: typ, Data: unreadable})
		require.ErrorContains(t, s.unread, typ+": ")
		s.unread = nil
		s.noteBatch(&Batch{}, Event{Type: typ, Data: json.RawMessage(`{}`)})
		require.NoError(t, s.unread)
	}

	reading := &Reading{Step: stepFleet, Request: &Request{ID: "l", At: t0}}
	head, err := json.Marshal(Head{Name: "r", Phase: Planning, Plan: 1, Reading: reading})
	require.NoError(t, err)
	in := map[string][]byte{HeadKey("r"): head}
	noted := func(data json.RawMessage) Result {
		for {
			e := Event{Type: events.TypeDesktopsListed, ID: "e", Time: t0, Plan: 1, Data: data}
			r, err := Step("r", in, e, Facts{Now: t0.Add(time.Second)})
			require.NoError(t, err)
			if len(r.Missing) == 0 {
				return r
			}
			for _, key := range r.Missing {
				in[key] = nil
			}
		}
	}
	require.ErrorContains(t, noted(unreadable).Unread, events.TypeDesktopsListed+": json: cannot unmarshal number")
	require.NoError(t, noted(json.RawMessage(`{"command": {"id": "another"}}`)).Unread)
}
