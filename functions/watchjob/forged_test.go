package watchjob_test

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/watchjob"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
)

// A user who may publish events can forge a job.accepted. If it names no existing job, it ends as a failure that claims
// none.
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
		failed := functiontest.Data[events.CommandFailed](t, result.Events[0])
		require.Equal(t, events.EffectUnknown, failed.Effect, name)
	}
	require.Empty(t, r.Emulator.Requests(0, 0))
}

// Looks at a job are logged at debug: a job of an hour has dozens.
func TestLooksAreLoggedAtDebug(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	d := rebuilding(r, 0)
	for level, want := range map[slog.Level]bool{slog.LevelInfo: false, slog.LevelDebug: true} {
		var b bytes.Buffer
		log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level}))
		options := r.Options()
		options.Log = log
		f := watchjob.New(r.API, r.EngineWith(options))
		first := r.Process(f, d)
		r.Process(f, r.Later(first.Delay))
		require.Equal(t, want, bytes.Contains(b.Bytes(), []byte("msg=job ")), b.String())
	}
}

// The deployment has moved to another service while a job was under way. A worker of the new service does not see the job,
// so its end is not known: not that it failed, and not that an image of the new service is the one it made.
func TestAJobOfTheServiceBeforeIsLost(t *testing.T) {
	t.Parallel()
	for name, begin := range map[string]func(*functiontest.Rig) queue.Delivery{
		"rebuild": func(r *functiontest.Rig) queue.Delivery { return rebuilding(r, 0) }, "capture": capturing,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			former, now := functiontest.New(t, 2), functiontest.New(t, 2)
			own, _ := completed(t, now, capturing(now)) // another image of the name, by another job
			require.Equal(t, events.Succeeded, own.Outcome)
			d := begin(former)
			now.Ledger = former.Ledger

			done, _ := completed(t, now, d)
			require.Equal(t, events.Lost, done.Outcome)
			require.Nil(t, done.Image)
			require.False(t, done.ImpliesRebuild())
			require.False(t, done.ImpliesCheck())
			for _, desktop := range done.Desktops {
				require.Equal(t, events.Missing, desktop.Outcome)
			}
			require.NotEmpty(t, done.Desktops)
		})
	}
}
