package reasons

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
)

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
		s.Frozen = &safety.Freeze{Reason: "storm", By: "ada@host", At: now}
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
		"another service": {[]natsqueue.WorkerStatus{worker("w1", func(s *natsqueue.WorkerStatus) { s.Service = "this deployment works on REAL x" }), {Worker: "w2"}},
			[]string{"worker w1 begins no write: this deployment works on REAL x"}},
		"a freeze that cannot be read": {[]natsqueue.WorkerStatus{worker("w1", func(s *natsqueue.WorkerStatus) { s.FreezeUnknown = "no answer" })},
			[]string{"worker w1 begins no write, because it cannot read whether writes are frozen: no answer"}},
		"not known": {[]natsqueue.WorkerStatus{worker("w1", func(s *natsqueue.WorkerStatus) { s.Ledger = &natsqueue.WorkerLedger{Reason: "no answer"} })},
			[]string{"worker w1 begins no write, because it does not know whether the ledger has all its records: no answer"}},
	} {
		require.Equal(t, c.want, heldWriteReasons(c.workers, now), name)
	}
}

func TestAServiceThatCannotBeReached(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local)
	out := func(name string) natsqueue.WorkerStatus {
		return natsqueue.WorkerStatus{Worker: name, Unreached: &natsqueue.WorkerUnreached{Since: now, Reason: "refused"}}
	}
	one := "worker w1 cannot reach the Workspace service since 12:00: refused"
	require.Empty(t, unreachedText([]natsqueue.WorkerStatus{{Worker: "w0"}}, now))
	require.Equal(t, one, unreachedText([]natsqueue.WorkerStatus{{Worker: "w0"}, out("w1")}, now))
	require.Equal(t, one+" (and 2 of 3 workers in all)", unreachedText([]natsqueue.WorkerStatus{{Worker: "w0"}, out("w1"), out("w2")}, now))
}

func TestReasonsAreNewOnce(t *testing.T) {
	t.Parallel()
	var l Latest
	require.Equal(t, []string{"a", "b"}, l.New([]string{"a", "b"}))
	require.Empty(t, l.New([]string{"b", "a"}))
	require.Equal(t, []string{"c"}, l.New([]string{"c", "a"}))
	require.Empty(t, l.New(nil))
	require.Equal(t, []string{"a"}, l.New([]string{"a"}), "it came back")
}

func TestSlowCalls(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local)
	for want, slow := range map[string]natsqueue.WorkerThrottled{
		"the service throttles: worker w1 makes at most 100 reads a minute, and some wait":              {Calls: "reads", PerMinute: 100, Status: 429},
		"the service is not available (503): worker w1 makes at most 50 writes a minute, and some wait": {Calls: "writes", PerMinute: 50, Status: 503},
		"the service is not available (503): worker w1 makes no writes until 12:01:00":                  {Calls: "writes", Until: now.Add(time.Minute), Status: 503},
		"the service throttles: worker w1 makes no reads until 12:01:00":                                {Calls: "reads", Until: now.Add(time.Minute), Status: 429},
	} {
		s := natsqueue.WorkerStatus{Worker: "w1", Throttled: []natsqueue.WorkerThrottled{slow}}
		require.Equal(t, want, throttledText([]natsqueue.WorkerStatus{{Worker: "w0"}, s}, now))
	}
	require.Empty(t, throttledText([]natsqueue.WorkerStatus{{Worker: "w0"}}, now))
}

func TestWhatAChainWaitsFor(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 15, 12, 0, 0, 0, time.Local)
	wait := func(message, id, digest, reason string, seconds int) natsqueue.WorkerWait {
		return natsqueue.WorkerWait{
			Message: message, Command: events.CommandRef{Type: events.TypeRebuild, ID: id, Digest: digest}, Reason: reason,
			Next: at.Add(time.Duration(seconds) * time.Second),
		}
	}
	workers := []natsqueue.WorkerStatus{
		{Waiting: []natsqueue.WorkerWait{wait("root", "root", "1", "busy", 5), wait("root", "root", "2", "other data", 1), wait("p2", "p2", "p", "gone", 9)}},
		{Waiting: []natsqueue.WorkerWait{wait("event", "reaction", "r", "busy", 3), wait("p1", "p1", "p", "busy", 7)}},
	}
	q := Work{First: events.Root{ID: "root", Digest: "1"}, Open: []string{"root"}, Unanswered: true}
	require.Equal(t, []string{"rebuild waits until 12:00:05: busy"}, q.waiting(workers))
	q = Work{First: events.Root{ID: "root", Digest: "1"}, Open: []string{"p1", "reaction"}}
	require.Equal(t, []string{"2 rebuild commands wait until 12:00:03: busy"}, q.waiting(workers))
	require.Equal(t, []string{"2 rebuild commands wait until 12:00:03: busy"}, Work{Open: []string{"p1", "event"}}.waiting(workers), "a job, by its event")
	require.Len(t, Work{Unanswered: true, Open: []string{"c"}}.waiting(workers), 3, "all of a chain whose first command is not known")
	require.Empty(t, Work{Open: []string{"another"}}.waiting(workers))
}

func TestCommandsWait(t *testing.T) {
	t.Parallel()
	require.Equal(t, "1 rebuild command waits", commandsWait(1, "rebuild"))
	require.Equal(t, "2 rebuild commands wait", commandsWait(2, "rebuild"))
}
