package once_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store/memstore"
	"recompose/shared/workspace"
)

// A 401 stops the worker wherever it comes: more than 5 in a row lock the key.
func TestARefusedKeyStopsTheWorkerWhereverItComes(t *testing.T) {
	t.Parallel()
	refused := queue.Stop(&workspace.Error{Operation: "list-sub-jobs", Class: workspace.Unauthorized, Status: 401})
	for name, prepare := range map[string]func(b *bench) *fake{
		"while a lost call is looked for": func(b *bench) *fake {
			f := b.lost(func() (once.Found, error) { return b.absent(), nil })
			f.unchanged = func() (bool, string, error) { return false, "", refused }
			return f
		},
		"while a batch is divided that was refused too long": func(b *bench) *fake {
			b.Config.ConflictDeadline = time.Second
			f := b.call(func(context.Context) error { return errConflict })
			f.c.DesktopIDs = []string{"d-1", "d-2"}
			f.prepare = batch(f)
			f.divide = func(bool) (*queue.Outcome, error) { return nil, refused }
			return f
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			f := prepare(b)
			stop := new(queue.StopError)
			require.Eventually(t, func() bool {
				_, err := b.do(t, f)
				require.Error(t, err, "it does not end")
				b.clock.Add(30 * time.Second)
				return errors.As(err, &stop)
			}, 10*time.Second, time.Microsecond)
			require.True(t, workspace.IsUnauthorized(stop))
		})
	}
}

// If the deployment works on another service by now, a running worker reads jobs from the wrong one: it ends no job.
func TestAWorkerOfTheServiceBeforeEndsNoJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.call(accept)
	_, err := b.do(t, f)
	require.NoError(t, err)
	own := events.Service{Kind: events.ServiceEmulator, Project: "p1"}
	operators := &safety.Operators{Store: memstore.New()}
	require.NoError(t, operators.SetService(t.Context(), events.Service{Kind: events.ServiceEmulator, Project: "p2"}))
	b.Safety = safety.New(safety.Options{Operators: operators, Service: own})
	lost := queue.Outcome{ID: "lost", Type: events.TypeJobCompleted}
	_, err = b.engine().EndJob(t.Context(), f.c.Ref(), lost)
	require.True(t, queue.IsVerdict(err))
	require.ErrorContains(t, err, "the deployment works on EMULATOR, project p2")
	require.Nil(t, b.record(t, f).End)

	require.NoError(t, operators.SetService(t.Context(), own))
	_, err = b.engine().EndJob(t.Context(), f.c.Ref(), lost)
	require.NoError(t, err)
	require.NotNil(t, b.record(t, f).End)
}

// turning counts turns.
type turning struct {
	service
	awaited, given *atomic.Int32
}

func (t turning) AwaitTurn(context.Context) error { t.awaited.Add(1); return nil }
func (t turning) DropTurn()                       { t.given.Add(1) }

// A turn is given back only where no call was made: it would be that of another command.
func TestATurnIsGivenBackOnlyWithoutACall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	api := turning{b.service, &atomic.Int32{}, &atomic.Int32{}}
	f := b.call(accept)
	_, err := once.New(b.Config, api, b.Options).Do(t.Context(), f)
	require.NoError(t, err)
	require.EqualValues(t, 1, b.sends.Load())
	require.EqualValues(t, 1, api.awaited.Load())
	require.Zero(t, api.given.Load())

	b.Safety = denied()
	f = b.call(accept)
	f.c.Envelope.ID = "denied"
	_, err = once.New(b.Config, api, b.Options).Do(t.Context(), f)
	require.NoError(t, err)
	require.EqualValues(t, 1, b.sends.Load())
	require.EqualValues(t, 2, api.awaited.Load())
	require.EqualValues(t, 1, api.given.Load())
}
