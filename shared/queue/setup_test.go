package queue_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

var now = time.Date(2026, 2, 10, 8, 0, 0, 0, time.UTC)

const (
	rebuildData   = `{"desktop_ids":["d-1"],"image_type":"gold","image_id":"i-1"}`
	rebuildDigest = "bba6e59a4ee92e3363f1d3431868e5659f4c1c6e0f94babca1fa13abbe66c54e"
)

// rig is a function whose parts a test puts in, and the processor that it runs in.
type rig struct {
	queue.Function
	queue.Processor
	log  *log
	seen []queue.Command // what Handle got
}

// setup gives a write function like rebuild that returns job.accepted.
func setup(t *testing.T) *rig {
	t.Helper()
	r := &rig{log: &log{}}
	r.Processor = queue.Processor{
		Log: slog.New(slog.NewTextHandler(r.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Now: func() time.Time { return now },
	}
	r.Function = queue.Function{
		Name: events.FnRebuild, Types: []string{events.TypeRebuild}, Reacts: []string{events.TypeJobCompleted}, Writes: true,
		React: func(e events.Envelope) (events.Envelope, bool, error) {
			var done events.JobCompleted
			if err := json.Unmarshal(e.Data, &done); err != nil {
				return events.Envelope{}, false, err
			}
			if !done.ImpliesRebuild() {
				return events.Envelope{}, false, nil
			}
			c, err := e.Implies(events.FnRebuild, done.Then.Rebuild.WithImage("i-1", "private"))
			return c, true, err
		},
	}
	r.handles(accepted(), nil)
	return r
}

func accepted() []queue.Outcome {
	return []queue.Outcome{{Type: events.TypeJobAccepted, About: []string{"job.accepted"}, Data: events.JobAccepted{JobID: "j-1"}}}
}

// handles sets what the function returns.
func (r *rig) handles(outcomes []queue.Outcome, err error) {
	r.Handle = func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		r.seen = append(r.seen, c)
		return outcomes, err
	}
}

func (r *rig) process(t *testing.T, d queue.Delivery) queue.Result {
	t.Helper()
	return r.Process(t.Context(), r.Function, d)
}

type log struct {
	sync.Mutex
	bytes.Buffer
}

func (l *log) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	return l.Buffer.Write(b)
}

// command is a rebuild of a sender.
func command() events.Envelope {
	return events.Envelope{
		ID: "rebuild-1", Source: "ci", Type: events.TypeRebuild, Time: now.Add(-time.Minute), Correlation: "chain-1", Causation: "before",
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", Expiry: now.Add(time.Hour), Data: json.RawMessage(rebuildData),
	}
}

// made is the event that implies a rebuild.
func made() events.Envelope {
	data, err := json.Marshal(events.JobCompleted{
		Function: events.FnDesktopToImage, Outcome: events.Succeeded, Image: &events.Image{ImageID: "i-1"},
		Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: []string{"d-1"}}},
	})
	if err != nil {
		panic(err)
	}
	return events.Envelope{
		ID: "made-1", Source: "recompose/watchjob", Type: events.TypeJobCompleted, Time: now.Add(-time.Minute), Correlation: "chain-1",
		Causation: "accepted-1", Expiry: now.Add(time.Hour), Data: data,
	}
}

// acceptedEvent is the event behind which there is a job.
func acceptedEvent() events.Envelope {
	return events.Envelope{
		ID: "accepted-1", Source: "recompose/rebuild", Type: events.TypeJobAccepted, Correlation: "chain-1", Causation: "rebuild-1",
		Data: json.RawMessage(`{"function":"rebuild","job_id":"j-1"}`),
	}
}

// delivery is the first delivery of an envelope.
func delivery(t *testing.T, e events.Envelope) queue.Delivery {
	t.Helper()
	body, err := json.Marshal(e)
	require.NoError(t, err)
	return queue.Delivery{
		Headers: events.Headers{"Content-Type": {events.ContentType}}, Body: body, Deliveries: 1,
		Bare: events.Bare{Type: events.TypeRebuild, Source: "nats:recompose", ID: "msg-1", Time: now},
	}
}

// failure is the command.failed of a result that has exactly one event of that type.
func failure(t *testing.T, r queue.Result) (events.Envelope, events.CommandFailed) {
	t.Helper()
	var found []events.Envelope
	for _, e := range r.Events {
		if e.Type == events.TypeCommandFailed {
			found = append(found, e)
		}
	}
	require.Len(t, found, 1)
	var failed events.CommandFailed
	require.NoError(t, json.Unmarshal(found[0].Data, &failed))
	return found[0], failed
}
