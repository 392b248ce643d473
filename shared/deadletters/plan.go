package deadletters

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/deployment"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// Plan is the expected effect of redriving a dead letter.
type Plan struct {
	Letter  queue.Letter    // without its body
	Command events.Envelope // what its function will carry out; zero if not known
	Writes  bool            // its function writes to the service
	Acts    string          // the effect of a write; "" if it has none
	May     string          // why a new command could act a second time; "" if it cannot
	Notes   []string
	Fault   error // why it cannot be redriven
}

// Planner plans redrives. It reads and changes nothing.
type Planner struct {
	Deployment    deployment.Client
	Functions     []queue.Function
	CommandMaxAge time.Duration
	Now           time.Time

	store   ledger.Store // opened for the first write
	noStore error        // why it could not be opened
}

// PlansOf returns the plans of the dead letters of one id, oldest first. The error is queue.ErrNoLetter or
// queue.ErrManyLetters by errors.Is.
func (p *Planner) PlansOf(ctx context.Context, id string) ([]Plan, error) {
	letters, err := queue.LettersOf(ctx, p.Deployment.Letters(), id)
	if err != nil {
		return nil, err
	}
	plans := make([]Plan, len(letters))
	for i, l := range letters {
		plans[i] = p.Plan(ctx, l)
	}
	return plans, nil
}

// Plans returns the plans of the dead letters that a filter selects, oldest first.
func (p *Planner) Plans(ctx context.Context, filter queue.LetterFilter) ([]Plan, error) {
	box := p.Deployment.Letters()
	letters, err := box.DeadLetters(ctx, filter)
	if err != nil {
		return nil, err
	}
	plans := make([]Plan, 0, len(letters))
	for _, l := range letters { // one body at a time
		whole, err := box.DeadLetter(ctx, l)
		if errors.Is(err, queue.ErrNoLetter) {
			continue
		}
		if err != nil {
			return nil, err
		}
		plans = append(plans, p.Plan(ctx, whole))
	}
	return plans, nil
}

// Plan returns the expected effect of redriving a complete dead letter.
func (p *Planner) Plan(ctx context.Context, l queue.Letter) Plan {
	d := Plan{Letter: l}
	d.Letter.Body = nil
	e, err := p.Deployment.Letters().CheckRedrive(l)
	if err != nil {
		d.Fault = err
		d.note("it cannot be redriven: %v", err)
	}
	i := slices.IndexFunc(p.Functions, func(f queue.Function) bool { return f.Name == l.Function })
	if i < 0 {
		d.note("this program has no function %s", l.Function)
		return d
	}
	f := p.Functions[i]
	d.Writes = f.Writes
	switch {
	case d.Fault != nil:
		return d
	case e.ID == "":
		d.note("it cannot be read: it is returned unchanged, and will most likely be given up a second time")
		return d
	}
	var nothing string
	if d.Command, nothing, err = commandOf(f, e); err != nil {
		d.Fault = fmt.Errorf("it would be given up for the same reason: %w; recompose dead drop removes it", err)
		d.note("it cannot be redriven: %v", d.Fault)
		return d
	}
	if nothing != "" {
		d.note("%s", nothing)
		return d
	}
	switch {
	case f.Writes: // below
	case l.Class == queue.ClassUsedUp:
		d.note("its end event is recorded and will be republished; %s", askNew)
	case events.IsCommand(e.Type) && !e.Expiry.IsZero() && !p.Now.Before(e.Expiry):
		d.note("its expirytime passed at %s: it will end as expired, without a call; %s",
			e.Expiry.Local().Format(time.DateTime), askNew)
	}
	if f.Writes {
		d.Acts = chain.Consequences(f.Name, d.Command.Data)
		p.planWrite(ctx, &d)
		if d.Acts != "" {
			if err := events.CheckData(events.CommandType(f.Name), d.Command.Data); err != nil {
				d.inert("it will be refused: %v", err)
			}
		}
	}
	return d
}

func (d *Plan) note(format string, args ...any) {
	d.Notes = append(d.Notes, fmt.Sprintf(format, args...))
}

// inert adds a note that a write will have no effect.
func (d *Plan) inert(format string, args ...any) {
	d.note(format, args...)
	d.Acts = ""
}

// commandOf returns the command that a message is for a function, or that an event implies for it. If an event implies
// none, it will be acknowledged, and nothing gives the reason. The error means that the function cannot read the event.
func commandOf(f queue.Function, e events.Envelope) (command events.Envelope, nothing string, err error) {
	if !events.IsEvent(e.Type) {
		return e, "", nil
	}
	if f.React == nil || !slices.Contains(f.Reacts, e.Type) {
		return command, fmt.Sprintf("%s does not handle %s: it will be acknowledged without effect", f.Name, e.Type), nil
	}
	command, implied, err := f.React(e)
	switch {
	case err != nil:
		return events.Envelope{}, "", err
	case !implied:
		return events.Envelope{}, fmt.Sprintf("it has no effect on %s: it will be acknowledged", f.Name), nil
	}
	return command, "", nil
}

