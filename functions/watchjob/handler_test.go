package watchjob_test

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/desktoptoimage"
	"recompose/functions/rebuild"
	"recompose/functions/watchjob"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func function(r *functiontest.Rig) queue.Function {
	return watchjob.New(r.API, r.Engine())
}

// rebuilding starts a rebuild of all desktops and gives its job.accepted.
func rebuilding(r *functiontest.Rig, delay int64) queue.Delivery {
	r.TB.Helper()
	id, imageType := r.OtherImage()
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: id, ImageType: imageType}
	cmd.DelayTime = delay
	f := rebuild.New(r.API, r.Engine())
	return r.Message(functiontest.Only(r.TB, r.Process(f, r.Command(events.TypeRebuild, "c1", cmd))))
}

// capturing starts a capture and gives its job.accepted.
func capturing(r *functiontest.Rig) queue.Delivery {
	r.TB.Helper()
	cmd := events.DesktopToImage{
		ImageName: "golden", DesktopID: r.Desktops[0], Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: r.Desktops[1:]}},
	}
	f := desktoptoimage.New(r.API, r.Engine())
	return r.Message(functiontest.Only(r.TB, r.Process(f, r.Command(events.TypeDesktopToImage, "c1", cmd))))
}

func completed(t *testing.T, r *functiontest.Rig, d queue.Delivery) (events.JobCompleted, events.Envelope) {
	t.Helper()
	e := functiontest.Only(t, r.Follow(function(r), d))
	return functiontest.Data[events.JobCompleted](t, e), e
}

func outcomes(done events.JobCompleted) map[string]string {
	m := map[string]string{}
	for _, d := range done.Desktops {
		m[d.DesktopID] = d.Outcome
	}
	return m
}

func TestARebuildIsFollowedUntilEveryDesktopIsDone(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	d := rebuilding(r, 0)
	done, e := completed(t, r, d)
	require.Equal(t, events.Succeeded, done.Outcome)
	require.Equal(t, events.FnRebuild, done.Function)
	require.Len(t, done.Desktops, 3)
	r.Clock.Add(20 * time.Second) // the desktops lag behind their job
	require.Equal(t, done.ImageID, r.Emulator.State().Desktops[0].Metadata["metering.image_id"])
	for _, job := range r.Emulator.State().Jobs[0].SubJobs {
		require.Equal(t, "SUCCESS", job.Status)
	}

	again := functiontest.Only(t, r.Follow(function(r), d))
	require.Equal(t, e, again, "a second look publishes the same end")
	f := rebuild.New(r.API, r.Engine())
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: done.ImageID, ImageType: done.ImageType}
	published := r.Process(f, r.Command(events.TypeRebuild, "c1", cmd)).Events
	require.Len(t, published, 2)
	accepted, err := events.Decode(d.Headers, d.Body, events.Bare{})
	require.NoError(t, err)
	require.Equal(t, accepted, published[0], "a redelivered command publishes its job")
	require.Equal(t, e, published[1], "and the same end")
}

func TestTheFirstLookIsTenSecondsLaterAndNothingWaitsMeanwhile(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	d := rebuilding(r, 0)
	before := len(r.Emulator.Requests(0, 0))
	var waits []time.Duration
	for range 14 {
		result := r.Process(function(r), d)
		if result.Delay == nil {
			break
		}
		waits = append(waits, result.Delay.After)
		d = r.Later(result.Delay)
	}
	require.Equal(t, []time.Duration{10, 15, 20, 300, 208, 49}, seconds(waits), "by its progress it takes ten minutes")
	require.Len(t, r.Emulator.Requests(0, 0), before+len(waits), "one look a message, none at the first")
}

func seconds(waits []time.Duration) []time.Duration {
	s := make([]time.Duration, len(waits))
	for i, w := range waits {
		s[i] = w / time.Second
	}
	return s
}

func TestWhileUsersSaveTheirWorkItLooksEveryTenMinutes(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	d := rebuilding(r, 25)
	first := r.Process(function(r), d)
	require.Equal(t, 10*time.Minute, first.Delay.After)
	second := r.Process(function(r), r.Later(first.Delay))
	require.Equal(t, 10*time.Minute, second.Delay.After)
	third := r.Process(function(r), r.Later(second.Delay))
	require.LessOrEqual(t, third.Delay.After, 5*time.Minute+10*time.Second)
	done, _ := completed(t, r, r.Later(third.Delay))
	require.Equal(t, events.Succeeded, done.Outcome)
}

