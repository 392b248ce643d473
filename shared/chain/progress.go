package chain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"recompose/events"
)

// Progress returns what the chain's own events report about open work: reasons why it waits, and the progress of its
// jobs.
func (c *Chain) Progress(open []events.Pending, now time.Time) (reasons, progress []string) {
	waits := map[string]bool{}
	for _, p := range open {
		waits[p.ID], waits[p.JobID] = true, true
	}
	reasons = c.undecodable(open)
	percent := map[string]int{}
	own := c.Own()
	for _, e := range own {
		switch e.Type {
		case events.TypeCommandUnclear:
			var u events.CommandUnclear
			if json.Unmarshal(e.Data, &u) == nil && waits[u.Command.ID] {
				reasons = append(reasons, fmt.Sprintf("a lost call of %s is searched for since %s: %s", FunctionOf(u.Command.Type),
					Clock(u.Since, now), u.Reason))
			}
		case events.TypeJobProgress:
			p := dataOf[events.JobProgress](e)
			percent[p.JobID] = max(percent[p.JobID], p.Percent)
		}
	}
	for _, e := range own {
		var a events.JobAccepted
		if e.Type != events.TypeJobAccepted || json.Unmarshal(e.Data, &a) != nil || !waits[e.ID] {
			continue
		}
		begins := a.AcceptedAt.Add(time.Duration(a.DelayTime) * time.Minute)
		switch done, seen := percent[a.JobID]; {
		case seen:
			progress = append(progress, fmt.Sprintf("job %s of %s: %d %%", a.JobID, a.Function, done))
		case a.DelayTime > 0 && begins.After(now):
			progress = append(progress, fmt.Sprintf("job %s of %s begins at %s, after its delay_time", a.JobID, a.Function,
				Clock(begins, now)))
		default:
			progress = append(progress, fmt.Sprintf("job %s of %s has begun", a.JobID, a.Function))
		}
	}
	return reasons, progress
}

// undecodable returns a reason for each refusal of undecodable data under the id of the open first command. Such data
// has no digest, so it may be the data of another command with the same id.
func (c *Chain) undecodable(open []events.Pending) (reasons []string) {
	if c.Root.Digest == "" || !slices.ContainsFunc(open, func(p events.Pending) bool { return p.ID == c.Root.ID }) {
		return nil
	}
	for _, e := range c.events {
		var f events.CommandFailed
		if e.Causation != c.Root.ID || e.Type != events.TypeCommandFailed || json.Unmarshal(e.Data, &f) != nil {
			continue
		}
		if f.Error.Kind == events.KindInvalid && f.Command.Digest == "" {
			reasons = append(reasons,
				fmt.Sprintf("a command %s of %s was refused as invalid, and its data has no digest, so it may be another command: %s",
					f.Command.ID, cmp.Or(f.Command.Source, "an unknown source"), f.Error.ErrorMsg))
		}
	}
	return reasons
}

// Clock returns a time of day in local time, with the date unless it is that of now.
func Clock(t, now time.Time) string {
	t, now = t.Local(), now.Local()
	if y, d := t.Year(), t.YearDay(); y == now.Year() && d == now.YearDay() {
		return t.Format("15:04")
	}
	return t.Format("2006-01-02 15:04")
}
