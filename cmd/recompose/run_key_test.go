//go:build unix

package main

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/safety"
)

// refusals is how many requests the emulator has refused with a 401.
func (a *arena) refusals() (n int) {
	a.t.Helper()
	var journal []emulator.Request
	getJSON(a.t, a.url+"/_emulator/requests", &journal)
	for _, r := range journal {
		if r.Status == http.StatusUnauthorized {
			n++
		}
	}
	return n
}

// More than 5 refused signatures in a row lock an access key, however many workers have it. Workers with another
// key continue meanwhile.
func TestWorkersShareARefusedKey(t *testing.T) {
	t.Parallel()
	a, _ := stage(t, 1, "300")
	get := events.GetDesktop{DesktopID: a.state().Desktops[0].DesktopID}
	first := a.working(aksk()...) // the right key, in the same deployment
	a.send("first", events.TypeGetDesktop, get)
	eventually(t, func() bool { return len(a.open("first")) == 0 }, "the right key does not work")
	require.Equal(t, exitDone, first.interrupt(t))

	withWrongKey := func() *process {
		w := start(t, append(slices.Clone(a.env), append(aksk(), "HUAWEICLOUD_SDK_SK=wrong")...), binary(t, "recompose"), "run")
		w.prints(t, "working on")
		return w
	}
	var wrong []*process
	for range 6 {
		wrong = append(wrong, withWrongKey())
	}
	sent := 0
	for _, w := range wrong {
		eventually(t, func() bool { // each message goes to one of those that still take any
			sent++
			a.send(fmt.Sprint("held-", sent), events.TypeGetDesktop, get)
			return w.err.has("takes no more messages")
		}, "a worker with the wrong key does not stop")
	}
	require.Equal(t, 1, a.refusals(), "one worker finds it out for all")

	right := a.working(aksk()...)
	sent = 0
	eventually(t, func() bool { // a worker that has just stopped may take one more message, and delays it by a minute
		sent++
		a.send(fmt.Sprint("right-", sent), events.TypeGetDesktop, get)
		return slices.ContainsFunc(a.events(), func(e events.Envelope) bool { return strings.HasPrefix(e.Causation, "right-") })
	}, "the right key does not continue")
	require.False(t, right.err.has("takes no more messages"), "others' refused key is not its own")
	require.LessOrEqual(t, a.refusals(), 2)
	for _, w := range wrong[1:] {
		require.Equal(t, exitDone, w.interrupt(t))
	}
	restarted := withWrongKey()
	eventually(t, func() bool {
		sent++
		a.send(fmt.Sprint("second-", sent), events.TypeGetDesktop, get)
		return restarted.err.has("takes no more messages")
	}, "a worker that was restarted with the wrong key does not stop")
	require.LessOrEqual(t, a.refusals(), 2, "a restart reads the store first")
}

// An unreadable record of the deployment stops writes, which check it by themselves, but no reads.
func TestReadsContinueWhileTheOperatorsItemIsDamaged(t *testing.T) {
	t.Parallel()
	a, _ := stage(t, 1, "300")
	_, err := a.js.Publish(t.Context(), "$KV.RECOMPOSE_LEDGER."+safety.OperatorsKey, []byte("{"))
	require.NoError(t, err)
	a.working(aksk()...)
	a.send("read", events.TypeGetDesktop, events.GetDesktop{DesktopID: a.state().Desktops[0].DesktopID})
	eventually(t, func() bool { return len(a.open("read")) == 0 }, "the read does not end")
}
