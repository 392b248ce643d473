package safety_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
	"recompose/shared/workspace"
)

// A few wrong passwords lock the user: all processes together, old and new ones, send one login.
func TestARefusedLoginIsSentOnceByAllProcesses(t *testing.T) {
	t.Parallel()
	for name, refused := range map[string]bool{"by a probe": false, "during a call": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			all := []process{r.process(), r.process(), r.process()}
			if refused { // it was accepted before, and is refused at the next login
				require.NoError(t, all[0].Check(t.Context()))
				all[0].Refuse(t.Context(), errLogin)
			}
			r.answer = errLogin
			for range 30 {
				for _, p := range all {
					require.Error(t, p.Check(t.Context()))
				}
				r.now = r.now.Add(20 * time.Minute)
			}
			require.ErrorContains(t, r.process().Check(t.Context()), "IAM refuses the login")
			require.Equal(t, 1, r.calls)

			r.secret.text, r.answer = "new", nil
			r.now = r.now.Add(safety.ProbeEvery)
			for _, p := range append(all, r.process()) {
				require.NoError(t, p.Check(t.Context()))
			}
			r.refused(false)
		})
	}
}

// The service refused a token, and IAM then refuses the login of the probe: no further login follows.
func TestALoginThatAProbeFindsRefusedIsNotRepeated(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errRefused
	all := []process{r.process(), r.process()}
	require.ErrorIs(t, all[0].Check(t.Context()), errRefused)
	r.answer = errLogin
	for range 30 {
		r.now = r.now.Add(20 * time.Minute)
		for _, p := range all {
			require.Error(t, p.Check(t.Context()))
		}
	}
	require.Equal(t, 2, r.calls)
}

// A restart is how an operator reports that IAM may accept the login now. Many restarts do not lock the user.
func TestALoginIsRepeatedOnceAfterARestart(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errLogin
	require.Error(t, r.process().Check(t.Context()))
	for range 16 { // minutes
		restarted := r.process()
		require.NoError(t, restarted.Restarted(t.Context()))
		require.Error(t, restarted.Check(t.Context()))
		require.Equal(t, 1, r.calls)
		r.now = r.now.Add(time.Minute)
	}
	all := []process{r.process(), r.process()}
	for _, p := range all {
		require.NoError(t, p.Restarted(t.Context()))
	}
	for _, p := range all {
		require.Error(t, p.Check(t.Context()))
	}
	require.Equal(t, 2, r.calls, "one process logs in for all")
	r.now = r.now.Add(time.Hour)
	require.Error(t, all[1].Check(t.Context()))
	require.Equal(t, 2, r.calls, "without a restart there is no login")

	r.answer = nil
	last := r.process()
	require.NoError(t, last.Restarted(t.Context()))
	require.NoError(t, last.Check(t.Context()))
	r.refused(false)
	require.NoError(t, last.Restarted(t.Context()), "nothing is refused")
	require.NoError(t, last.Check(t.Context()))
	require.Equal(t, 3, r.calls)
}

// A restart does not make a refused key be used sooner.
func TestARestartDoesNotHurryARefusedKey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = errRefused
	require.Error(t, r.process().Check(t.Context()))
	restarted := r.process()
	require.NoError(t, restarted.Restarted(t.Context()))
	require.Error(t, restarted.Check(t.Context()))
	require.Equal(t, 1, r.calls)
	r.now = r.now.Add(safety.ProbeEvery)
	require.ErrorIs(t, restarted.Check(t.Context()), errRefused)
	require.Equal(t, 2, r.calls)
}

func TestAProbeWithoutADecisionMakesNoProcessWait(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.answer = &workspace.Error{Operation: "list-images", Class: workspace.Unavailable, Status: 503}
	require.ErrorIs(t, r.process().Check(t.Context()), r.answer)
	r.answer = nil
	require.NoError(t, r.process().Check(t.Context()))
	require.Equal(t, 2, r.calls)
}
