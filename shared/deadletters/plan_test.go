package deadletters_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/deadletters"
	"recompose/shared/deployment"
	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/queue"
)

// place is a deployment with one dead letter.
type place struct {
	deployment.Client
	command events.Envelope
	book    *memledger.Store // nil: it cannot be opened
}

func (p place) Letters() queue.Letters { return letters{command: p.command} }

// letters reads the command of each letter.
type letters struct {
	queue.Letters
	command events.Envelope
}

func (p letters) CheckRedrive(queue.Letter) (events.Envelope, error) { return p.command, nil }

func (p place) Ledger(context.Context) (ledger.Store, error) {
	if p.book == nil {
		return nil, errors.New("no route to host")
	}
	return p.book, nil
}

func TestTheEffectOfARedrivenWriteDependsOnItsRecord(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	data := json.RawMessage(`{"desktop_ids":["d1"],"image_id":"i","image_type":"private"}`)
	fresh := events.Envelope{ID: "c", Source: "s", Type: events.TypeRebuild, Time: now.Add(-time.Hour), Data: data}
	old := fresh
	old.Time = now.Add(-48 * time.Hour)
	end := func(effect string) *ledger.End {
		raw, err := json.Marshal(events.CommandFailed{Effect: effect})
		require.NoError(t, err)
		return &ledger.End{Type: events.TypeCommandFailed, Data: raw}
	}
	for name, c := range map[string]struct {
		command events.Envelope
		record  *ledger.Record
		acts    bool
		may     string
		note    string
	}{
		"no record":        {command: fresh, acts: true},
		"too old":          {command: old, note: "older than 24h0m0s"},
		"accepted":         {command: fresh, record: &ledger.Record{Digest: fresh.Digest(), JobID: "j"}, may: "has accepted it as job j", note: "without a call"},
		"in flight":        {command: fresh, record: &ledger.Record{Digest: fresh.Digest(), SignedAt: now}, acts: true, may: "its call may have reached the service", note: "searched for"},
		"ended":            {command: fresh, record: &ledger.Record{Digest: fresh.Digest(), End: end(events.EffectNone)}, note: "republished"},
		"ended, not known": {command: fresh, record: &ledger.Record{Digest: fresh.Digest(), End: end(events.EffectUnknown)}, may: "is not known", note: "republished"},
		"other data":       {command: fresh, record: &ledger.Record{Digest: "other"}, note: "id_reused"},
	} {
		book := memledger.New()
		if c.record != nil {
			_, err := book.Put(t.Context(), c.command.Identity(), *c.record, 0)
			require.NoError(t, err, name)
		}
		d := planOf(t, place{command: c.command, book: book}, now)
		require.True(t, d.Writes, name)
		require.NoError(t, d.Fault, name)
		require.Equal(t, c.acts, d.Acts != "", "%s: %q", name, d.Acts)
		require.Contains(t, d.May, c.may, name)
		require.Equal(t, c.may == "", d.May == "", name)
		if c.note != "" {
			require.Contains(t, d.Notes[0], c.note, name)
		}
	}
	d := planOf(t, place{command: fresh}, now)
	require.NotEmpty(t, d.Acts, "without the ledger it may act")
	require.Equal(t, "its record in the ledger could not be read", d.May)
}

// planOf returns the plan of the dead letter of rebuild.
func planOf(t *testing.T, p place, now time.Time) deadletters.Plan {
	t.Helper()
	planner := deadletters.Planner{
		Deployment: p, Functions: []queue.Function{{Name: events.FnRebuild, Writes: true}}, CommandMaxAge: 24 * time.Hour, Now: now,
	}
	return planner.Plan(t.Context(), queue.Letter{ID: "l", Function: events.FnRebuild, Class: queue.ClassUsedUp})
}

func TestANewCommandOfALetterIsOneCommand(t *testing.T) {
	t.Parallel()
	d := deadletters.Plan{Letter: queue.Letter{ID: "l", Number: 7}, Command: events.Envelope{ID: "old", Type: events.TypeRebuild}}
	now := time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)
	first, second := d.AsNew("s", now), d.AsNew("s", now.Add(time.Hour))
	require.Equal(t, first.Identity(), second.Identity())
	require.NotEqual(t, "old", first.ID)
	require.Equal(t, "old", first.Causation)
}
