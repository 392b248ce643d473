package rollout

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestTheStatusShowsTheSettingsInForce(t *testing.T) {
	t.Parallel()
	w := calm(t, 5)
	w.start("r", strategy(0, whole, 5, "20%"), nil)
	w.until("r", Running)
	status := func() (Status, string) {
		v := &View{Head: w.head("r")}
		s := v.Status(w.now)
		return s, text(v.Lines(s, w.now, Layout{}))
	}
	s, lines := status()
	require.Equal(t, Settings{MaxUnavailable: 5, MaxFailed: Amount{IsShare: true, Percent: 20}}, s.Settings)
	require.Nil(t, s.Given)
	require.NotContains(t, lines, "settings")

	w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: 4})
	w.do("r", events.TypeRolloutSet, events.RolloutCommand{
		MaxFailed: json.RawMessage("1"), Window: json.RawMessage(`{"days": ["sat"], "from": "20:00", "to": "06:00", "timezone": "UTC"}`),
	})
	s, lines = status()
	require.Contains(t, lines, "settings  max_unavailable 4 (spec: 5); max_failed 1 (spec: 20%); "+
		"window sat, 20:00 to 06:00 UTC (spec: at any time)\n")
	raw, err := json.Marshal(s)
	require.NoError(t, err)
	require.Contains(t, string(raw), `"settings":{"max_unavailable":4,"max_failed":1,"window":{"days":["sat"],"from":"20:00","to":"06:00",`+
		`"timezone":"UTC"}},"spec_settings":{"max_unavailable":5,"max_failed":"20%"}`)

	w = calm(t, 5)
	w.start("r", strategy(0, whole, 5, "20%"), nil)
	w.until("r", Running)
	for _, n := range []int64{4, 5} {
		w.do("r", events.TypeRolloutSet, events.RolloutCommand{MaxUnavailable: n})
	}
	s, lines = status()
	require.Nil(t, s.Given, "they are those of the spec")
	require.NotContains(t, lines, "settings")
}