func TestFailedDesktopsAreNamedWithWhy(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, DesktopID: r.Desktops[1], Do: emulator.Do{Job: "fail", ErrorCode: "WKS.0999", ErrorMsg: "no space left"}})
	done, _ := completed(t, r, rebuilding(r, 0))
	require.Equal(t, events.Partial, done.Outcome)
	require.Equal(t, map[string]string{r.Desktops[0]: events.Succeeded, r.Desktops[1]: events.Failed, r.Desktops[2]: events.Succeeded}, outcomes(done))
	require.Equal(t, "WKS.0999", done.Desktops[1].ErrorCode)
	require.Equal(t, "no space left", done.Desktops[1].FailReason)
}

// The service may write the id of a desktop in another letter case than the command.
func TestTheLetterCaseOfADesktopDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := rebuilding(r, 0)
	e := functiontest.Only(t, r.Follow(watchjob.New(upper{r.API}, r.Engine()), d))
	done := functiontest.Data[events.JobCompleted](t, e)
	require.Equal(t, map[string]string{r.Desktops[0]: events.Succeeded, r.Desktops[1]: events.Succeeded}, outcomes(done))
}

// upper is a service that writes ids of desktops in capitals.
type upper struct{ *workspace.Client }

func (u upper) ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	list, err := u.Client.ListSubJobs(ctx, q)
	for _, sub := range list.Jobs {
		sub.Entities.DesktopID = strings.ToUpper(sub.Entities.DesktopID)
	}
	return list, err
}

// A job whose sub-jobs run is not lost, even if they do not name its desktops.
func TestAJobThatNamesNoDesktopIsNotLostWhileItRuns(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	d := rebuilding(r, 0)
	begin := r.Clock.Now()
	e := functiontest.Only(t, r.Follow(watchjob.New(nameless{r.API}, r.Engine()), d))
	done := functiontest.Data[events.JobCompleted](t, e)
	require.Equal(t, events.Lost, done.Outcome)
	require.GreaterOrEqual(t, r.Clock.Now().Sub(begin), 10*time.Minute, "until the job has ended")
}

// nameless is a service whose sub-jobs name no desktop.
type nameless struct{ *workspace.Client }

func (n nameless) ListSubJobs(ctx context.Context, q workspace.SubJobsQuery) (workspace.SubJobs, error) {
	list, err := n.Client.ListSubJobs(ctx, q)
	for i := range list.Jobs {
		list.Jobs[i].Entities = nil
	}
	return list, err
}

// The end of a job must fit into a record and on a topic, however much the service writes about each desktop.
func TestLongReasonsAreCut(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, events.MaxRebuildCall)
	long := strings.Repeat("no space left \u2013 ", 500)
	r.Faults(emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Job: "fail", ErrorCode: strings.Repeat("9", 5000), ErrorMsg: long}})
	done, e := completed(t, r, rebuilding(r, 0))
	require.Equal(t, events.Failed, done.Outcome)
	require.Less(t, len(e.Data), store.MaxValue*2/3)
	for _, d := range done.Desktops {
		for _, text := range []string{d.FailReason, d.Message} {
			cut, found := strings.CutSuffix(text, "…")
			require.True(t, found)
			require.True(t, strings.HasPrefix(long, cut))
			require.Greater(t, len(cut), 500)
		}
	}
}

func TestAnImageJobEndsWithItsImage(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	done, e := completed(t, r, capturing(r))
	require.Equal(t, events.Succeeded, done.Outcome)
	require.Equal(t, "golden", done.Image.ImageName)
	require.Equal(t, "private", done.Image.ImageType)
	images, err := r.API.ListImages(t.Context(), workspace.ImagesQuery{ImageType: "private"})
	require.NoError(t, err)
	require.Equal(t, images.Images[0].ID, done.Image.ImageID)
	require.Equal(t, r.Desktops[1:], done.Then.Rebuild.DesktopIDs)
	require.Equal(t, []events.Pending{{ID: events.ReactionID(e, events.FnRebuild), Function: events.FnRebuild}},
		events.Open(events.Root{ID: e.Causation}, []events.Envelope{e}))
}

func TestAFailedImageJobReportsItsReason(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	r.Faults(emulator.Fault{Call: emulator.CallDesktopToImage, Do: emulator.Do{Job: "fail", ErrorCode: "IMG.0005", ErrorMsg: "system disk unusable"}})
	done, _ := completed(t, r, capturing(r))
	require.Equal(t, events.Failed, done.Outcome)
	require.Nil(t, done.Image)
	require.Equal(t, []events.DesktopResult{{DesktopID: r.Desktops[0], Outcome: events.Failed, ErrorCode: "IMG.0005", FailReason: "system disk unusable", Message: done.Desktops[0].Message}}, done.Desktops)
	require.False(t, done.ImpliesRebuild())
}

