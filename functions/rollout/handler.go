// Package rollout brings one image to a fleet in waves.
//
//	recompose.command.rollout.<verb>.v1      ─┐
//	events of the rollout's own commands      ├─▶ rollout.Step ─▶ commands for rebuild, listdesktops, …; rollout.* events
//	recompose.internal.rollout.tick.v1       ─┘
//
// It calls no API. Each message leads to the same step: read the records, decide, store them by compare-and-set, publish.
// What is decided, and why, is in package shared/rollout.
package rollout

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a container or Lambda may have no time zones

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/rollout"
	"recompose/shared/safety"
	"recompose/shared/store"
)

// tries is how often a step is repeated at once because another worker has changed its records.
const tries = 12

// lostWait is how long a step without a record waits for a person to accept the loss of records.
const lostWait = 30 * time.Second

type runner struct {
	api    API
	engine *once.Engine
}

// API is the part of the client that this function uses: the project of the worker.
type API interface{ ProjectID() string }

// New makes the function. A message that is delivered twice leads to the same records and messages.
func New(api API, engine *once.Engine) queue.Function {
	r := runner{api, engine}
	return queue.Function{
		Name:  events.FnRollout,
		Types: events.RolloutTypes, Internal: []string{rollout.TypeTick}, RolloutOnly: true, NoCalls: true,
		Reacts: []string{
			events.TypeJobAccepted, events.TypeJobCompleted, events.TypeImagesChecked, events.TypeDesktopsListed,
			events.TypeImagesListed, events.TypeCommandFailed, events.TypeCommandSplit, events.TypeCommandUnclear,
		},
		React:  react,
		Handle: r.handle,
		Wake:   r.wake,
	}
}

// react makes a command of an event about a batch or a plan. Other events imply none.
func react(e events.Envelope) (events.Envelope, bool, error) {
	if e.Source == events.Source(events.FnRollout) { // its own command.failed
		return events.Envelope{}, false, nil
	}
	command, err := e.Implies(events.FnRollout, e.Data)
	command.Type = rollout.TypeNoted
	command.Expiry, command.Rollout = time.Time{}, "" // the batch's command had them; what follows has its own
	return command, true, err
}

// handle carries out one step.
func (r runner) handle(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
	name, event, err := r.event(c)
	if err != nil || name == "" {
		return nil, err
	}
	facts := rollout.Facts{
		Now: r.engine.Now().UTC(), Pace: r.engine.Config.Pace, MaxAge: r.engine.Config.CommandMaxAge, Republish: !c.First,
		Stopped: r.stopped(ctx),
	}
	var unread error // why the lists could not be read
	facts.NotAllowed = func(ids []string) (refused []string) {
		refused, unread = r.notAllowed(ctx, ids)
		return refused
	}
	for range tries {
		facts.Jobs = map[string]rollout.Job{}
		result, revisions, err := r.step(ctx, c.Epoch, name, event, facts)
		if err = cmp.Or(err, unread); err != nil {
			return nil, err
		}
		if result.Unread != nil {
			r.engine.Log.WarnContext(ctx, "an event cannot be read; it changes nothing", "rollout", name, "event_id", event.ID,
				"error", result.Unread)
		}
		headStored, err := r.store(ctx, name, result.Puts, revisions)
		switch {
		case result.Stale, errors.Is(err, store.ErrConflict):
			facts.Retried = true
			facts.Republish = facts.Republish || headStored // its events are in the log, and not published
			continue
		case err != nil:
			return nil, queue.RetryAfter(once.StoreWait, fmt.Errorf("store the rollout %s: %w", name, err))
		}
		return outcomes(result.Messages, c.Envelope.Expiry), nil
	}
	wait := r.engine.Paced(time.Duration(500+rand.IntN(1500)) * time.Millisecond) //nolint:gosec // spreads the retries
	return nil, queue.RetryAfter(wait, fmt.Errorf("the records of rollout %s change too often", name))
}

