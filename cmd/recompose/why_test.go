package main

import (
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/shared/queue/natsqueue"
)

// Whoever waits for a write is shown that the ledger has lost records, and the way out.
func TestALostLedgerIsTheReasonThatIsShown(t *testing.T) {
	t.Parallel()
	t.Run("while the worker runs", func(t *testing.T) {
		t.Parallel()
		h := newHome(t, "400")
		nc, err := nats.Connect(h.nats)
		require.NoError(t, err)
		defer nc.Close()
		js, err := jetstream.New(nc)
		require.NoError(t, err)
		require.NoError(t, js.DeleteStream(t.Context(), "KV_RECOMPOSE_LEDGER"))
		r := h.rebuild(t, "--yes", "--id", "nightly", "--timeout", "6s")
		require.Equal(t, exitUnknown, r.code, r.out+r.errOut)
		const lost = `no write begins, because the ledger has lost records: bucket RECOMPOSE_LEDGER: it is not there\. ` +
			`Bring the whole ledger back, or accept the loss: recompose setup --accept-ledger-loss`
		require.Regexp(t, `\n +waiting: `+lost+`\n`, r.out)
		require.NotContains(t, r.out, "cannot read whether writes are frozen")
		r = h.run(t, "wait", "nightly", "--for-ever", "--timeout", "4s")
		require.Regexp(t, `still running after 4s \(`+lost+`\)`, r.errOut)
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
		require.Regexp(t, `still running after 6s \(worker \S+: it takes no messages since \d\d:\d\d: it has not started yet: .*--accept-ledger-loss; `+
			`no worker has taken the command\)`, sent.errOut)
		require.NotContains(t, sent.errOut, "start one with")
		require.Equal(t, exitDone, r.up.interrupt(t))
	})
}

// Reasons of workers are put in words, each by its own cause.
func TestHeldWrites(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local)
	worker := func(name string, change func(*natsqueue.WorkerStatus)) natsqueue.WorkerStatus {
		s := natsqueue.WorkerStatus{Worker: name}
		change(&s)
		return s
	}
	lists := func(s *natsqueue.WorkerStatus) { s.Lists = "DENY: /deny: line 2 cannot be read" }
	lost := func(s *natsqueue.WorkerStatus) {
		s.Ledger = &natsqueue.WorkerLedger{Reason: "it is gone", Accept: "recompose setup"}
	}
	frozen := func(s *natsqueue.WorkerStatus) {
		s.Frozen = &natsqueue.WorkerFrozen{Reason: "storm", By: "ada@host", At: now}
	}
	for name, c := range map[string]struct {
		workers []natsqueue.WorkerStatus
		want    []string
	}{
		"none":      {nil, nil},
		"all works": {[]natsqueue.WorkerStatus{{Worker: "w1"}}, nil},
		"frozen": {[]natsqueue.WorkerStatus{worker("w1", frozen), worker("w2", frozen)},
			[]string{"writes are frozen since 12:00 by ada@host: storm"}},
		"a list, on one of two workers": {[]natsqueue.WorkerStatus{{Worker: "w1"}, worker("w2", lists)},
			[]string{"worker w2 begins no write, because it cannot read a list of desktops: DENY: /deny: line 2 cannot be read"}},
		"a list, on two of three": {[]natsqueue.WorkerStatus{worker("w1", lists), {Worker: "w2"}, worker("w3", lists)},
			[]string{"worker w1 begins no write, because it cannot read a list of desktops: DENY: /deny: line 2 cannot be read (and 2 of 3 workers in all)"}},
		"frozen and lost": {[]natsqueue.WorkerStatus{worker("w1", func(s *natsqueue.WorkerStatus) { frozen(s); lost(s) }), worker("w2", lost)}, []string{
			"writes are frozen since 12:00 by ada@host: storm",
			"no write begins, because the ledger has lost records: it is gone. Bring the whole ledger back, or accept the loss: recompose setup",
		}},
		"not known": {[]natsqueue.WorkerStatus{worker("w1", func(s *natsqueue.WorkerStatus) { s.Ledger = &natsqueue.WorkerLedger{Reason: "no answer"} })},
			[]string{"worker w1 begins no write, because it does not know whether the ledger has all its records: no answer"}},
	} {
		require.Equal(t, c.want, heldWrites(c.workers, now), name)
	}
}
