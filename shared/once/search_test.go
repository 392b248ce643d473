package once_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

func TestALostCallIsFoundAndAdopted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	var recovered []string
	b.OnRecovery = func(result string) { recovered = append(recovered, result) }
	looks := 0
	c := b.lost(func() (once.Found, error) {
		if looks++; looks < 3 {
			return b.absent(), nil // too early to prove anything
		}
		return b.job("job-7"), nil
	})
	begin := b.clock.Now()
	r, _ := b.follow(t, c)
	require.Equal(t, "job-7", r.JobID)
	require.Equal(t, once.Accepted, once.StateOf(r))
	require.EqualValues(t, 1, b.sends.Load())
	require.Equal(t, 5*time.Minute, b.clock.Now().Sub(begin).Round(time.Minute), "the third look")
	require.Equal(t, []string{"unknown", "adopted"}, recovered)
}

func TestTheTimesOfTheLooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ages []time.Duration
	begin := b.ServiceNow()
	proofs := 0
	c := b.lost(func() (once.Found, error) {
		ages = append(ages, b.ServiceNow().Sub(begin))
		return b.absent(), nil
	})
	c.unchanged = func() (bool, string, error) {
		proofs++
		return false, "a desktop has a task", nil
	}
	r, _ := b.follow(t, c)
	require.Equal(t, []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 16*time.Minute + time.Second}, ages[:4])
	require.Equal(t, len(ages)-3, proofs, "an absence is not looked into before the fence")
	require.Contains(t, failure(t, r).Error.ErrorMsg, "neither found nor proved absent: a desktop has a task")
	require.Less(t, ages[len(ages)-1], 28*time.Minute)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWhatIsProvedAbsentPastTheFenceIsSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	begin := b.ServiceNow()
	r, _ := b.follow(t, b.lost(func() (once.Found, error) { return b.absent(), nil }))
	require.Equal(t, "job-1", r.JobID)
	require.EqualValues(t, 2, b.sends.Load())
	require.Greater(t, r.SignedAt.Sub(begin), 16*time.Minute, "the second call has a date of its own")
	require.Equal(t, begin, r.Earlier)
	require.EqualValues(t, 2, r.Fence)
}

func TestAnAbsenceSeenTooEarlyProvesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	stale := once.Found{Date: b.ServiceNow().Add(16 * time.Minute)}
	r, _ := b.follow(t, b.lost(func() (once.Found, error) { return stale, nil }))
	require.Equal(t, events.KindUnknownOutcome, failure(t, r).Error.Kind, "the service's own clock never passed the fence")
	require.EqualValues(t, 1, b.sends.Load())
}

// A machine of the service whose clock is ahead answers the looks. The call may still arrive at another one, which accepts
// its signature. The second call waits until the signature has expired by the clock of the workers, too.
func TestAWrongDateOfALookIsNoFence(t *testing.T) {
	t.Parallel()
	for _, wrong := range []time.Duration{17 * time.Minute, 26 * time.Minute, 10 * time.Hour} {
		b := setup(t)
		b.Config.Resend = config.ResendProved
		var ahead time.Duration
		right := b.service
		b.service = func() time.Time { return right().Add(ahead) }
		begin, looks := b.clock.Now(), 0
		c := b.lost(func() (once.Found, error) {
			if looks++; looks > 2 {
				ahead = 0
			}
			return b.absent(), nil
		})
		_, err := b.do(t, c)
		require.Error(t, err)
		b.clock.Add(30 * time.Second)
		ahead = wrong
		for range 30 {
			_, err := b.do(t, c)
			require.True(t, b.sends.Load() == 1 || b.clock.Now().Sub(begin) > config.SignatureWindow, wrong)
			if err == nil {
				break
			}
			b.clock.Add(time.Minute)
		}
		require.NotEmpty(t, b.record(t, c).JobID, "it is made once more then")
		require.EqualValues(t, 2, b.sends.Load())
	}
}