// event reads the message.
func (r runner) event(c queue.Command) (name string, e rollout.Event, err error) {
	switch {
	case c.IsReaction():
		ref, err := events.ParseRolloutRef(c.Event.Rollout)
		if err != nil {
			return "", e, queue.Permanent(err) // react lets none of these through
		}
		return ref.Name, rollout.Event{
			Type: c.Event.Type, ID: c.Event.ID, Causation: c.Event.Causation, Time: c.Event.Time, Data: c.Event.Data,
			Plan: ref.Plan, Batch: ref.Batch, Attempt: ref.Attempt,
		}, nil
	case c.Envelope.Type == rollout.TypeTick:
		var t rollout.TickData
		if err := json.Unmarshal(c.Envelope.Data, &t); err != nil || !events.IsRolloutName(t.Name) {
			return "", e, queue.Failed(events.KindInvalid, "data: must be a tick of a rollout")
		}
		return t.Name, rollout.Event{Tick: t.Seq}, nil
	}
	cmd, err := events.DecodeRollout(c.Envelope.Type)(c.Envelope.Data)
	if err != nil {
		return "", e, queue.Invalid(err)
	}
	if err := queue.CheckProject(cmd.ProjectID, r.api.ProjectID()); err != nil {
		return "", e, err
	}
	if name = cmd.Name; c.Envelope.Type == events.TypeRolloutStart {
		if name = rollout.SpecName(cmd.Spec); !events.IsRolloutName(name) {
			return "", e, queue.Failed(events.KindInvalid, "spec.name: must be 1 to 40 of a to z, 0 to 9 and -; got %.60q", name)
		}
	}
	if err := r.engine.CheckExpiry(c.Envelope); err != nil {
		return "", e, err
	}
	return name, rollout.Event{Verb: &rollout.Verb{
		CommandRef: c.Ref(), Correlation: c.Envelope.Correlation,
		Time: c.Envelope.Time, Data: cmd,
	}}, nil
}

// step reads records until the step has all that it needs. The head is read first and stored last: a head that another
// worker has changed in the meantime makes the put fail, and no record is older than the head on which the step rests.
func (r runner) step(
	ctx context.Context, epoch, name string, e rollout.Event, f rollout.Facts,
) (rollout.Result, map[string]store.Revision, error) {
	in, revisions := map[string][]byte{}, map[string]store.Revision{}
	keys := []string{rollout.HeadKey(name)}
	for {
		if err := r.load(ctx, keys, in, revisions); err != nil {
			return rollout.Result{}, nil, err
		}
		for _, key := range keys { // also of a rollout whose claims would be void
			if in[key] == nil && strings.HasSuffix(key, "/head") {
				if err := r.fit(ctx, epoch, key); err != nil {
					return rollout.Result{}, nil, err
				}
			}
		}
		result, err := rollout.Step(name, in, e, f)
		switch {
		case err != nil:
			return result, nil, queue.Permanent(err)
		case len(result.Missing)+len(result.Jobs) == 0:
			return result, revisions, nil
		}
		for _, identity := range result.Jobs {
			if f.Jobs[identity], err = r.job(ctx, epoch, identity); err != nil {
				return result, nil, err
			}
		}
		keys = result.Missing
	}
}

func (r runner) load(
	ctx context.Context, keys []string, in map[string][]byte, revisions map[string]store.Revision,
) error {
	const most = 100 // keys that every store reads in one call
	for part := range slices.Chunk(keys, most) {
		for i, value := range r.engine.Rollouts.GetAll(ctx, part...) {
			switch key := part[i]; {
			case errors.Is(value.Err, store.ErrNotFound):
				in[key], revisions[key] = nil, 0
			case value.Err != nil:
				return queue.RetryAfter(once.StoreWait, fmt.Errorf("read %s: %w", key, value.Err))
			default:
				in[key], revisions[key] = value.Data, value.Revision
			}
		}
	}
	return nil
}

// fit delays a step that found no record, while the ledger may have lost it or its state is not known. epoch is that of
// the message. On AWS this function may not record the first use of the table: until a function that writes has done so,
// there is no record to be lost.
func (r runner) fit(ctx context.Context, epoch, record string) error {
	switch err := r.engine.Store.Fit(ctx, epoch); {
	case err == nil, errors.Is(err, ledger.ErrNoEpoch):
		return nil
	case errors.Is(err, ledger.ErrLost):
		return queue.RetryAfter(lostWait, fmt.Errorf("%s: %w", record, err))
	default:
		return queue.RetryAfter(once.StoreWait, fmt.Errorf("%s: the ledger: %w", record, err))
	}
}

