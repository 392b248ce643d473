package once_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// limitedOnce holds the first turns back.
type limitedOnce struct {
	service
	turns *int
}

func (l limitedOnce) AwaitTurn(context.Context) error {
	if *l.turns--; *l.turns >= 0 {
		return errLimited
	}
	return nil
}

// What was read before a call that is held back, by the rate limit, by a freeze or by another read, is there for the next
// preparation, also in another worker.
func TestWhatWasReadIsKeptWhileACallIsHeldBack(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := ledger.Detail{DesktopIDs: []string{"d-1"}, ReadAt: b.ServiceNow(), Previous: []events.ImageInfo{{DesktopID: "d-1", ImageID: "i"}}}
	f := b.call(accept)
	f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) { return read, nil, nil }
	turns := 2
	deliver := func() error {
		_, err := once.New(b.Config, limitedOnce{b.service, &turns}, b.Options).Do(t.Context(), f)
		return err
	}
	for range 2 {
		require.True(t, queue.IsVerdict(deliver()))
		require.Equal(t, once.Free, once.StateOf(b.record(t, f)))
		require.Equal(t, read, b.record(t, f).Detail)
	}
	b.Safety = slow(func() { b.clock.Add(time.Minute) })
	require.True(t, queue.IsVerdict(deliver()), "the worker stands still after the intent was recorded")
	b.Safety = nil
	require.NoError(t, deliver())
	require.Equal(t, []ledger.Detail{{}, read, read, read}, f.kept)
	require.EqualValues(t, 1, b.sends.Load())
}

// A preparation after an earlier call must not begin with what was read for a first one.
func TestNothingIsKeptBesideAnEarlierCall(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.call(accept)
	b.begin(t, f, calledBefore)
	turns := 1
	f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
		return ledger.Detail{DesktopIDs: []string{"d-1"}, ReadAt: b.ServiceNow()}, nil, nil
	}
	before := b.record(t, f).Detail
	_, err := once.New(b.Config, limitedOnce{b.service, &turns}, b.Options).Do(t.Context(), f)
	require.True(t, queue.IsVerdict(err))
	require.Equal(t, before.DesktopIDs, b.record(t, f).Detail.DesktopIDs)
	require.Equal(t, []ledger.Detail{{}}, f.kept)
}

// farTurn has no turn for a write soon.
type farTurn struct{ service }

func (farTurn) CheckTurn() error { return errLimited }

func TestNothingIsReadForACallThatHasNoTurnSoon(t *testing.T) {
	t.Parallel()
	b := setup(t)
	f := b.call(accept)
	_, err := once.New(b.Config, farTurn{b.service}, b.Options).Do(t.Context(), f)
	require.True(t, queue.IsVerdict(err))
	require.Empty(t, f.kept)
	require.Zero(t, b.recordOrNone(t, f))
}

// damaged is a ledger whose records cannot be decoded.
type damaged struct{ ledger.Store }

func (damaged) Get(context.Context, string) (ledger.Record, store.Revision, error) {
	return ledger.Record{}, 1, store.ErrDamaged
}

// A command whose record is damaged may have been carried out: it waits, as long as it takes, and the log shows why.
func TestACommandWithADamagedRecordWaitsAndIsReported(t *testing.T) {
	t.Parallel()
	b := setup(t)
	var log bytes.Buffer
	b.Store, b.Log = damaged{b.store}, slog.New(slog.NewTextHandler(&log, nil))
	f := b.call(accept)
	b.clock.Add(24 * time.Hour)
	_, err := b.do(t, f)
	retry, ok := errors.AsType[*queue.RetryError](err)
	require.True(t, ok)
	require.True(t, retry.Held)
	require.Contains(t, log.String(), "its command waits until the record is restored\" key="+f.c.Identity())
	require.Zero(t, b.sends.Load())
}

// ending is a context of which almost nothing is left.
type ending struct{ context.Context }

func (ending) Deadline() (time.Time, bool) { return time.Now(), true }