// A call was signed by the Date of a machine whose clock is ahead, which also answers the looks. A machine whose clock is
// right accepts the signature for longer. The record of an earlier version does not have the time of the call.
func TestASigningDateThatIsAheadIsNoFence(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{2 * time.Minute, 5 * time.Minute, 9 * time.Minute} {
		b := setup(t)
		b.Config.Resend = config.ResendProved
		right := b.service
		b.service = func() time.Time { return right().Add(ahead) }
		signed := b.ServiceNow()
		c := b.lost(func() (once.Found, error) { return b.absent(), nil })
		for range 60 {
			_, err := b.do(t, c)
			if ahead > 5*time.Minute {
				b.change(c, once.Looking, func(r *ledger.Record) { r.Sent = time.Time{} })
			}
			require.True(t, b.sends.Load() == 1 || right().Sub(signed) > config.SignatureWindow, ahead)
			if err == nil {
				break
			}
			b.clock.Add(30 * time.Second)
		}
		require.EqualValues(t, 2, b.sends.Load(), "it is made once more then")
	}
}

func TestADoubtProvesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	r, _ := b.follow(t, b.lost(func() (once.Found, error) {
		return once.Found{Date: b.ServiceNow(), Incomplete: "the list of jobs was incomplete"}, nil
	}))
	require.Contains(t, failure(t, r).Error.ErrorMsg, "the list of jobs was incomplete")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWithoutAFenceNothingIsSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, _ := b.follow(t, b.lost(func() (once.Found, error) { return b.absent(), nil }))
	require.Contains(t, failure(t, r).Error.ErrorMsg, "RECOMPOSE_RESEND forbids it")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestACallThatWasMadeWithATokenIsNotSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.byToken, b.Config.Resend = true, config.ResendProved
	r, _ := b.follow(t, b.lost(func() (once.Found, error) { return b.absent(), nil }))
	require.Contains(t, failure(t, r).Error.ErrorMsg, "which does not expire")
	require.EqualValues(t, 1, b.sends.Load())
}

// The call was made with a token, and may arrive until the token expires. A worker that signs its calls by now knows this
// from the record, not from its own credentials.
func TestACallThatWasMadeWithATokenIsNotSentAgainByAWorkerWithAKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.byToken = true
	c := b.lost(func() (once.Found, error) { return b.absent(), nil })
	_, err := b.do(t, c)
	require.Error(t, err)
	b.byToken, b.Config.Resend = false, config.ResendProved
	r, _ := b.follow(t, c)
	require.Contains(t, failure(t, r).Error.ErrorMsg, "which does not expire")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestAServiceThatCannotBeAskedLeavesItUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	r, _ := b.follow(t, b.lost(func() (once.Found, error) { return once.Found{}, errors.New("status 403") }))
	require.Contains(t, failure(t, r).Error.ErrorMsg, "status 403")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestAJobIsAdoptedByOneCommandOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	find := func() (once.Found, error) { return b.job("job-7"), nil }
	first, _ := b.follow(t, b.lost(find))
	require.Equal(t, "job-7", first.JobID)
	b.sends.Store(0)
	second, _ := b.follow(t, b.lost(find).named("c2"))
	require.Empty(t, second.JobID)
	require.Contains(t, failure(t, second).Error.ErrorMsg, "job job-7 of another command")
}

func TestAnAcceptedJobCannotBeAdoptedByAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.do(t, b.call(accept))
	require.NoError(t, err)
	b.sends.Store(0)
	r, _ := b.follow(t, b.lost(func() (once.Found, error) { return b.job("job-1"), nil }).named("c2"))
	require.NotNil(t, r.End)
	require.Empty(t, r.JobID)
}

func TestTheSecondCallMayBeLostToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	c := b.lost(func() (once.Found, error) {
		if b.sends.Load() == 2 {
			return b.job("job-late"), nil
		}
		return b.absent(), nil
	})
	c.send = func(context.Context, time.Time) (workspace.Accepted, error) { return workspace.Accepted{}, errLost }
	r, _ := b.follow(t, c)
	require.Equal(t, "job-late", r.JobID)
	require.EqualValues(t, 2, b.sends.Load())
}

// The service took a part of a lost batch: each part has its record before the split is published.
func TestALostBatchIsDividedByItsJobs(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.byToken = true
	c := b.lost(nil)
	c.c.DesktopIDs = []string{"d-1", "d-2"}
	c.prepare = batch(c)
	c.find = func(time.Time) (once.Found, error) { return b.job("job-7"), nil }
	r, _ := b.follow(t, c)
	require.Equal(t, events.TypeCommandSplit, r.End.Type)
	parts := make([]once.State, 2)
	for i := range parts {
		part, _, err := b.store.Get(t.Context(), events.Identity(events.Source(events.FnRebuild), events.PartID(c.c.Identity(), i)))
		require.NoError(t, err)
		require.Equal(t, r.SignedAt, part.SignedAt)
		require.True(t, part.Undated, "it was sent with a token")
		parts[i] = once.StateOf(part)
	}
	require.Equal(t, []once.State{once.Accepted, once.Looking}, parts)
}

