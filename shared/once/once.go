// Package once carries out write commands, each at most once. It knows the states of a command and how they change
// (states.go); what rebuild and desktoptoimage do differently is an Operation.
//
//	Do ─▶ Prepare ─▶ record the intent ─▶ check directly before ─▶ Send ─▶ record the job ─▶ publish job.accepted
//	                                                                ├─ no answer: record it, look for the job later
//	                                                                └─ refused: look for the job, then divide, end, or
//	                                                                   Prepare and Send once more
//
// A second delivery of a command reads its record and publishes the same events, without a call.
package once

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

// API is the part of the client that the engine uses: the project of its calls, the service's clock, by which calls are
// signed, and whether signatures expire. A call signed with a token never expires, so it is never repeated.
type API interface {
	ProjectID() string
	ServiceNow() time.Time
	SignaturesExpire() bool
	// AwaitTurn blocks until the rate limit lets a write go at once. DropTurn returns a turn that no write has used.
	AwaitTurn(ctx context.Context) error
	// CheckTurn returns the error of AwaitTurn where the turn is too far off, and takes none.
	CheckTurn() error
	DropTurn()
}

// Options are the parts of a worker beside its settings. Store and Owner must be set.
type Options struct {
	Store    ledger.Store
	Owner    string           // names this worker in records
	Safety   *safety.Safety   // is checked directly before each write; nil: no check
	Rollouts store.Store      // the records of rollouts, read directly before each write; nil: there are none
	Now      func() time.Time // the clock that the workers share; default: time.Now
	Log      *slog.Logger     // default: silent
	// OnRecovery, if set, is called with each result of the search for a lost call: unknown, adopted, resent.
	OnRecovery func(result string)
}

// Engine carries out write commands, each at most once. All its methods may be repeated and called concurrently.
type Engine struct {
	Config *config.Config
	Options
	api   API
	early atomic.Pointer[time.Time] // when an early check last found nothing
	fits  *Shared[string, struct{}] // checks of the ledger, by epoch
}

// New makes an engine. It panics if the settings do not come from config.Load or config.Default: without a signature
// window a call could be made twice, and without a pace the service would be polled without a pause.
func New(c *config.Config, api API, o Options) *Engine {
	if c.SignatureWindow <= 0 || c.Pace <= 0 {
		panic("once: settings that are neither loaded nor the defaults")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Log = cmp.Or(o.Log, slog.New(slog.DiscardHandler))
	if o.OnRecovery == nil {
		o.OnRecovery = func(string) {}
	}
	return &Engine{Config: c, Options: o, api: api, fits: NewShared(func(ctx context.Context, epoch string) (struct{}, error) {
		return struct{}{}, o.Store.Fit(ctx, epoch)
	})}
}

// Command is a write command, whatever it does.
type Command struct {
	queue.Command
	Function   string        // its token
	Data       any           // decoded; the digest is made of its JSON
	ProjectID  string        // as the command gives it; may be empty
	DesktopIDs []string      // all desktops of the command
	Watch      time.Duration // how long its job is watched
	Batch      bool          // it is the batch of a rollout that its attribute rollout names
	Override   bool          // it is done although a rollout holds its desktops
	FailBusy   bool          // it ends if its desktops are busy, instead of waiting
	// Invalid is why it breaks a limit of this worker's settings. It ends a command without a record; one that was begun
	// under other settings continues.
	Invalid error
}

// Operation is what one function does for a write command. The methods stand in the order in which they run. They do
// not change the operation, and each may run in another process than the one before.
type Operation interface {
	// About describes the command.
	About() Command
	// Prepare reads what must be known before the call. An outcome ends the command without a call; so does a
	// queue.FailedError. Any other error delays it, and the record keeps a detail with ReadAt: the next preparation gets
	// it as kept. If an earlier call of the command may still take effect, earlier is its detail, and Prepare must keep
	// the baseline in it; else it is zero.
	Prepare(ctx context.Context, earlier, kept ledger.Detail) (ledger.Detail, *queue.Outcome, error)
	// Send makes the call, signed with signedAt. It runs at most once a claim.
	Send(ctx context.Context, signedAt time.Time, d ledger.Detail) (workspace.Accepted, error)
	// Accepted adds the function's own fields to job.accepted.
	Accepted(a *events.JobAccepted)
	// FindJob looks for the job of a call that the service accepted between from and until (zero: no bound), by its
	// clock.
	FindJob(ctx context.Context, d ledger.Detail, from, until time.Time) (Found, error)
	// Unchanged reports whether the desktops are as they were before the call and have no task of the kind t; if not,
	// why.
	Unchanged(ctx context.Context, d ledger.Detail, t Tasks) (unchanged bool, why string, err error)
	// Divide decides about a refused batch. It returns the outcome that ends the command, usually a command.split, or
	// nil to try the batch once more; a queue.RetryError waits. repeated: the batch was refused more than once.
	Divide(ctx context.Context, d ledger.Detail, refusal events.Failure, repeated bool) (*queue.Outcome, error)
	// Part returns the data of the same command for some of its desktops; nil if the command cannot be divided.
	Part(desktopIDs []string) any
}

// Write completes a function whose commands are carried out at most once: open returns the operation of a command, or
// the error of one that is invalid.
func (e *Engine) Write(f queue.Function, open func(queue.Command) (Operation, error)) queue.Function {
	f.Writes = true
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		op, err := open(c)
		if err != nil {
			return nil, err
		}
		return e.Do(ctx, op)
	}
	f.GiveUp = func(ctx context.Context, c queue.Command, reason string) ([]queue.Outcome, error) {
		op, err := open(c)
		if err != nil {
			return nil, err
		}
		return e.GiveUp(ctx, op, reason)
	}
	return f
}

