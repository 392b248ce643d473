package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/chain"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// deadPlan is the expected effect of redriving a dead letter.
type deadPlan struct {
	letter  queue.Letter    // without its body
	command events.Envelope // what its function will carry out; zero if not known
	writes  bool            // its function writes to the service
	acts    string          // the effect of a write; "" if it has none
	may     string          // why a new command could act a second time; "" if it cannot
	notes   []string
	fault   error // why it cannot be redriven
}

// planner plans redrives. It reads and changes nothing.
type planner struct {
	conn          *connection
	commandMaxAge time.Duration
	now           time.Time
	fns           []queue.Function

	store   ledger.Store // opened for the first write
	noStore error        // why it could not be opened
}

func newPlanner(conn *connection, c *config.Config) *planner {
	return &planner{conn: conn, commandMaxAge: c.CommandMaxAge, now: time.Now(), fns: functions.Routes()}
}

// plan returns the expected effect of redriving a complete dead letter.
func (p *planner) plan(ctx context.Context, l queue.Letter) deadPlan {
	d := deadPlan{letter: l}
	d.letter.Body = nil
	e, err := p.conn.Letters().CheckRedrive(l)
	if err != nil {
		d.fault = err
		d.note("it cannot be redriven: %v", err)
	}
	i := slices.IndexFunc(p.fns, func(f queue.Function) bool { return f.Name == l.Function })
	if i < 0 {
		d.note("this program has no function %s", l.Function)
		return d
	}
	f := p.fns[i]
	d.writes = f.Writes
	switch {
	case d.fault != nil:
		return d
	case e.ID == "":
		d.note("it cannot be read: it is returned unchanged, and will most likely be given up a second time")
		return d
	}
	var nothing string
	if d.command, nothing, err = commandOf(f, e); err != nil {
		d.fault = fmt.Errorf("it would be given up for the same reason: %w; recompose dead drop removes it", err)
		d.note("it cannot be redriven: %v", d.fault)
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
	case events.IsCommand(e.Type) && !e.Expiry.IsZero() && !p.now.Before(e.Expiry):
		d.note("its expirytime passed at %s: it will end as expired, without a call; %s",
			e.Expiry.Local().Format(time.DateTime), askNew)
	}
	if f.Writes {
		d.acts = consequences(f.Name, d.command.Data)
		p.planWrite(ctx, &d)
		if command, ok := sendableOf(f.Name); ok && d.acts != "" {
			if err := command.decode(d.command.Data); err != nil {
				d.inert("it will be refused: %v", err)
			}
		}
	}
	return d
}

func (d *deadPlan) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// inert adds a note that a write will have no effect.
func (d *deadPlan) inert(format string, args ...any) {
	d.note(format, args...)
	d.acts = ""
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
func (p *planner) planWrite(ctx context.Context, d *deadPlan) {
	r, err := p.record(ctx, d.command.Identity())
	switch {
	case err != nil:
		d.note("whether the ledger has its end is not known: %v", err)
		d.may = "its record in the ledger could not be read"
	case r.Digest != "" && d.command.Digest() != "" && r.Digest != d.command.Digest():
		d.inert("its id was used before for other data: it will end as id_reused; %s", askNew)
		return
	case once.StateOf(r) == once.Ended:
		end := chain.Describe(events.Envelope{Type: r.End.Type, Data: r.End.Data})[0]
		d.inert("the ledger has its end event, which will be republished without other effect: %s; %s", end, askNew)
		d.may = mayHaveActed(*r.End)
		return
	case once.StateOf(r) == once.Accepted:
		d.inert("the service has accepted it as job %s: its event will be republished, without a call", r.JobID)
		d.may = "the service has accepted it as job " + r.JobID
		return
	case once.StateOf(r) == once.Intent, once.StateOf(r) == once.Looking:
		d.note("its call may have reached the service: its job will be searched for before anything is done")
		d.may = "its call may have reached the service"
	}
	late := ""
	switch age := p.now.Sub(d.command.Time); {
	case !d.command.Expiry.IsZero() && !p.now.Before(d.command.Expiry):
		late = "its expirytime passed at " + d.command.Expiry.Local().Format(time.DateTime)
	case !d.command.Time.IsZero() && age > p.commandMaxAge:
		late = fmt.Sprintf("it is of %s, older than %v (RECOMPOSE_COMMAND_MAX_AGE)",
			d.command.Time.Local().Format(time.DateTime), p.commandMaxAge)
	}
	if late != "" && d.may == "" {
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
func (p *planner) record(ctx context.Context, key string) (ledger.Record, error) {
	if err := p.open(ctx); err != nil {
		return ledger.Record{}, err
	}
	r, _, err := p.store.Get(ctx, key)
	if errors.Is(err, store.ErrNotFound) {
		return ledger.Record{}, nil
	}
	return r, err
}

func (p *planner) open(ctx context.Context) error {
	if p.store == nil && p.noStore == nil {
		if s, err := p.conn.Ledger(ctx); err != nil {
			p.noStore = err
		} else {
			p.store = s
		}
	}
	return p.noStore
}

// frozen returns a text if writes are frozen, else "".
func (p *planner) frozen(ctx context.Context) string {
	o, err := p.conn.operators(ctx)
	if err != nil {
		return ""
	}
	f, err := o.Frozen(ctx)
	if err != nil || f == nil {
		return ""
	}
	return "Writes are " + freezeText(f) + ". They wait until recompose thaw."
}

// line returns the letter on one line, for people.
func (d *deadPlan) line() string {
	what := "unreadable"
	switch {
	case d.letter.Command.ID != "":
		what = chain.FunctionOf(d.letter.Command.Type) + " command " + d.letter.Command.ID
	case d.command.ID != "":
		what = chain.FunctionOf(d.command.Type) + " command " + d.command.ID
	}
	return fmt.Sprintf("%s  %-14s  %s", shortID(d.letter.ID), escape(d.letter.Function), escape(what))
}

// describeWrites sums up the effects of the writes among the letters.
func describeWrites(plans []deadPlan) string {
	const most = 10
	var acts []string
	writes := 0
	for _, d := range plans {
		if d.writes {
			writes++
		}
		if d.acts != "" {
			acts = append(acts, d.acts)
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
