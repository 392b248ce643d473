package ledger_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
)

// lost is a command whose first call has an unknown outcome; look says what is found.
func (b *bench) lost(look func(past bool) (ledger.Finding, error)) ledger.Call {
	c := b.call(func(context.Context) error {
		if b.sends.Load() == 1 {
			return errLost
		}
		return nil
	})
	c.Look = func(_ context.Context, _ ledger.Record, _ time.Time, past bool) (ledger.Finding, error) {
		return look(past)
	}
	c.Unknown = func(err error) ledger.End {
		if err == nil {
			return *end("unknown")
		}
		return *end(err.Error())
	}
	return c
}

func (b *bench) found(job string) ledger.Finding {
	return ledger.Finding{Job: &ledger.Sent{JobID: job, At: b.clock.Now()}}
}

func (b *bench) absent() ledger.Finding {
	return ledger.Finding{Absent: true, Date: b.w.ServiceNow()}
}

// follow asks again whenever it is told to, and gives the waits.
func (b *bench) follow(t *testing.T, c ledger.Call) (ledger.Record, []time.Duration) {
	t.Helper()
	var waits []time.Duration
	for range 50 {
		r, err := b.w.Do(t.Context(), c)
		var wait *ledger.WaitError
		if errors.As(err, &wait) {
			waits = append(waits, wait.For)
			b.clock.Add(wait.For)
			continue
		}
		require.NoError(t, err)
		return r, waits
	}
	require.Fail(t, "it never ends")
	return ledger.Record{}, nil
}

func TestALostCallIsFoundAndAdopted(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.w.Resend = true
	looks := 0
	c := b.lost(func(bool) (ledger.Finding, error) {
		if looks++; looks < 3 {
			return b.absent(), nil // not yet: too early to prove anything
		}
		return b.found("job-7"), nil
	})
	begin := b.clock.Now()
	r, _ := b.follow(t, c)
	require.Equal(t, "job-7", r.JobID)
	require.Equal(t, ledger.Accepted, r.State())
	require.EqualValues(t, 1, b.sends.Load())
	require.Equal(t, 5*time.Minute, b.clock.Now().Sub(begin).Round(time.Minute), "the third look")
}

func TestTheTimesOfTheLooks(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var ages []time.Duration
	var pasts []bool
	begin := b.w.ServiceNow()
	c := b.lost(func(past bool) (ledger.Finding, error) {
		ages = append(ages, b.w.ServiceNow().Sub(begin))
		pasts = append(pasts, past)
		return ledger.Finding{}, nil
	})
	r, _ := b.follow(t, c)
	require.Equal(t, []time.Duration{30 * time.Second, 2 * time.Minute, 5 * time.Minute, 16*time.Minute + time.Second}, ages[:4])
	require.Equal(t, []bool{false, false, false, true}, pasts[:4])
	require.Contains(t, r.End.ID, "neither found nor proved absent")
	require.Less(t, ages[len(ages)-1], 28*time.Minute)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWhatIsProvedAbsentPastTheFenceIsSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.w.Resend = true
	c := b.lost(func(bool) (ledger.Finding, error) { return b.absent(), nil })
	begin := b.w.ServiceNow()
	r, _ := b.follow(t, c)
	require.Equal(t, "job-1", r.JobID)
	require.EqualValues(t, 2, b.sends.Load())
	require.Greater(t, r.SignedAt.Sub(begin), 16*time.Minute, "the second call has a date of its own")
	require.Equal(t, begin, r.Resent)
	require.EqualValues(t, 2, r.Fence)
}