// Do carries the command out, or reads what was done before, and returns the outcomes to publish. The error is a
// verdict of package queue, or an unexpected error; notices to publish may be returned with it.
func (e *Engine) Do(ctx context.Context, op Operation) ([]queue.Outcome, error) {
	w, err := e.open(ctx, op)
	for err == nil && w.state() != Accepted && w.state() != Ended {
		err = w.step(ctx)
		if errors.Is(err, store.ErrConflict) { // another worker changed the record: continue from its state
			err = w.load(ctx)
		}
	}
	if err != nil {
		return w.notices(), err
	}
	return w.outcomes()
}

// step moves the command to another state. If there is no error, the record has changed.
func (w *write) step(ctx context.Context) error {
	switch w.state() {
	case Free:
		return w.attempt(ctx)
	case Refused:
		return w.afterRefusal(ctx)
	case Intent:
		return w.takeOver(ctx)
	case Looking:
		return w.look(ctx)
	default:
		return fmt.Errorf("no step leads on from %s", w.state())
	}
}

// write is one command on its way through the engine.
type write struct {
	*Engine
	op     Operation
	c      Command
	digest string
	record ledger.Record
	rev    store.Revision // zero: there is no record yet
	began  time.Time      // when this delivery did, by the clock of deadlines
	// partial are jobs from the last search that have only some of the desktops.
	partial []string
}

func (e *Engine) open(ctx context.Context, op Operation) (*write, error) {
	c := op.About()
	w := &write{Engine: e, op: op, c: c, digest: events.Digest(c.Data), began: time.Now()}
	if err := queue.CheckProject(w.c.ProjectID, e.api.ProjectID()); err != nil {
		return nil, err
	}
	if err := w.load(ctx); err != nil || w.rev != 0 {
		return w, err
	}
	return w, c.Invalid
}

func (w *write) state() State { return StateOf(w.record) }

// load reads the record. It fails the command if the record was made for other data under the same id.
func (w *write) load(ctx context.Context) error {
	var err error
	if w.record, w.rev, err = w.get(ctx, w.c.Identity()); err != nil {
		return err
	}
	if w.record.Digest != "" && w.record.Digest != w.digest {
		return &queue.FailedError{
			Failure: events.Failure{
				Kind:     events.KindIDReused,
				ErrorMsg: "id: the id was used before by a command with other data; send new data under a new id",
			},
			DesktopIDs: w.c.DesktopIDs,
		}
	}
	w.record.Digest = w.digest
	return nil
}

// CheckDelay refuses a delay_time over the limit.
func (e *Engine) CheckDelay(field string, minutes int64) error {
	if minutes > e.Config.MaxDelayTime {
		return queue.Failed(events.KindInvalid, "%s: must be at most %d minutes (RECOMPOSE_MAX_DELAY_TIME); got %d",
			field, e.Config.MaxDelayTime, minutes)
	}
	return nil
}

// Paced divides a wait by the pace of the service, which is 1 but for an emulator that runs fast.
func (e *Engine) Paced(d time.Duration) time.Duration {
	return time.Duration(float64(d) / e.Config.Pace)
}

// wall is the wall-clock time, by which leases are compared. The monotonic reading is dropped: it stands still while a
// machine is suspended.
func (e *Engine) wall() time.Time { return e.Now().Round(0) }
