package workspace

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A write that has awaited its turn is sent at once: there is no wait between its caller's checks and the call.
func TestAWriteTakesTheTurnThatWasAwaited(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"job_id":"j1"}`), func(o *Options) { o.WritesPerMinute = 60 })
	for range b.posts.burst {
		require.NoError(t, b.AwaitTurn(t.Context()))
	}
	ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	require.Equal(t, NotSent, ClassOf(b.AwaitTurn(ended)), "the rate limit refuses the turn")
	for range b.posts.burst {
		_, err := b.Rebuild(t.Context(), b.ServiceNow(), RebuildRequest{DesktopIDs: []string{"d"}, ImageID: "i", ImageType: "gold"})
		require.NoError(t, err)
	}
	_, kept := b.turns.take()
	require.False(t, kept)

	require.NoError(t, b.AwaitTurn(t.Context()))
	b.DropTurn()
	b.DropTurn()
	_, kept = b.turns.take()
	require.False(t, kept)
}

func TestReadsAreLeftUntilTheRateIsUsedUp(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"images":[],"total_count":0}`), func(o *Options) { o.ReadsPerMinute = 60 })
	for range b.reads.burst {
		require.True(t, b.ReadsLeft())
		_, err := b.ListImages(t.Context(), ImagesQuery{})
		require.NoError(t, err)
	}
	require.False(t, b.ReadsLeft())

	b = setup(t, responds(200, `{}`), func(o *Options) { o.ReadsPerMinute = -1 })
	require.True(t, b.ReadsLeft())
	b.reads.slow(0, 429, time.Minute)
	require.False(t, b.ReadsLeft(), "the service asked for a pause")
}

// A turn that an invalid write leaves behind would belong to a later write, and to an older rate.
func TestAnInvalidWriteUsesItsTurn(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"job_id":"j1"}`))
	for _, write := range []func() error{
		func() error { _, err := b.Rebuild(t.Context(), b.ServiceNow(), RebuildRequest{}); return err },
		func() error {
			_, err := b.DesktopToImage(t.Context(), b.ServiceNow(), DesktopToImageRequest{DesktopID: "d"})
			return err
		},
		func() error {
			_, err := b.DesktopToImage(t.Context(), time.Time{}, DesktopToImageRequest{DesktopID: "d", ImageName: "n"})
			return err
		},
	} {
		require.NoError(t, b.AwaitTurn(t.Context()))
		require.Equal(t, Invalid, ClassOf(write()))
		_, kept := b.turns.take()
		require.False(t, kept)
	}
}

func TestATurnThatIsFarOffIsKnownBefore(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"job_id":"j1"}`), func(o *Options) { o.WritesPerMinute = 60 })
	for range b.posts.burst {
		require.NoError(t, b.CheckTurn(), "it takes no turn")
		require.NoError(t, b.AwaitTurn(t.Context()))
	}
	require.NoError(t, b.CheckTurn(), "the next turn is near")
	b.posts.slow(0, 429, time.Minute)
	err := b.CheckTurn()
	require.Equal(t, NotSent, ClassOf(err))
	require.ErrorIs(t, err, ErrLimited)
	require.Equal(t, uint64(1), b.posts.limit().HeldBack)
}