// The job of the lost call shows only after the call was repeated, and the service refused the second call because of it.
func TestAConflictMayBeOurOwnLostCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.Resend = config.ResendProved
	late := false
	c := b.lost(func() (once.Found, error) {
		if late {
			return b.job("job-first"), nil
		}
		return b.absent(), nil
	})
	c.send = func(context.Context, time.Time) (workspace.Accepted, error) {
		if b.sends.Load() == 1 {
			return workspace.Accepted{}, errLost
		}
		late = true
		return workspace.Accepted{}, errConflict
	}
	r, _ := b.follow(t, c)
	require.Equal(t, "job-first", r.JobID)
	require.Nil(t, r.End)
}

// While the outcome of a call is not known, the chain shows it: once, when the search begins, the same each time.
func TestTheBeginOfASearchIsPublishedOnce(t *testing.T) {
	t.Parallel()
	for name, killed := range map[string]bool{"the answer was lost": false, "the worker was killed": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			c := b.lost(func() (once.Found, error) { return b.absent(), nil })
			if killed {
				b.begin(t, c, once.Intent)
			}
			var notices []queue.Outcome
			for range 20 {
				for range 2 { // each delivery is redelivered
					outcomes, err := b.do(t, c)
					if err == nil {
						break
					}
					notices = append(notices, outcomes...)
				}
				b.clock.Add(time.Minute)
			}
			require.NotEmpty(t, notices)
			for _, n := range notices {
				require.Equal(t, notices[0], n)
			}
			unclear := notices[0].Data.(events.CommandUnclear)
			require.Equal(t, events.TypeCommandUnclear, notices[0].Type)
			require.Equal(t, []string{"d-1"}, unclear.DesktopIDs)
			require.True(t, unclear.NextLook.After(unclear.Since))
			require.NotEmpty(t, unclear.Reason)
		})
	}
}

// One answer with a wrong Date, such as that of a proxy, sets the clock wrong until the next answer. What was to be done by
// that clock is not put off for as long.
func TestAWrongDateDelaysNoLook(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]error{
		"lost": errLost, "refused": errConflict, "throttled": &workspace.Error{Class: workspace.Throttled, Status: 429}, "the disk is busy": &workspace.Error{Class: workspace.DiskBusy, Status: 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			var ahead time.Duration
			right := b.service
			b.service = func() time.Time { return right().Add(ahead) }
			c := b.call(func(context.Context) error {
				if b.sends.Load() > 1 {
					return nil
				}
				ahead = 10 * time.Hour
				return lost
			})
			c.find = func(time.Time) (once.Found, error) { return b.job("job-7"), nil }
			begin := b.clock.Now()
			_, err := b.do(t, c)
			require.Error(t, err)
			ahead = 0
			r, _ := b.follow(t, c)
			require.NotEmpty(t, r.JobID)
			require.Less(t, b.clock.Now().Sub(begin), 20*time.Minute)
		})
	}
}

// The answer without a job was given at about the signing date, whatever its Date: the job of the call is not later than
// the time that a call may take, and the command is refused since then.
func TestAWrongDateOfARefusalExcludesNoJob(t *testing.T) {
	t.Parallel()
	for _, off := range []time.Duration{-10 * time.Hour, -time.Hour, -5 * time.Minute, -time.Second, 10 * time.Hour} {
		b := setup(t)
		var ahead time.Duration
		right := b.service
		b.service = func() time.Time { return right().Add(ahead) }
		c := b.call(func(context.Context) error {
			ahead = off
			return &workspace.Error{Class: workspace.Conflict, Status: 409, Date: b.ServiceNow()}
		})
		_, err := b.do(t, c)
		require.Error(t, err)
		r := b.record(t, c)
		require.Equal(t, once.SendWithin, r.EarlierUntil.Sub(r.Earlier), off)
		require.InDelta(t, 0, r.Refused.Since.Sub(r.Earlier), float64(5*time.Minute), off)
	}
}

func TestARefusalWithoutADateExcludesNoJob(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.call(func(context.Context) error { return &workspace.Error{Class: workspace.Conflict, Status: 409} })
	_, err := b.do(t, c)
	require.Error(t, err)
	r := b.record(t, c)
	require.Equal(t, once.SendWithin, r.EarlierUntil.Sub(r.Earlier))
}