// job reads what the ledger shows of a command.
func (r runner) job(ctx context.Context, epoch, identity string) (rollout.Job, error) {
	record, _, err := r.engine.Store.Get(ctx, identity)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return rollout.Job{State: rollout.JobFree, Absent: true}, r.fit(ctx, epoch, "the record of "+identity)
	case err != nil:
		return rollout.Job{}, queue.RetryAfter(once.StoreWait, fmt.Errorf("the ledger: %w", err))
	}
	switch once.StateOf(record) {
	case once.Ended:
		end := record.End
		return rollout.Job{State: rollout.JobEnded, Type: end.Type, Data: end.Data}, nil
	case once.Accepted:
		return rollout.Job{State: rollout.JobAccepted, Deadline: record.Detail.Deadline}, nil
	case once.Free:
		return rollout.Job{State: rollout.JobFree}, nil
	default:
		return rollout.Job{State: rollout.JobUnderWay}, nil
	}
}

// store stores the records in order. It reports whether the head was stored, also with an error of a later record.
func (r runner) store(
	ctx context.Context, name string, puts []rollout.Put, revisions map[string]store.Revision,
) (headStored bool, err error) {
	for _, p := range puts {
		if _, err := r.engine.Rollouts.Put(ctx, p.Key, p.Value, revisions[p.Key]); err != nil {
			return headStored, fmt.Errorf("%s: %w", p.Key, err)
		}
		headStored = headStored || p.Key == rollout.HeadKey(name)
	}
	return headStored, nil
}

// stopped is why no write may begin now; "" if one may.
func (r runner) stopped(ctx context.Context) string {
	if r.engine.Safety == nil {
		return ""
	}
	if err := r.engine.Safety.Stopped(ctx); err != nil {
		return err.Error()
	}
	return ""
}

// notAllowed are the desktops that the lists refuse, also while writes are stopped. A plan waits while a list cannot be
// read: it shows a person what would be rebuilt.
func (r runner) notAllowed(ctx context.Context, ids []string) ([]string, error) {
	if r.engine.Safety == nil {
		return nil, nil
	}
	refused, err := r.engine.Safety.Refused(ctx, ids)
	if f, ok := errors.AsType[*safety.FileError](err); ok { // the sender of a command must not see the content of a list
		err = errors.New(f.Redacted())
	}
	if err != nil {
		return nil, queue.RetryAfter(once.StoreWait, fmt.Errorf("the lists of desktops: %w", err))
	}
	return refused, nil
}

// wake returns ticks for the rollouts whose own tick is overdue, because it was lost.
func (r runner) wake(ctx context.Context, now time.Time) ([]queue.Outcome, error) {
	live, err := rollout.Overdue(ctx, r.engine.Rollouts, now)
	if err != nil {
		return nil, err
	}
	var ticks []queue.Outcome
	for _, name := range live {
		data, err := json.Marshal(rollout.TickData{Name: name})
		if err != nil {
			return nil, fmt.Errorf("write a tick: %w", err)
		}
		ticks = append(ticks, queue.Outcome{
			To: events.FnRollout, Type: rollout.TypeTick, Data: json.RawMessage(data),
			ID: events.Derive(events.Identity(events.Source(events.FnRollout), name), "wake",
				now.UTC().Format("2006-01-02T15:04")),
		})
	}
	return ticks, nil
}

// never is an expirytime for what does not expire although the command of a person does.
const never = 10 * 365 * 24 * time.Hour

func outcomes(messages []rollout.Message, expiry time.Time) []queue.Outcome {
	list := make([]queue.Outcome, len(messages))
	for i, m := range messages {
		if m.Expiry.IsZero() && !expiry.IsZero() {
			m.Expiry = m.Time.Add(never)
		}
		list[i] = queue.Outcome{
			To: m.To, Type: m.Type, ID: m.ID, Causation: m.Causation, Correlation: m.Correlation, Time: m.Time, Expiry: m.Expiry,
			Rollout: m.Rollout, After: m.After, Data: m.Data,
		}
	}
	return list
}
