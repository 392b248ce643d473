package checkimages_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/checkimages"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func command(r *functiontest.Rig) queue.Delivery {
	return r.Command(events.TypeCheckImages, "c1", events.CheckImages{DesktopIDs: r.Desktops})
}

func function(r *functiontest.Rig) queue.Function {
	return checkimages.New(r.API, r.Engine())
}

// rebuilt is the event after which the images are checked.
func rebuilt(t *testing.T, r *functiontest.Rig, imageID string, results ...events.DesktopResult) queue.Delivery {
	t.Helper()
	data, err := json.Marshal(events.JobCompleted{
		Function: events.FnRebuild, JobID: "j1", Outcome: events.Partial, ImageID: imageID, ImageType: "gold", Desktops: results,
	})
	require.NoError(t, err)
	return r.Message(events.Envelope{
		ID: "done", Source: "recompose/watchjob", Type: events.TypeJobCompleted, Time: r.Clock.Now(), Correlation: "chain", Data: data,
	})
}

func TestReportsTheImageOfEachDesktop(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	checked := functiontest.OnlyData[events.ImagesChecked](t, r.Process(function(r), command(r)))
	require.Len(t, checked.ImageInfos, 3)
	require.Empty(t, checked.Missing)
	require.Nil(t, checked.Expected)
	for i, raw := range checked.ImageInfos {
		var info events.ImageInfo
		require.NoError(t, json.Unmarshal(raw, &info))
		require.Equal(t, r.Desktops[i], info.DesktopID)
		require.Equal(t, r.Emulator.State().Desktops[i].Metadata["metering.image_id"], info.ImageID)
	}
}

// Reads with the same id and different data have different ends.
func TestEachDataHasItsOwnEnd(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	check := func(ids ...string) events.Envelope {
		cmd := events.CheckImages{DesktopIDs: ids}
		e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeCheckImages, "c1", cmd)))
		checked := functiontest.Data[events.ImagesChecked](t, e)
		require.Equal(t, events.CommandRef{Type: events.TypeCheckImages, ID: "c1", Source: "test", Digest: events.Digest(cmd)}, checked.Command)
		return e
	}
	require.NotEqual(t, check(r.Desktops[0]).ID, check(r.Desktops...).ID)
	require.Equal(t, check(r.Desktops[0]).ID, check(r.Desktops[0]).ID)
}

func TestChecksFiveHundredInOneCall(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1001)
	checked := functiontest.OnlyData[events.ImagesChecked](t, r.Process(function(r), command(r)))
	require.Len(t, checked.ImageInfos, 1001)
	var asked []int
	for _, q := range r.Emulator.Requests(0, 0) {
		asked = append(asked, len(q.DesktopIDs))
	}
	require.Equal(t, []int{500, 500, 1}, asked)
}

func TestFiveThousandFitIntoAMessage(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 5000)
	e := functiontest.Only(t, r.Process(function(r), command(r)))
	checked := functiontest.Data[events.ImagesChecked](t, e)
	require.True(t, checked.Shortened)
	require.Len(t, checked.ImageInfos, 5000)
	require.Less(t, len(e.Data), 1<<20)
	var last events.ImageInfo
	require.NoError(t, json.Unmarshal(checked.ImageInfos[4999], &last))
	require.Equal(t, r.Desktops[4999], last.DesktopID)
	require.NotEmpty(t, last.ImageID)
}

func TestReportsDesktopsWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, quirk := range []string{"check-images-no-entry", "check-images-no-image-id"} {
		t.Run(quirk, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 3)
			r.Faults(emulator.Fault{Call: emulator.CallCheckImages, DesktopID: r.Desktops[1], Do: emulator.Do{Quirk: quirk}})
			checked := functiontest.OnlyData[events.ImagesChecked](t, r.Process(function(r), command(r)))
			require.Contains(t, checked.Missing, r.Desktops[1])
		})
	}
}

func TestAfterARebuildAMatchIsPublished(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	current := r.Emulator.State().Desktops[0].Metadata["metering.image_id"]
	result := r.Process(function(r), rebuilt(t, r, current,
		events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Succeeded},
		events.DesktopResult{DesktopID: r.Desktops[1], Outcome: events.Failed},
		events.DesktopResult{DesktopID: r.Desktops[2], Outcome: events.Skipped}))
	e := functiontest.Only(t, result)
	checked := functiontest.Data[events.ImagesChecked](t, e)
	require.Equal(t, []string{r.Desktops[0]}, checked.Matched)
	require.Empty(t, checked.Mismatched)
	require.Equal(t, current, checked.Expected.ImageID)
	require.Equal(t, events.ReactionID(events.Envelope{ID: "done", Source: "recompose/watchjob"}, events.FnCheckImages), e.Causation)
}

