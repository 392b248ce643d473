//go:build unix

package main

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
)

// A second freeze replaces the reason, the time and the person of the first, on NATS and on AWS, and --status shows it.
func TestFreezeTwiceUpdatesIt(t *testing.T) {
	t.Parallel()
	for name, start := range map[string]func(t *testing.T) (*safety.Operators, func(args ...string) ran){
		"NATS": func(t *testing.T) (*safety.Operators, func(args ...string) ran) {
			w := newWard(t, onEmulator)
			return w.operators(), func(args ...string) ran { return w.run(t, args...) }
		},
		"AWS": func(t *testing.T) (*safety.Operators, func(args ...string) ran) {
			s := deploy(t, 1, nil)
			return s.operators(), func(args ...string) ran { return s.run(t, append(args, "--aws", "recompose")...) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			operators, run := start(t)
			first := safety.Freeze{Reason: "image 7f3a", By: "alice@lab", At: time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)}
			require.NoError(t, operators.SetFreeze(t.Context(), first))
			for _, reason := range []string{"image 7f3a", "ticket 4711"} { // the same reason is a new freeze, too
				var changed, shown freezeChange
				r := run("freeze", "--reason", reason, "--json")
				require.Equal(t, exitDone, r.code, r.errOut)
				require.NoError(t, json.Unmarshal([]byte(r.out), &changed))
				require.Equal(t, &first, changed.Before)
				require.Equal(t, reason, changed.Now.Reason)
				require.Equal(t, whoAmI(), changed.Now.By)
				require.WithinDuration(t, time.Now(), changed.Now.At, time.Minute)
				require.NoError(t, json.Unmarshal([]byte(run("freeze", "--status", "--json").out), &shown))
				require.Equal(t, changed.Now, shown.Now)
				require.Contains(t, run("freeze", "--status").out, "now       "+freezeText(changed.Now)+"\n")
				first = *changed.Now
			}
		})
	}
}
