package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/queue/natsqueue"
)

func chainsCommand() *cobra.Command {
	var since, natsURL string
	var openOnly, asJSON bool
	cmd := &cobra.Command{
		Use:   "chains",
		Short: "List chains and how they stand",
		Long: `List the chains, oldest first: when they began, what was asked, by whom (the source of the first command), how they
stand, and their correlation id for wait and trace. Events are kept for 30 days. Commands that wait without an event are
listed too, where this NATS user may read them. A command that was refused because its id was used before for other data
(id_reused) counts by itself, not among the desktops of the chain.`,
		Example: `  recompose chains --since 24h
  recompose chains --open`,
		Args: cobra.NoArgs,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			var from time.Time
			if since != "" {
				now := time.Now()
				var err error
				if from, err = moment(since, now, func(d time.Duration) time.Time { return now.Add(-d.Abs()) }); err != nil {
					return wrongUse(fmt.Errorf("--since: %w", err))
				}
			}
			settings, err := config.Load(config.Options{NATS: config.IfSet, Flags: map[string]string{"NATS_URL": natsURL}})
			if err != nil {
				return err
			}
			line, err := dial(cmd, settings, "chains")
			if err != nil {
				return err
			}
			defer line.close()
			found, _, err := chainsFrom(cmd.Context(), line.queue, "")
			if err != nil {
				return err
			}
			waiting, note, err := unanswered(cmd.Context(), line.queue)
			if err != nil {
				return err
			}
			for id := range waiting {
				found[id] = slices.Clip(found[id]) // also a chain that has no event
			}
			var rows []chainRow
			for id, published := range found {
				row := chainRowOf(id, published, waiting[id])
				if row.Last.Before(from) || openOnly && len(row.Open) == 0 {
					continue
				}
				rows = append(rows, row)
			}
			slices.SortFunc(rows, func(a, b chainRow) int {
				return cmp.Or(a.First.Compare(b.First), cmp.Compare(a.Correlation, b.Correlation))
			})
			if err := printChains(cmd.OutOrStdout(), rows, asJSON); err != nil || note == "" {
				return err
			}
			say(cmd.ErrOrStderr(), "%s", foreign(note))
			return nil
		}),
	}
	f := cmd.Flags()
	f.SortFlags = false
	f.StringVar(&since, "since", "", "only those with an event since this `TIME` (2026-01-15T08:30:00Z), or for so long back (2h)")
	f.BoolVar(&openOnly, "open", false, "only those that have not ended")
	f.BoolVar(&asJSON, "json", false, "print one chain a line as JSON")
	f.StringVar(&natsURL, "nats-url", "", "NATS server, before NATS_URL (default "+config.DefaultNATS+")")
	return cmd
}

// chainRow is a chain in the list.
type chainRow struct {
	Correlation string    `json:"correlationid"`
	First       time.Time `json:"first"`
	Last        time.Time `json:"last"`
	Function    string    `json:"function,omitempty"` // of the first command
	Desktops    int       `json:"desktops,omitempty"` // that its answers name
	By          string    `json:"by,omitempty"`       // source of the first command
	State       string    `json:"state"`              // open, succeeded, failed
	Open        []string  `json:"open,omitempty"`
	Failed      int       `json:"failed,omitempty"`    // desktops that are not as asked
	IDReused    int       `json:"id_reused,omitempty"` // commands that were refused because their id was used for other data

	how string // in words
}

