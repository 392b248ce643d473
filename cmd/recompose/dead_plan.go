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
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// deadPlan is what will come of a dead letter that is redriven.
type deadPlan struct {
	letter  queue.Letter    // without its body
	command events.Envelope // what its function will carry out; zero where that is not known
	writes  bool            // its function writes to the service
	acts    string          // what a write will do; "" where it will do nothing
	may     string          // why a new command could do something for the second time; "" where it could not
	notes   []string
	fault   error // why it cannot be redriven
}

// planner plans redrives. It reads and changes nothing.
type planner struct {
	line          *connection
	commandMaxAge time.Duration
	now           time.Time
	fns           []queue.Function

	store   ledger.Store // nil until a write asks for it
	noStore error        // why there is none
}

func newPlanner(line *connection, c *config.Config) *planner {
	return &planner{line: line, commandMaxAge: c.CommandMaxAge, now: time.Now(), fns: functions.Routes()}
}

// plan tells what will come of a whole dead letter.
func (p *planner) plan(ctx context.Context, l queue.Letter) deadPlan {
	d := deadPlan{letter: l}
	d.letter.Body = nil
	e, err := p.line.letters.CheckRedrive(l)
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
		d.note("it cannot be read: it goes back as the bytes that it is, and will most likely be given up again")
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
		d.note("its end is recorded and will be published once more; %s", askNew)
	case events.IsCommand(e.Type) && !e.Expiry.IsZero() && !p.now.Before(e.Expiry):
		d.note("its expirytime passed at %s: it will end as expired, without a call; %s", e.Expiry.Local().Format(time.DateTime), askNew)
	}
	if f.Writes {
		d.acts = consequences(f.Name, d.command.Data)
		p.planWrite(ctx, &d)
		if err := checkWrite(f.Name, d.command.Data); err != nil && d.acts != "" {
			d.inert("it will be refused: %v", err)
		}
	}
	return d
}

// checkWrite tells what its function will say of the data of a write.
func checkWrite(function string, data json.RawMessage) error {
	var err error
	switch function {
	case events.FnRebuild:
		_, err = events.DecodeRebuild(data)
	case events.FnDesktopToImage:
		_, err = events.DecodeDesktopToImage(data)
	}
	return err
}

func (d *deadPlan) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// inert notes why a write will do nothing.
func (d *deadPlan) inert(format string, args ...any) {
	d.note(format, args...)
	d.acts = ""
}

// commandOf is the command that a message is to a function, or that it implies for it. An event that implies none is
// acknowledged, and nothing is why; the error is that of an event that its function cannot read.
func commandOf(f queue.Function, e events.Envelope) (command events.Envelope, nothing string, err error) {
	if !events.IsEvent(e.Type) {
		return e, "", nil
	}
	if f.React == nil || !slices.Contains(f.Reacts, e.Type) {
		return command, fmt.Sprintf("%s is nothing to %s: it will be acknowledged, and nothing follows", e.Type, f.Name), nil
	}
	command, implied, err := f.React(e)
	switch {
	case err != nil:
		return events.Envelope{}, "", err
	case !implied:
		return events.Envelope{}, fmt.Sprintf("nothing follows from it for %s: it will be acknowledged", f.Name), nil
	}
	return command, "", nil
}

const askNew = "--as-new makes a new command of it"

// planWrite tells of a write what the ledger and the clock say. Both are asked again when it is carried out.
func (p *planner) planWrite(ctx context.Context, d *deadPlan) {
	r, err := p.record(ctx, d.command.Identity())
	switch {
	case err != nil:
		d.note("whether it has an end in the ledger is not known: %v", err)
		d.may = "what the ledger knows of it could not be read"
	case r.Digest != "" && d.command.Digest() != "" && r.Digest != d.command.Digest():
		d.inert("its id was used before for other data: it will end as id_reused; %s", askNew)
		return
	case once.StateOf(r) == once.Ended:
		said := describe(events.Envelope{Type: r.End.Type, Data: r.End.Data})[0]
		d.inert("it has its end in the ledger, which will be said again, and nothing else will be done: %s; %s", said, askNew)
		d.may = mayHaveActed(*r.End)
		return
	case once.StateOf(r) == once.Accepted:
		d.inert("the service has accepted it as job %s: that will be said again, without a call", r.JobID)
		d.may = "the service has accepted it as job " + r.JobID
		return
	case once.StateOf(r) == once.Intent, once.StateOf(r) == once.Looking:
		d.note("its call may have reached the service: what became of it will be looked for before anything is done")
		d.may = "its call may have reached the service"
	}
	late := ""
	switch age := p.now.Sub(d.command.Time); {
	case !d.command.Expiry.IsZero() && !p.now.Before(d.command.Expiry):
		late = "its expirytime passed at " + d.command.Expiry.Local().Format(time.DateTime)
	case !d.command.Time.IsZero() && age > p.commandMaxAge:
		late = fmt.Sprintf("it is of %s, older than %v (RECOMPOSE_COMMAND_MAX_AGE)", d.command.Time.Local().Format(time.DateTime), p.commandMaxAge)
	}
	if late != "" && d.may == "" {
		d.inert("%s: it will end as expired, without a call; %s", late, askNew)
	}
}

// mayHaveActed says why a command with this end may have done something; "" where it did nothing.
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

// record is what the ledger has of a command; the zero Record where it has nothing.
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
		if s, err := p.line.ledger(ctx); err != nil {
			p.noStore = err
		} else {
			p.store = s
		}
	}
	return p.noStore
}

// frozen says that writes will wait, or "".
func (p *planner) frozen(ctx context.Context) string {
	o, err := p.line.operators(ctx)
	if err != nil {
		return ""
	}
	f, err := o.Frozen(ctx)
	if err != nil || f == nil {
		return ""
	}
	return "Writes are " + freezeText(f) + ". They wait until recompose thaw."
}

// line tells a planned letter to people.
func (d *deadPlan) line() string {
	what := "unreadable"
	switch {
	case d.letter.Command.ID != "":
		what = functionOf(d.letter.Command.Type) + " command " + d.letter.Command.ID
	case d.command.ID != "":
		what = functionOf(d.command.Type) + " command " + d.command.ID
	}
	return fmt.Sprintf("%s  %-14s  %s", shortID(d.letter.ID), foreign(d.letter.Function), foreign(what))
}

// tellWrites sums up what the writes among the letters will do.
func tellWrites(plans []deadPlan) string {
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
	text := fmt.Sprintf("%s, %d of a function that writes", count(len(plans), "dead letter"), writes)
	if len(acts) == 0 {
		return text + ". By what is known now, none of them does anything to the service"
	}
	if len(acts) > most {
		acts = append(acts[:most], fmt.Sprintf("and %d more", len(acts)-most))
	}
	return text + ":\n  " + strings.Join(acts, "\n  ")
}