const askNew = "--as-new makes a new command of it"

// planWrite completes the plan of a write by the ledger and the clock. Its function repeats both checks.
func (p *Planner) planWrite(ctx context.Context, d *Plan) {
	r, err := p.record(ctx, d.Command.Identity())
	switch {
	case err != nil:
		d.note("whether the ledger has its end is not known: %v", err)
		d.May = "its record in the ledger could not be read"
	case r.Digest != "" && d.Command.Digest() != "" && r.Digest != d.Command.Digest():
		d.inert("its id was used before for other data: it will end as id_reused; %s", askNew)
		return
	case once.StateOf(r) == once.Ended:
		end := chain.Describe(events.Envelope{Type: r.End.Type, Data: r.End.Data})[0]
		d.inert("the ledger has its end event, which will be republished without other effect: %s; %s", end, askNew)
		d.May = mayHaveActed(*r.End)
		return
	case once.StateOf(r) == once.Accepted:
		d.inert("the service has accepted it as job %s: its event will be republished, without a call", r.JobID)
		d.May = "the service has accepted it as job " + r.JobID
		return
	case once.StateOf(r) == once.Intent, once.StateOf(r) == once.Looking:
		d.note("its call may have reached the service: its job will be searched for before anything is done")
		d.May = "its call may have reached the service"
	case !r.Earlier.IsZero(): // free or refused
		d.note("an earlier call of it may have been accepted: its job will be searched for before anything is done")
		d.May = "an earlier call of it may have been accepted"
	}
	late := ""
	switch age := p.Now.Sub(d.Command.Time); {
	case !d.Command.Expiry.IsZero() && !p.Now.Before(d.Command.Expiry):
		late = "its expirytime passed at " + d.Command.Expiry.Local().Format(time.DateTime)
	case !d.Command.Time.IsZero() && age > p.CommandMaxAge:
		late = fmt.Sprintf("it is of %s, older than %v (RECOMPOSE_COMMAND_MAX_AGE)",
			d.Command.Time.Local().Format(time.DateTime), p.CommandMaxAge)
	}
	if late != "" && d.May == "" {
		d.inert("%s: it will end as expired, without a call; %s", late, askNew)
	}
}

// mayHaveActed returns why a command with this end may have had an effect; "" if it had none.
func mayHaveActed(end ledger.End) string {
	var failed events.CommandFailed
	if end.Type == events.TypeCommandFailed && json.Unmarshal(end.Data, &failed) == nil {
		switch failed.Effect {
		case events.EffectNone:
			return ""
		case events.EffectUnknown:
			return "whether the service has carried it out is not known"
		}
	}
	return "the service has carried it out, or part of it"
}

// record returns the ledger record of a command; the zero Record if there is none.
func (p *Planner) record(ctx context.Context, key string) (ledger.Record, error) {
	if err := p.open(ctx); err != nil {
		return ledger.Record{}, err
	}
	r, _, err := p.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return ledger.Record{}, nil
	}
	return r, err
}

func (p *Planner) open(ctx context.Context) error {
	if p.store == nil && p.noStore == nil {
		if s, err := p.Deployment.Ledger(ctx); err != nil {
			p.noStore = err
		} else {
			p.store = s
		}
	}
	return p.noStore
}

// What names the message of the letter, for people.
func (d *Plan) What() string {
	switch {
	case d.Letter.Command.ID != "":
		return chain.FunctionOf(d.Letter.Command.Type) + " command " + d.Letter.Command.ID
	case d.Command.ID != "":
		return chain.FunctionOf(d.Command.Type) + " command " + d.Command.ID
	}
	return "unreadable"
}

// AsNew returns a new command with the data of the letter. Its id is derived from the letter, so that sending it several
// times is one command.
func (d *Plan) AsNew(source string, now time.Time) events.Envelope {
	id := events.Derive(d.Letter.ID, "as-new", cmp.Or(d.Letter.MessageID, fmt.Sprint(d.Letter.Number)))
	return events.Envelope{
		ID: id, Source: source, Type: d.Command.Type, Subject: d.Command.Subject, Time: now.UTC(),
		Correlation: id, Causation: d.Command.ID, Data: d.Command.Data,
	}
}

// DescribeWrites sums up the effects of the writes among the letters.
func DescribeWrites(plans []Plan) string {
	const most = 10
	var acts []string
	writes := 0
	for _, d := range plans {
		if d.Writes {
			writes++
		}
		if d.Acts != "" {
			acts = append(acts, d.Acts)
		}
	}
	text := fmt.Sprintf("%s, %d of a function that writes", chain.Count(len(plans), "dead letter"), writes)
	if len(acts) == 0 {
		return text + ". As far as is known, none of them changes anything at the service"
	}
	if len(acts) > most {
		acts = append(acts[:most], fmt.Sprintf("and %d more", len(acts)-most))
	}
	return text + ":\n  " + strings.Join(acts, "\n  ")
}