// chainRowOf sums a chain up: its events, and its commands that are stored and may have none.
func chainRowOf(id string, published []events.Envelope, waiting []natsqueue.StoredCommand) chainRow {
	c := newChain(id, events.Root{})
	done, reused := withoutReused(published)
	for _, e := range done {
		c.add(e)
	}
	t := c.tree()
	roots := c.roots()
	row := chainRow{Correlation: id, First: t.First, Last: t.Last, Open: t.Open, IDReused: reused}
	for _, e := range c.said {
		if events.IsNotice(e.Type) || !slices.ContainsFunc(roots, func(r events.Root) bool { return r.ID == e.Causation }) {
			continue
		}
		row.Function, row.By = cmp.Or(row.Function, answeredBy(e)), cmp.Or(row.By, e.Answered().Source)
		row.Desktops = max(row.Desktops, desktopsIn(e))
	}
	row.fromNotices(c.said)
	open := c.open()
	if len(c.said) == 0 {
		open, row.Open = nil, nil
	}
	r := c.result()
	row.Failed = len(r.Failed)
	how, progress := c.standing(open, time.Now())
	if how = append(how, progress...); len(how) == 0 && len(open) > 0 {
		how = []string{openText(open)}
	}
	for _, w := range waiting {
		if isAnswered(w, published, open) {
			continue
		}
		what := functionOf(w.Type) + " command " + w.ID
		row.Open, how = append(row.Open, what), append(how, what+" has no event yet"+nextText(w.Next))
		row.Function, row.By = cmp.Or(row.Function, functionOf(w.Type)), cmp.Or(row.By, w.Source)
		row.Desktops = max(row.Desktops, len(events.DesktopIDs(w.Data)))
		if row.First.IsZero() || w.Stored.Before(row.First) {
			row.First = w.Stored
		}
		if w.Stored.After(row.Last) {
			row.Last = w.Stored
		}
	}
	switch {
	case len(row.Open) > 0:
		row.State, row.how = "open", "open: "+strings.Join(how, "; ")
	case r.ok():
		row.State, row.how = "succeeded", "succeeded"
	default:
		row.State, row.how = "failed", "failed"
		var what []string
		if row.Failed > 0 {
			what = append(what, count(row.Failed, "desktop"))
		}
		if what = append(what, lostJobs(c.own())...); len(what) > 0 {
			row.how += ": " + strings.Join(what, "; ")
		}
	}
	if reused > 0 {
		row.how += fmt.Sprintf("; %s with its id refused: other data", count(reused, "command"))
	}
	return row
}

// fromNotices completes the row of a chain that nothing has answered yet: notices name the command that they are about.
func (r *chainRow) fromNotices(published []events.Envelope) {
	for _, e := range published {
		named := e.Answered()
		if !events.IsNotice(e.Type) || r.Function != "" || !events.IsCommand(named.Type) {
			continue
		}
		r.Function, r.By, r.Desktops = functionOf(named.Type), named.Source, desktopsIn(e)
	}
}

// lostJobs are texts about the jobs of a chain that are lost.
func lostJobs(published []events.Envelope) (lost []string) {
	for _, e := range published {
		var done events.JobCompleted
		if e.Type == events.TypeJobCompleted && json.Unmarshal(e.Data, &done) == nil && done.Outcome == events.Lost && done.JobID != "" {
			lost = append(lost, lostJobText(done))
		}
	}
	return lost
}

// withoutReused are the events without the failures of commands whose id was used before for other data, and how many of
// those there are. Where there is nothing else, they are the chain.
func withoutReused(published []events.Envelope) ([]events.Envelope, int) {
	isReused := func(e events.Envelope) bool {
		var f events.CommandFailed
		return e.Type == events.TypeCommandFailed && json.Unmarshal(e.Data, &f) == nil && f.Error.Kind == events.KindIDReused
	}
	kept := slices.DeleteFunc(slices.Clone(published), isReused)
	if !slices.ContainsFunc(kept, func(e events.Envelope) bool { return !events.IsNotice(e.Type) }) {
		return published, 0
	}
	return kept, len(published) - len(kept)
}

// isAnswered reports whether events answer a stored command, or the chain waits for it already.
func isAnswered(w natsqueue.StoredCommand, published []events.Envelope, open []events.Pending) bool {
	pending := func(p events.Pending) bool { return p.ID == w.ID }
	root := events.Root{ID: w.ID, Source: w.Source, Digest: w.Digest()}
	return slices.ContainsFunc(open, pending) || !slices.ContainsFunc(events.Open(root, published), pending)
}

func nextText(next time.Time) string {
	if next.IsZero() {
		return ""
	}
	return ", and is tried next at " + clockText(next, time.Now())
}

