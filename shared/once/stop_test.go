package once_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// A 401 stops the worker wherever it comes: five in a row lock the key.
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
