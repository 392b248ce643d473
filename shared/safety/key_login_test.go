package safety_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
)

// A wrong password locks the user after a few logins: all processes together, old and new ones, send one.
func TestARefusedLoginIsTriedOnceByAllProcesses(t *testing.T) {
	t.Parallel()
	for name, pulled := range map[string]bool{"by a probe": false, "under way": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			all := []process{r.process(), r.process(), r.process()}
			if pulled { // it was taken before, and is refused at the next login
				require.NoError(t, all[0].Check(t.Context()))
				all[0].Pull(t.Context(), errLogin)
			}
			r.answer = errLogin
			for range 30 {
				for _, p := range all {
					require.Error(t, p.Check(t.Context()))
				}
				r.now = r.now.Add(20 * time.Minute)
			}
			require.ErrorContains(t, r.process().Check(t.Context()), "IAM refuses the login")
			require.Equal(t, 1, r.asked)

			r.secret.text, r.answer = "new", nil
			r.now = r.now.Add(safety.ProbeEvery)
			for _, p := range append(all, r.process()) {
				require.NoError(t, p.Check(t.Context()))
			}
			r.refused(false)
		})
	}
}

// The service refused a token, and IAM then refuses the login that the probe makes: that is the last one.
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
	require.Equal(t, 2, r.asked)
}