// mostStored is how many stored messages of a stream are looked at for commands that wait.
const mostStored = 2000

// unanswered are the commands that are stored, by chain. The note is why some or all are missing.
func unanswered(ctx context.Context, q *natsqueue.Queue) (byChain map[string][]natsqueue.StoredCommand, note string, err error) {
	commands, more, err := q.Commands(ctx, mostStored)
	if denied, ok := errors.AsType[*natsqueue.DeniedError](err); ok {
		return nil, fmt.Sprintf("Commands that wait without an event are not listed: %v", denied), nil
	}
	if err != nil {
		return nil, "", err
	}
	if more {
		note = fmt.Sprintf("More commands wait than the %d that were looked at.", mostStored)
	}
	byChain = map[string][]natsqueue.StoredCommand{}
	for _, c := range commands {
		byChain[c.Correlation] = append(byChain[c.Correlation], c)
	}
	return byChain, note, nil
}

// desktopsIn counts the desktops that an answer is about.
func desktopsIn(e events.Envelope) int {
	var about struct {
		DesktopIDs []string          `json:"desktop_ids"`
		Skipped    []string          `json:"skipped"`
		Desktops   []json.RawMessage `json:"desktops"`
		Parts      []events.Part     `json:"parts"`
		Infos      []json.RawMessage `json:"image_infos"`
		Desktop    json.RawMessage   `json:"desktop"`
	}
	_ = json.Unmarshal(e.Data, &about)
	n := max(len(about.DesktopIDs)+len(about.Skipped), len(about.Desktops), len(about.Infos))
	if about.Desktop != nil {
		n = max(n, 1)
	}
	for _, p := range about.Parts {
		n += len(p.DesktopIDs)
	}
	return n
}

func printChains(w io.Writer, rows []chainRow, asJSON bool) error {
	for _, r := range rows {
		if asJSON {
			if err := printJSON(w, r); err != nil {
				return err
			}
			continue
		}
		what := or(r.Function, "unknown")
		if r.Desktops > 0 {
			what += ", " + count(r.Desktops, "desktop")
		}
		say(w, "%s  %s  %-28s  by %s  %s", r.First.Local().Format(time.DateTime), foreign(r.Correlation), foreign(what), foreign(or(r.By, "unknown")), foreign(r.how))
	}
	if !asJSON {
		say(w, "%s", count(len(rows), "chain"))
	}
	return nil
}

// found are the events that are stored, by chain.
type found map[string][]events.Envelope

// chainsFrom reads the events of all chains whose correlation id begins with this text, and where reading goes on. An event
// that answers nothing and names no command is in no chain.
func chainsFrom(ctx context.Context, q *natsqueue.Queue, text string) (found, uint64, error) {
	all, next := found{}, uint64(1)
	err := q.Read(ctx, natsqueue.Since{}, false, func(e events.Envelope, _ time.Time, seq uint64) (bool, error) {
		next = seq + 1
		inChain := e.Correlation != "" && (e.Causation != "" || e.Answered().ID != "")
		if inChain && strings.HasPrefix(e.Correlation, text) {
			all[e.Correlation] = append(all[e.Correlation], e)
		}
		return true, nil
	})
	return all, next, err
}

// the is the chain that a text means: that with this id, or the only one whose id begins so. Where there is none it is the
// text itself.
func (f found) the(text string) (string, error) {
	if _, exact := f[text]; exact || len(f) == 0 {
		return text, nil
	}
	ids := slices.Sorted(maps.Keys(f))
	if len(ids) == 1 {
		return ids[0], nil
	}
	const most = 5
	listed := strings.Join(ids[:min(len(ids), most)], ", ")
	if len(ids) > most {
		listed += fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return "", fmt.Errorf("the id %q is not unique: %s begin so; give more of it", text, listed)
}

var generatedForm = regexp.MustCompile(`^([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[a-z2-7]{52})$`)

// generated reports whether an id is one that recompose makes.
func generated(id string) bool { return generatedForm.MatchString(id) }