func TestAnAbsenceSeenTooEarlyProvesNothing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.w.Resend = true
	stale := b.w.ServiceNow().Add(16 * time.Minute)
	c := b.lost(func(bool) (ledger.Finding, error) { return ledger.Finding{Absent: true, Date: stale}, nil })
	r, _ := b.follow(t, c)
	require.NotNil(t, r.End, "the service's own clock never passed the fence")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWithoutAFenceNothingIsSentAgain(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.lost(func(bool) (ledger.Finding, error) { return b.absent(), nil })
	r, _ := b.follow(t, c)
	require.Contains(t, r.End.ID, "sending it again is turned off")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestAServiceThatCannotBeAskedLeavesItUnknown(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.w.Resend = true
	c := b.lost(func(bool) (ledger.Finding, error) { return ledger.Finding{}, errors.New("status 403") })
	r, _ := b.follow(t, c)
	require.Contains(t, r.End.ID, "status 403")
	require.EqualValues(t, 1, b.sends.Load())
}

func TestAJobIsAdoptedByOneCommandOnly(t *testing.T) {
	t.Parallel()
	b := setup(t)
	look := func(bool) (ledger.Finding, error) { return b.found("job-7"), nil }
	first, _ := b.follow(t, b.lost(look))
	require.Equal(t, "job-7", first.JobID)
	b.sends.Store(0)
	other := b.lost(look)
	other.Key = "key2"
	second, _ := b.follow(t, other)
	require.Empty(t, second.JobID)
	require.NotNil(t, second.End)
}

func TestAnAcceptedJobCannotBeAdoptedByAnother(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.w.Do(t.Context(), b.call(ok))
	require.NoError(t, err)
	b.sends.Store(0)
	other := b.lost(func(bool) (ledger.Finding, error) { return b.found("job-1"), nil })
	other.Key = "key2"
	r, _ := b.follow(t, other)
	require.NotNil(t, r.End)
}

func TestTheSecondCallMayBeLostToo(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.w.Resend = true
	c := b.lost(func(bool) (ledger.Finding, error) {
		if b.sends.Load() == 2 {
			return b.found("job-late"), nil
		}
		return b.absent(), nil
	})
	send := c.Send
	c.Send = func(ctx context.Context, at time.Time, d json.RawMessage) (ledger.Sent, error) {
		if _, err := send(ctx, at, d); err != nil {
			return ledger.Sent{}, err
		}
		return ledger.Sent{}, errLost
	}
	r, _ := b.follow(t, c)
	require.Equal(t, "job-late", r.JobID)
	require.EqualValues(t, 2, b.sends.Load())
}

func TestALookMayEndTheCommand(t *testing.T) {
	t.Parallel()
	b := setup(t)
	r, _ := b.follow(t, b.lost(func(bool) (ledger.Finding, error) { return ledger.Finding{End: end("split")}, nil }))
	require.Equal(t, "end-split", r.End.ID)
}

func TestARefusalThatMayPass(t *testing.T) {
	t.Parallel()
	b := setup(t)
	begin := b.clock.Now()
	c := b.call(func(context.Context) error {
		if b.clock.Now().Sub(begin) < time.Minute {
			return errConflict
		}
		return nil
	})
	judge := c.Judge
	c.Judge = func(err error) ledger.Judgement {
		if errors.Is(err, errConflict) {
			return ledger.Judgement{Refusal: json.RawMessage(`"busy"`), RetryIn: 20 * time.Second}
		}
		return judge(err)
	}
	var since []time.Time
	c.Refused = func(_ context.Context, r ledger.Record) (*ledger.End, error) {
		since = append(since, r.Refused.Since)
		require.JSONEq(t, `"busy"`, string(r.Refused.Data))
		return nil, nil
	}
	r, waits := b.follow(t, c)
	require.Equal(t, "job-1", r.JobID)
	require.Equal(t, []time.Duration{20 * time.Second, 20 * time.Second, 20 * time.Second}, waits)
	for _, s := range since {
		require.Equal(t, begin, s, "the first refusal counts")
	}

	b = setup(t)
	c.Key = "key"
	c.Send = func(context.Context, time.Time, json.RawMessage) (ledger.Sent, error) {
		b.sends.Add(1)
		return ledger.Sent{}, errConflict
	}
	c.Refused = func(context.Context, ledger.Record) (*ledger.End, error) { return end("conflict"), nil }
	r, _ = b.follow(t, c)
	require.Equal(t, "end-conflict", r.End.ID)
	require.EqualValues(t, 1, b.sends.Load())
}

// The lost call shows only after it was made again: the second call is refused because the first one's job runs.
func TestAConflictMayBeOurOwnLostCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.w.Resend = true
	late := false
	c := b.lost(func(bool) (ledger.Finding, error) {
		if late {
			return b.found("job-first"), nil
		}
		return b.absent(), nil
	})
	send := c.Send
	c.Send = func(ctx context.Context, at time.Time, d json.RawMessage) (ledger.Sent, error) {
		if _, err := send(ctx, at, d); err != nil {
			return ledger.Sent{}, err
		}
		late = true
		return ledger.Sent{}, errConflict
	}
	judge := c.Judge
	c.Judge = func(err error) ledger.Judgement {
		if errors.Is(err, errConflict) {
			return ledger.Judgement{Refusal: json.RawMessage(`"busy"`), RetryIn: 20 * time.Second}
		}
		return judge(err)
	}
	c.Refused = func(context.Context, ledger.Record) (*ledger.End, error) { return end("conflict"), nil }
	r, _ := b.follow(t, c)
	require.Equal(t, "job-first", r.JobID)
	require.Nil(t, r.End)
}

var errConflict = errors.New("409")
