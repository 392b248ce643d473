package rollout

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The command of a batch fails as a whole if the lists refuse one of its desktops. The others get a new attempt.
func TestADeniedDesktopTakesNoOtherOutOfTheRollout(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]odds{"whole": {}, "divided": {split: 60}, "without events": {lose: 30, double: 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, 1, 60, o)
			w.start("r", strategy(2, []string{"50%", "100%"}, 60, "0%"), nil)
			w.until("r", Running)
			w.denied = map[string]bool{"d-00001": true, "d-00040": true, "d-00041": true}
			h := w.until("r", Completed)
			require.Equal(t, Counts{Done: 57, Refused: 3}, h.Counts())
			states := w.audit("r")
			for id := range w.denied {
				require.Equal(t, Refused, states[id], id)
			}
		})
	}
}

func TestABatchOfDeniedDesktopsEndsAfterOneAttempt(t *testing.T) {
	t.Parallel()
	w := calm(t, 4)
	w.start("r", strategy(0, whole, 4, "0%"), nil)
	w.until("r", Running)
	w.denied = map[string]bool{"d-00000": true, "d-00001": true, "d-00002": true, "d-00003": true}
	require.Equal(t, Counts{Refused: 4}, w.until("r", Completed).Counts())
	require.Zero(t, w.accepted)
}
