package reasons

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue/natsqueue"
)

// Nothing but a frozen write holds up a chain; a job that runs is no write.
func TestAJobIsNotHeldUpByAFreeze(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		open              events.Pending
		unanswered, write bool
	}{
		"a job":               {events.Pending{ID: "a", Function: events.FnWatchJob, JobID: "j"}, false, false},
		"a write":             {events.Pending{ID: "a", Function: events.FnRebuild}, false, true},
		"a read":              {events.Pending{ID: "a", Function: events.FnCheckImages}, false, false},
		"the first command":   {events.Pending{ID: "a"}, true, true},
		"a job of a function": {events.Pending{ID: "a", Function: events.FnRebuild, JobID: "j"}, false, false},
	} {
		q := Work{Functions: []string{events.FnGetDesktop, events.FnRebuild}}
		q.Add([]events.Pending{c.open}, []string{events.FnRebuild})
		require.Equal(t, Work{Functions: q.Functions, Open: []string{"a"}, Unanswered: c.unanswered, Write: c.write}, q, name)
	}
	q0 := Work{Open: []string{"a"}}
	read := Work{Functions: []string{events.FnGetDesktop}}
	read.Add([]events.Pending{{ID: "a"}}, []string{events.FnRebuild})
	require.False(t, read.Write, "the first command is a read")
	delayed := natsqueue.WorkerWait{Message: "other"}
	require.False(t, q0.waitsFor(delayed))
	require.True(t, Work{Whole: true}.waitsFor(delayed))
}
