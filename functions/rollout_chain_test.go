package functions_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
)

// bus carries messages between all functions, with the clock of a rig.
type bus struct {
	*functiontest.Rig
	fns       []queue.Function
	due       []dueMessage
	published []events.Envelope
}

type dueMessage struct {
	id      string
	at      time.Time
	f       queue.Function
	message func() queue.Delivery
}

func newBus(t *testing.T, o emulator.Options) *bus {
	r := functiontest.NewWith(t, o)
	options := r.Options()
	options.Rollouts = memstore.New()
	return &bus{Rig: r, fns: functions.New(r.Config, r.API, options)}
}

func (b *bus) function(name string) queue.Function {
	i := slices.IndexFunc(b.fns, func(f queue.Function) bool { return f.Name == name })
	require.GreaterOrEqual(b.TB, i, 0, name)
	return b.fns[i]
}

// add stores a message, but not while one with the same id is stored, as NATS does for two minutes.
func (b *bus) add(id string, after time.Duration, f queue.Function, message func() queue.Delivery) {
	if !slices.ContainsFunc(b.due, func(d dueMessage) bool { return d.id == id && d.f.Name == f.Name }) {
		b.due = append(b.due, dueMessage{id, b.Clock.Now().Add(after), f, message})
	}
}

func (b *bus) send(typ, id string, data any) {
	d := b.Command(typ, id, data)
	b.add(id, 0, b.function(events.FnRollout), func() queue.Delivery { return d })
}

// run delivers messages in the order in which they are due, each as often as deliveries says, until an event
// of this type.
func (b *bus) run(until string, deliveries int) events.Rollout {
	for n := 0; len(b.due) > 0; n++ {
		require.Less(b.TB, n, 5000)
		slices.SortStableFunc(b.due, func(x, y dueMessage) int { return x.at.Compare(y.at) })
		next := b.due[0]
		b.due = b.due[1:]
		b.Clock.Add(max(next.at.Sub(b.Clock.Now()), 0))
		d := next.message()
		var end *events.Rollout
		for range deliveries {
			result := b.Process(next.f, d)
			require.NoError(b.TB, result.Retry, next.f.Name)
			require.Nil(b.TB, result.Dead, next.f.Name)
			if found := b.store(result, until); found != nil {
				end = found
			}
			d.Deliveries++
		}
		if end != nil {
			return *end
		}
	}
	require.Fail(b.TB, "nothing is due any more", "%v", until)
	return events.Rollout{}
}

func (b *bus) store(r queue.Result, until string) (end *events.Rollout) {
	for _, n := range r.Next {
		b.add(n.Envelope.ID, n.After, b.function(n.Function), func() queue.Delivery { return b.Message(n.Envelope) })
	}
	for _, e := range r.Events {
		if slices.ContainsFunc(b.published, func(p events.Envelope) bool { return p.ID == e.ID }) {
			continue
		}
		b.published = append(b.published, e)
		for _, f := range b.fns {
			if slices.Contains(f.Reacts, e.Type) {
				b.add(e.ID, 0, f, func() queue.Delivery { return b.Message(e) })
			}
		}
		if e.Type == until {
			end = new(events.Rollout)
			require.NoError(b.TB, json.Unmarshal(e.Data, end))
		}
	}
	if d := r.Delay; d != nil {
		f := b.function(d.Function)
		b.add(d.Identity+fmt.Sprint(d.Attempt), d.After, f, func() queue.Delivery {
			m := b.Message(d.Envelope)
			m.Headers[queue.AttemptHeader] = []string{fmt.Sprint(d.Attempt)}
			m.Headers[queue.FailuresHeader], m.Headers[queue.HeldHeader] = []string{fmt.Sprint(d.Failures)}, []string{fmt.Sprint(d.Held)}
			return m
		})
	}
	return end
}

// runs counts the desktops by the image that they run, at the emulator.
func (b *bus) runs() map[string]int {
	counts := map[string]int{}
	for _, d := range b.Emulator.State().Desktops {
		counts[d.Metadata["metering.image_id"]]++
	}
	return counts
}

// A rollout through all functions: plan, approval, canary, waves with a desktop that fails, halt, retry, end, rollback. Each
// message is delivered twice, and the emulator is asked to rebuild each desktop once.
func TestARolloutThroughAllFunctions(t *testing.T) {
	t.Parallel()
	for name, deliveries := range map[string]int{"once": 1, "every message twice": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBus(t, emulator.Options{Desktops: 130})
			image, imageType := b.OtherImage()
			bad := slices.Max(b.Desktops)
			b.Faults(emulator.Fault{Call: emulator.CallRebuild, DesktopID: bad, Times: 1, Do: emulator.Do{Job: "fail"}})
			spec := map[string]any{
				"name": "r", "image": map[string]any{"image_id": image, "image_type": imageType},
				"targets":  map[string]any{"desktop_ids": b.Desktops},
				"strategy": map[string]any{"canary": 5, "max_unavailable": 130, "max_failed": 0},
				"approval": map[string]any{"required": true},
			}
			raw, err := json.Marshal(spec)
			require.NoError(t, err)

			b.send(events.TypeRolloutStart, "start", events.RolloutCommand{Spec: raw})
			planned := b.run(events.TypeRolloutPlanned, deliveries)
			require.Equal(t, map[string]int{"pending": 130}, planned.Counts)
			b.send(events.TypeRolloutApprove, "other", events.RolloutCommand{Name: "r", PlanSHA256: events.Digest("another plan")})
			require.Contains(t, b.run(events.TypeRolloutRejected, deliveries).Reason, planned.Digest)
			b.send(events.TypeRolloutApprove, "approve", events.RolloutCommand{Name: "r", PlanSHA256: planned.Digest})
			halted := b.run(events.TypeRolloutHalted, deliveries)
			require.Equal(t, "max_failed", halted.Why)
			require.Equal(t, bad, halted.Desktops[0].DesktopID)

			b.send(events.TypeRolloutRetry, "retry", events.RolloutCommand{Name: "r"})
			offered := b.run(events.TypeRolloutPlanned, deliveries)
			b.send(events.TypeRolloutApprove, "approve retry", events.RolloutCommand{Name: "r", PlanSHA256: offered.Digest})
			completed := b.run(events.TypeRolloutCompleted, deliveries)
			require.Equal(t, map[string]int{"done": 130}, completed.Counts)
			require.Equal(t, map[string]int{image: 130}, b.runs())

			b.send(events.TypeRolloutRollback, "back", events.RolloutCommand{Name: "r", DesktopIDs: b.Desktops[:3]})
			offered = b.run(events.TypeRolloutPlanned, deliveries)
			b.send(events.TypeRolloutApprove, "approve back", events.RolloutCommand{Name: "r", PlanSHA256: offered.Digest})
			require.Equal(t, map[string]int{"done": 127, "rolled_back": 3}, b.run(events.TypeRolloutRolledBack, deliveries).Counts)
			require.Equal(t, 127, b.runs()[image])
			root := events.Root{ID: "start", Source: "test"}
			require.Empty(t, events.Open(root, b.published))
			writes := map[string]int{}
			for _, q := range b.Emulator.Requests(0, 0) {
				if q.Call == emulator.CallRebuild && q.JobID != "" {
					for _, id := range q.DesktopIDs {
						writes[id]++
					}
				}
			}
			require.Len(t, writes, 130)
			for id, n := range writes {
				want := 1
				if slices.Contains(b.Desktops[:3], id) || id == bad {
					want = 2
				}
				require.Equal(t, want, n, id)
			}
		})
	}
}
