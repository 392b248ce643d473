package main

import (
	"os"
	"regexp"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
)

// People who wait for a write are shown that the ledger has lost records, and the way out.
func TestALostLedgerIsTheReasonThatIsShown(t *testing.T) {
	t.Parallel()
	t.Run("while the worker runs", func(t *testing.T) {
		t.Parallel()
		h := newHome(t, 3)
		nc, err := nats.Connect(h.nats)
		require.NoError(t, err)
		defer nc.Close()
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		require.NoError(t, js.DeleteStream(t.Context(), "KV_RECOMPOSE_LEDGER"))
		r := h.rebuild(t, "--yes", "--id", "nightly", "--timeout", "6s")
		require.Equal(t, exitUnknown, r.code, r.out+r.errOut)
		const lost = `no write begins, because the ledger has lost records: bucket RECOMPOSE_LEDGER: it does not exist\. ` +
			`Bring the whole ledger back, or accept the loss: recompose setup --accept-ledger-loss`
		require.Regexp(t, `\n +waiting: `+lost+`\n`, r.out)
		require.NotContains(t, r.out, "cannot read whether writes are frozen")
		r = h.run(t, "wait", "nightly", "--for-ever", "--timeout", "4s")
		require.Regexp(t, `no event after 4s \(`+lost+`\)`, r.errOut)
		r = h.run(t, "send", "getdesktop", "--desktop-id", h.world.Desktops[1].DesktopID, "--wait", "--timeout", "4s")
		require.NotContains(t, r.out+r.errOut, "lost records", "a read is not held up by it")
	})
	t.Run("while the worker starts", func(t *testing.T) {
		t.Parallel()
		r := newLossRig(t)
		r.stop(t)
		require.NoError(t, os.RemoveAll(r.store("KV_RECOMPOSE_LEDGER")))
		r.begin(t)
		r.lost(t)
		sent := finish(t, r.env(), "send", "rebuild", "--desktop-ids", r.desktops[0], "--image-id", r.image.ImageID,
			"--image-type", r.image.ImageType, "--yes", "--wait", "--timeout", "6s")
		require.Equal(t, exitUnknown, sent.code, sent.out+sent.errOut)
		require.Regexp(t, `no event after 6s \(worker \S+: it takes no messages since \d\d:\d\d: it has not started yet: .*--accept-ledger-loss; `+
			`no worker has taken the command\)`, sent.errOut)
		require.NotContains(t, sent.errOut, "start one with")
		require.Equal(t, exitDone, r.up.interrupt(t))
	})
}

func TestAnUnavailableServiceIsNoThrottling(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	h.faults(t, emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Status: 503, RetryAfter: "60"}})
	r := h.run(t, "send", "getdesktop", "--desktop-id", h.world.Desktops[1].DesktopID, "--wait", "--timeout", "3s")
	require.Equal(t, exitUnknown, r.code)
	require.Regexp(t, `no event after 3s \(the service is not available \(503\): worker \S+ makes no reads until \d\d:\d\d:\d\d\)`, r.errOut)
}

// A command that the service refused for now has an answer of the service, and waits.
func TestARefusedCommandIsExplained(t *testing.T) {
	t.Parallel()
	h := newHome(t, 3)
	h.faults(t, emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Status: 409, ErrorCode: "WKS.1", ErrorMsg: "it is busy"}})
	const refused = `rebuild waits until \d\d:\d\d:\d\d: the service refused the call for now \(conflict, status 409, WKS\.1: it is busy\); before the next call`
	until := func(pattern string, do func() ran) (r ran) { // on a busy machine the worker is refused, and reports it, later
		t.Helper()
		eventually(t, func() bool {
			r = do()
			return regexp.MustCompile(pattern).MatchString(r.out + r.errOut)
		}, pattern)
		require.Equal(t, exitUnknown, r.code)
		return r
	}
	r := until(`(?s)\n +waiting: `+refused+`.*no event after 4s \(`+refused, func() ran {
		return h.rebuild(t, "--id", "busy", "--timeout", "4s") // the same id is done once
	})
	require.NotContains(t, r.out+r.errOut, "no event of it is published")
	until(`no event after 3s \(`+refused, func() ran { // also where the first command is not known
		return h.run(t, "wait", "busy", "--for-ever", "--timeout", "3s")
	})
}