func TestAMismatchIsRetriedForTenMinutes(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	other, _ := r.OtherImage()
	begin := r.Clock.Now()
	d := rebuilt(t, r, other,
		events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Succeeded},
		events.DesktopResult{DesktopID: r.Desktops[1], Outcome: events.Succeeded})
	checked := functiontest.OnlyData[events.ImagesChecked](t, r.Follow(function(r), d))
	require.Equal(t, r.Desktops, checked.Mismatched)
	require.Empty(t, checked.Matched)
	require.GreaterOrEqual(t, r.Clock.Now().Sub(begin), 10*time.Minute)
	require.Less(t, r.Clock.Now().Sub(begin), 12*time.Minute)
}

func TestNothingFollowsFromOtherEnds(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	for name, d := range map[string]queue.Delivery{
		"no desktop succeeded": rebuilt(t, r, "i1", events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Failed}),
		"all skipped":          rebuilt(t, r, "i1", events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Skipped}),
	} {
		require.Equal(t, queue.Result{}, r.Process(function(r), d), name)
	}
	require.Empty(t, r.Emulator.Requests(0, 0))
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.ReadStatuses(t, emulator.CallCheckImages, function, command)
}

// TestPatienceIsTheSameForAnEventOfAnyDate has events whose dates come from clocks that are off.
func TestPatienceIsTheSameForAnEventOfAnyDate(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-3 * time.Hour, 20 * time.Minute} {
		r := functiontest.New(t, 1)
		other, _ := r.OtherImage()
		r.Clock.Add(off)
		d := rebuilt(t, r, other, events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Succeeded})
		r.Clock.Add(-off)
		begin, before := r.Clock.Now(), len(r.Emulator.Requests(0, 0))
		checked := functiontest.OnlyData[events.ImagesChecked](t, r.Follow(function(r), d))
		require.Equal(t, r.Desktops, checked.Mismatched)
		require.InDelta(t, 10*time.Minute, r.Clock.Now().Sub(begin), float64(time.Minute))
		require.Less(t, len(r.Emulator.Requests(0, 0))-before, 20)
	}
}

// While a message is held because the service refuses the key, no time passes in which the desktops were looked at.
func TestAHoldIsNoLook(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	other, _ := r.OtherImage()
	d := rebuilt(t, r, other, events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Succeeded})
	d.Headers[queue.AttemptHeader], d.Headers[queue.HeldHeader] = []string{"40"}, []string{"40"}
	result := r.Process(function(r), d)
	require.Empty(t, result.Events, "the desktop may show its image later")
	require.Equal(t, 10*time.Second, result.Delay.After)
}

// doubled is a service that lists each desktop twice: with its image, and with another one, in either order.
type doubled struct {
	*workspace.Client
	first, second string
}

func (d doubled) DescribeImages(_ context.Context, ids []string) ([]workspace.ImageDescription, error) {
	var infos []workspace.ImageDescription
	for _, image := range []string{d.first, d.second} {
		for _, id := range ids {
			infos = append(infos, workspace.ImageDescription{DesktopID: id, ImageID: image, JSON: json.RawMessage(`{}`)})
		}
	}
	return infos, nil
}

func TestADesktopThatIsListedWithTwoImagesIsNoMatch(t *testing.T) {
	t.Parallel()
	for _, images := range [][2]string{{"i1", "i2"}, {"i2", "i1"}, {"i1", "i1"}} {
		r := functiontest.New(t, 1)
		f := checkimages.New(doubled{r.API, images[0], images[1]}, r.Engine())
		result := r.Process(f, rebuilt(t, r, "i1", events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Succeeded}))
		require.Equal(t, images[0] == images[1], result.Delay == nil, images)
	}
}

// crowded is a worker whose rate limit holds the first calls back.
type crowded struct {
	*workspace.Client
	held *int
}

func (c crowded) DescribeImages(ctx context.Context, ids []string) ([]workspace.ImageDescription, error) {
	if *c.held--; *c.held >= 0 {
		return nil, &workspace.Error{Class: workspace.NotSent, RetryAfter: 3 * time.Second, Err: workspace.ErrLimited}
	}
	return c.Client.DescribeImages(ctx, ids)
}

// away is a ledger whose first reads fail.
type away struct {
	ledger.Store
	left *int
}

func (a away) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	if *a.left--; *a.left >= 0 {
		return ledger.Record{}, 0, errors.New("no answer")
	}
	return a.Store.Get(ctx, key)
}

// A look that the rate limit of the worker or the ledger held back is none.
func TestWhatIsHeldBackIsNoLook(t *testing.T) {
	t.Parallel()
	for _, held := range [][2]int{{30, 0}, {0, 30}} {
		r := functiontest.New(t, 1)
		options := r.Options()
		options.Store = away{r.Ledger, &held[1]}
		other, _ := r.OtherImage()
		f := checkimages.New(crowded{r.API, &held[0]}, r.EngineWith(options))
		d := rebuilt(t, r, other, events.DesktopResult{DesktopID: r.Desktops[0], Outcome: events.Succeeded})
		functiontest.Data[events.ImagesChecked](t, functiontest.Only(t, r.Follow(f, d)))
		looks, _ := r.Calls(emulator.CallCheckImages)
		require.Equal(t, 16, looks, "as many as in ten minutes")
	}
}
