package checkimages

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/workspace"
)

// fleet answers after a second, with an error if one of the desktops is refused.
type fleet struct {
	mu      sync.Mutex
	start   time.Time
	begun   []time.Duration
	asked   [][]string
	refused string
	err     error
}

func (*fleet) ProjectID() string { return "p1" }

func (f *fleet) DescribeImages(_ context.Context, ids []string) ([]workspace.ImageDescription, error) {
	f.mu.Lock()
	if f.start.IsZero() {
		f.start = time.Now()
	}
	f.begun = append(f.begun, time.Since(f.start))
	f.mu.Unlock()
	<-time.After(time.Second)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, ids)
	var infos []workspace.ImageDescription
	for _, id := range ids {
		if id == f.refused {
			return nil, f.err
		}
		infos = append(infos, workspace.ImageDescription{DesktopID: id, ImageID: "i"})
	}
	return infos, nil
}

// checkHundreds asks for hundreds of desktops at once, and gives the error of each hundred.
func checkHundreds(t *testing.T, f *fleet, hundreds int) []error {
	t.Helper()
	b := inBatches(f, 4*time.Second, time.Now)
	errs := make([]error, hundreds)
	var all sync.WaitGroup
	for h := range hundreds {
		ids := make([]string, 100)
		for i := range ids {
			ids[i] = fmt.Sprintf("d-%d-%d", h, i)
		}
		all.Go(func() {
			<-time.After(time.Duration(h) * time.Millisecond) // the first one begins alone
			infos, err := b.DescribeImages(t.Context(), ids)
			if errs[h] = err; err != nil {
				return
			}
			shown := map[string]bool{}
			for _, info := range infos {
				shown[info.DesktopID] = true
			}
			for _, id := range ids {
				require.True(t, shown[id], id)
			}
		})
	}
	all.Wait()
	return errs
}

func TestReactionsShareCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{}
		for _, err := range checkHundreds(t, f, 12) {
			require.NoError(t, err)
		}
		require.Len(t, f.asked, 4, "one, five, five and one")
		require.Equal(t, []time.Duration{0, time.Second, 2 * time.Second, 6 * time.Second}, f.begun, "full calls do not wait")
		for _, ids := range f.asked {
			require.LessOrEqual(t, len(ids), events.MaxCheckCall)
		}
	})
}

func TestARefusedDesktopRefusesNoOthers(t *testing.T) {
	t.Parallel()
	for _, class := range []workspace.Class{workspace.Refused, workspace.NotFound, workspace.Lost} {
		synctest.Test(t, func(t *testing.T) {
			f := &fleet{refused: "d-3-7", err: &workspace.Error{Class: class}}
			for h, err := range checkHundreds(t, f, 6) {
				require.Equal(t, h == 3, err != nil, "%d: %v", h, err)
			}
		})
	}
}

func TestAThrottledCallIsNotMadeForEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{refused: "d-3-7", err: &workspace.Error{Class: workspace.Throttled}}
		for h, err := range checkHundreds(t, f, 6) {
			require.Equal(t, h != 0, err != nil, h)
		}
		require.Len(t, f.asked, 2)
	})
}

// broken is a client whose first answer makes it panic.
type broken struct {
	fleet
	calls int
}

func (b *broken) DescribeImages(ctx context.Context, ids []string) ([]workspace.ImageDescription, error) {
	if b.calls++; b.calls == 1 {
		panic("odd answer")
	}
	return b.fleet.DescribeImages(ctx, ids)
}

// A call for several reactions runs beside them, where no guard of theirs catches a panic: it must not end the worker.
func TestAPanicOfABatchIsTheErrorOfItsReaction(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := inBatches(&broken{}, time.Second, time.Now)
		_, err := b.DescribeImages(t.Context(), []string{"d1"})
		require.ErrorContains(t, err, "panic: odd answer")
		infos, err := b.DescribeImages(t.Context(), []string{"d1"})
		require.NoError(t, err)
		require.Len(t, infos, 1)
	})
}