// A call that the end of an invocation cuts off would have to be looked for, for 16 minutes.
func TestNoCallBeginsAtTheEndOfAnInvocation(t *testing.T) {
	t.Parallel()
	b := setup(t)
	read := ledger.Detail{DesktopIDs: []string{"d-1"}, ReadAt: b.ServiceNow()}
	f := b.call(accept)
	f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) { return read, nil, nil }
	_, err := b.engine().Do(ending{t.Context()}, f)
	retry, ok := errors.AsType[*queue.RetryError](err)
	require.True(t, ok)
	require.True(t, retry.Held)
	require.Zero(t, b.sends.Load())
	require.Equal(t, once.Free, once.StateOf(b.record(t, f)))
	require.Equal(t, read, b.record(t, f).Detail, "it need not be read once more")
	_, err = b.do(t, f)
	require.NoError(t, err)
	require.EqualValues(t, 1, b.sends.Load())
}

func TestWhatWasReadHoldsForAWhile(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	kept := ledger.Detail{ReadAt: at, Known: []string{"j-1", "j-2"}, KnownAll: true}
	for name, c := range map[string]struct {
		kept   ledger.Detail
		known  []string
		after  time.Duration
		some   bool // the list of the jobs of now is incomplete
		wanted bool
	}{
		"at once":                 {kept: kept, known: kept.Known, wanted: true},
		"nearly ten minutes":      {kept: kept, known: kept.Known, after: 10*time.Minute - 1, wanted: true},
		"ten minutes":             {kept: kept, known: kept.Known, after: 10 * time.Minute},
		"before it was read":      {kept: kept, known: kept.Known, after: -time.Second},
		"an old job is forgotten": {kept: kept, known: []string{"j-2"}, wanted: true},
		"a new job":               {kept: kept, known: []string{"j-1", "j-3"}},
		"perhaps a new job":       {kept: kept, known: kept.Known, some: true},
		"a job was under way":     {kept: ledger.Detail{ReadAt: at, Known: kept.Known, Busy: []string{"d-1"}}, known: kept.Known},
		"a record of before":      {kept: ledger.Detail{Known: kept.Known}, known: kept.Known},
	} {
		require.Equal(t, c.wanted, once.Holds(c.kept, ledger.Detail{Known: c.known, KnownAll: !c.some}, at.Add(c.after)), name)
	}
}

// The record of a part is created with what was read for it, unless the part was begun.
func TestAPartIsPreparedOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	whole := b.call(accept)
	whole.c.DesktopIDs = []string{"d-1", "d-2"}
	part := b.call(accept).named(events.PartID(whole.c.Identity(), 1))
	part.c.Envelope.Source, part.c.Data = events.Source(events.FnRebuild), []string{"d-2"}
	read := ledger.Detail{DesktopIDs: []string{"d-2"}, ReadAt: b.ServiceNow()}
	prepared, err := b.engine().PartPrepared(t.Context(), whole, 1)
	require.NoError(t, err)
	require.False(t, prepared)
	require.NoError(t, b.engine().PreparePart(t.Context(), whole, 1, []string{"d-2"}, read))
	require.NoError(t, b.engine().PreparePart(t.Context(), whole, 1, []string{"d-2"}, ledger.Detail{ReadAt: b.ServiceNow().Add(time.Minute)}))
	prepared, err = b.engine().PartPrepared(t.Context(), whole, 1)
	require.NoError(t, err)
	require.True(t, prepared)

	_, err = b.do(t, part)
	require.NoError(t, err)
	require.Equal(t, []ledger.Detail{read}, part.kept)
	require.Equal(t, once.Accepted, once.StateOf(b.record(t, part)))
	accepted := b.record(t, part)
	require.NoError(t, b.engine().PreparePart(t.Context(), whole, 1, []string{"d-2"}, read))
	require.Equal(t, accepted, b.record(t, part), "a part that was begun stays as it is")

	other := b.call(accept).named(part.c.Envelope.ID)
	other.c.Envelope.Source = part.c.Envelope.Source
	_, err = b.do(t, other)
	require.ErrorContains(t, err, "other data")
}