func TestTwoImagesOfTheNameAreNotGuessedBetween(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 3)
	first := capturing(r)
	// Another person captures another desktop under the same name meanwhile.
	_, err := r.API.DesktopToImage(t.Context(), r.API.ServiceNow(), workspace.DesktopToImageRequest{ImageName: "golden", DesktopID: r.Desktops[1]})
	require.NoError(t, err)
	r.Clock.Add(2 * time.Hour)
	done, _ := completed(t, r, first)
	require.Equal(t, events.Failed, done.Outcome)
	require.Equal(t, events.KindAmbiguousImage, done.Error.Kind)
	require.False(t, done.ImpliesRebuild())
}

func TestAnEmptyListIsNotYetForFiveMinutesThenLost(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	begin := r.Clock.Now()
	d := rebuilding(r, 0)
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "history-deleted"}})
	done, _ := completed(t, r, d)
	require.Equal(t, events.Lost, done.Outcome)
	require.Equal(t, map[string]string{r.Desktops[0]: events.Missing, r.Desktops[1]: events.Missing}, outcomes(done))
	require.GreaterOrEqual(t, r.Clock.Now().Sub(begin), 5*time.Minute)
	require.Less(t, r.Clock.Now().Sub(begin), 7*time.Minute)

	r = functiontest.New(t, 2)
	d = rebuilding(r, 0)
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Times: 3, Do: emulator.Do{Quirk: "sub-jobs-empty"}})
	done, _ = completed(t, r, d)
	require.Equal(t, events.Succeeded, done.Outcome)
}

func TestWhatTheServiceMixesUpDoesNotMatter(t *testing.T) {
	t.Parallel()
	for _, quirk := range []string{"end-time-while-running", "job-type-typo"} {
		t.Run(quirk, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			d := rebuilding(r, 0)
			r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: quirk}})
			done, _ := completed(t, r, d)
			require.Equal(t, events.Succeeded, done.Outcome)
		})
	}
}

func TestAJobThatCannotBeSeenIsFollowedToItsDeadline(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]emulator.Do{
		"403": {Status: 403, ErrorCode: "WKS.00010099"}, "404": {Status: 404, ErrorCode: "WKS.0915"}, "404 of the gateway": {Status: 404, ErrorCode: "APIGW.0101"},
		"400": {Status: 400, ErrorCode: "WKS.0001"}, "429": {Status: 429, ErrorCode: "APIGW.0308"}, "500": {Status: 500}, "502": {Status: 502}, "503": {Status: 503},
		"302": {Status: 302}, "network lost": {Drop: "before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			d := rebuilding(r, 0)
			r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: do})
			done, _ := completed(t, r, d)
			require.Equal(t, events.TimedOut, done.Outcome)
			require.NotNil(t, done.Error)
			require.Equal(t, do.Status, done.Error.HTTPStatus)

			r = functiontest.New(t, 2)
			d = rebuilding(r, 0)
			r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Times: 4, Do: do})
			done, _ = completed(t, r, d)
			require.Equal(t, events.Succeeded, done.Outcome, "and when it can be seen again, it is")
		})
	}
}

func TestA401StopsTheWorkerAndKeepsTheMessage(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	first := r.Process(function(r), rebuilding(r, 0))
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Times: 1, Do: emulator.Do{Status: 401, ErrorCode: "APIGW.0301"}})
	stopped := r.Process(function(r), r.Later(first.Delay))
	require.Error(t, stopped.Stop)
	require.Empty(t, stopped.Events)
	done, _ := completed(t, r, r.Later(stopped.Delay))
	require.Equal(t, events.Succeeded, done.Outcome)
}

func TestTheFirstEndStands(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := rebuilding(r, 0)
	want, e := completed(t, r, d)
	// A slow poll of another worker comes to another conclusion later: it publishes the recorded end.
	r.Faults(emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: "history-deleted"}})
	r.Clock.Add(10 * time.Hour)
	done, again := completed(t, r, d)
	require.Equal(t, want, done)
	require.Equal(t, e, again)
}

func TestGivenUpTheJobIsLost(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := rebuilding(r, 0)
	d.Deliveries = queue.MaxDeliveries + 1
	result := r.Process(function(r), d)
	done := functiontest.Data[events.JobCompleted](t, result.Events[0])
	require.Equal(t, events.Lost, done.Outcome)
	require.Equal(t, events.KindAttemptsUsedUp, done.Error.Kind)
}

