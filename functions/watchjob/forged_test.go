package watchjob_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
)

// Whoever may publish events can make up a job.accepted. One that names no job ends as a failure that claims none.
func TestAForgedJobAcceptedProvesNoJob(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	ref := events.CommandRef{Type: events.TypeRebuild, ID: "c1", Source: "test"}
	for name, data := range map[string]any{
		"no job":           events.JobAccepted{Function: events.FnRebuild, Command: ref},
		"no command":       events.JobAccepted{Function: events.FnRebuild, JobID: "j1"},
		"unknown function": events.JobAccepted{Function: "none", Command: ref, JobID: "j1"},
		"other data":       `[1]`,
	} {
		result := r.Process(function(r), r.Command(events.TypeJobAccepted, name, data))
		require.NotNil(t, result.Dead, name)
		require.Equal(t, queue.ClassPermanent, result.Dead.Class, name)
		require.Len(t, result.Events, 1, name)
		failed := functiontest.Data[events.CommandFailed](t, result.Events[0], events.TypeCommandFailed)
		require.Equal(t, events.EffectUnknown, failed.Effect, name)
	}
	require.Empty(t, r.Emulator.Requests(0, 0))
}
