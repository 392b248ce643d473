package once_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/workspace"
)

// describer is a service that describes this desktop, whichever it is asked for.
type describer struct{ desktop workspace.Desktop }

func (d describer) GetDesktop(context.Context, string) (workspace.Desktop, error) {
	return d.desktop, nil
}

func (describer) ListSubJobs(context.Context, workspace.SubJobsQuery) (workspace.SubJobs, error) {
	return workspace.SubJobs{Complete: true}, nil
}

// A call is made once more only if its desktops are as before. The description of another desktop is no proof of that.
func TestAnotherDesktopProvesNothing(t *testing.T) {
	t.Parallel()
	for id, proves := range map[string]bool{"d1": true, "D1": true, "": true, "d2": false} {
		api := describer{workspace.Desktop{DesktopID: id, Status: "ACTIVE"}}
		idle, _, err := once.Idle(t.Context(), api, ledger.Detail{DesktopIDs: []string{"d1"}}, once.AnyTask, "")
		require.Equal(t, proves, idle, id)
		if proves {
			require.NoError(t, err, id)
		} else {
			require.ErrorContains(t, err, "the service was asked for desktop d1 and described d2")
			require.Equal(t, workspace.BadAnswer, workspace.ClassOf(err))
		}
	}
}