// A job.accepted of an earlier version has no digest: its end has that of the record, however it ends.
func TestTheJobOfAnEarlierVersionEndsWithTheDigest(t *testing.T) {
	t.Parallel()
	for _, deliveries := range []int{1, queue.MaxDeliveries + 1} {
		r := functiontest.New(t, 2)
		d := rebuilding(r, 0)
		record, _, err := r.Ledger.Get(t.Context(), events.Identity("test", "c1"))
		require.NoError(t, err)
		old := bytes.Replace(d.Body, []byte(`,"digest":"`+record.Digest+`"`), nil, 1)
		require.Less(t, len(old), len(d.Body))
		d.Body, d.Deliveries = old, deliveries
		result := r.Follow(function(r), d)
		require.Len(t, result.Events, 1)
		done := functiontest.Data[events.JobCompleted](t, result.Events[0])
		require.Equal(t, record.Digest, done.Command.Digest)
		d.Deliveries = 1
		require.Equal(t, result.Events, r.Process(function(r), r.Later(r.Process(function(r), d).Delay)).Events, "the recorded end")
	}
}

// forgetful is a ledger that notes which records are reported as missing.
type forgetful struct {
	ledger.Store
	missing []string
}

func (f *forgetful) Missing(_ context.Context, key, epoch string) error {
	f.missing = append(f.missing, key+" "+epoch)
	return &ledger.LostError{Reason: "test"}
}

func TestAJobWithoutItsRecordIsReportedAndFollowed(t *testing.T) {
	t.Parallel()
	command := events.Identity("test", "c1")
	for name, older := range map[string]*ledger.Record{"no record": nil, "an older one": {Digest: "d", Fence: 1, SignedAt: time.Now()}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := functiontest.New(t, 2)
			d := rebuilding(r, 0)
			accepted := d.Body
			d.Headers[queue.EpochHeader] = []string{"e1"}
			f := &forgetful{Store: memledger.New()}
			r.Ledger = f
			if older != nil {
				_, err := f.Put(t.Context(), command, *older, 0)
				require.NoError(t, err)
			}
			first := r.Process(function(r), d)
			require.Equal(t, "e1", first.Delay.Epoch, "a delayed form is of the epoch of its message")
			require.Equal(t, []string{command + " e1"}, f.missing)
			if older == nil {
				id, imageType := r.OtherImage()
				again := r.Process(rebuild.New(r.API, r.Engine()),
					r.Command(events.TypeRebuild, "c1", events.Rebuild{DesktopIDs: r.Desktops, ImageID: id, ImageType: imageType}))
				var was, is events.Envelope
				require.NoError(t, json.Unmarshal(accepted, &was))
				is = functiontest.Only(t, again)
				require.Equal(t, was.ID, is.ID)
				require.JSONEq(t, string(was.Data), string(is.Data), "its record is made from the event")
				_, writes := r.Calls(emulator.CallRebuild)
				require.Equal(t, 1, writes)
			}
			done, _ := completed(t, r, d)
			require.Equal(t, events.Succeeded, done.Outcome)
		})
	}
}

func TestALostLedgerDoesNotLoseTheJob(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := rebuilding(r, 0)
	record, rev, err := r.Ledger.Get(t.Context(), events.Identity("test", "c1"))
	require.NoError(t, err)
	require.Equal(t, once.Accepted, once.StateOf(record))
	_, err = r.Ledger.Put(t.Context(), events.Identity("test", "c1"), ledger.Record{}, rev)
	require.NoError(t, err)
	done, _ := completed(t, r, d)
	require.Equal(t, events.Succeeded, done.Outcome)
	record, _, err = r.Ledger.Get(t.Context(), events.Identity("test", "c1"))
	require.NoError(t, err)
	require.Equal(t, done.Command.Digest, record.Digest, "the id still belongs to this data")
}

// looks delivers a message to a function until it is no longer delayed, and returns everything published on the way.
func looks(r *functiontest.Rig, d queue.Delivery) (published []events.Envelope) {
	r.TB.Helper()
	for range 200 {
		result := r.Process(function(r), d)
		require.NoError(r.TB, result.Retry)
		published = append(published, result.Events...)
		if result.Delay == nil {
			return published
		}
		d = r.Later(result.Delay)
	}
	require.Fail(r.TB, "the message is delayed for ever")
	return nil
}
