package once

import (
	"encoding/json"
	"fmt"
	"strconv"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
)

// AcceptedID is the id of the job.accepted event of the command with this identity.
func AcceptedID(identity string) string { return events.Derive(identity, "job.accepted") }

// outcomes returns what the record of an accepted or ended command publishes: the job, if there is one, and the end.
func (w *write) outcomes() ([]queue.Outcome, error) {
	var outcomes []queue.Outcome
	end := w.record.End
	// job.accepted is published before the end, because it is the cause of the end.
	if w.record.JobID != "" && (end == nil || end.Causation == AcceptedID(w.c.Identity())) {
		outcomes = append(outcomes, w.jobAccepted())
	}
	if end == nil {
		return outcomes, nil
	}
	outcomes = append(outcomes, republish(*end, w.record.Digest))
	if end.Type != events.TypeCommandSplit {
		return outcomes, nil
	}
	var split events.CommandSplit
	if err := json.Unmarshal(end.Data, &split); err != nil {
		return nil, fmt.Errorf("read the command.split of the ledger record: %w", err)
	}
	for _, part := range split.Parts { // a part is as old as the command that it comes from
		outcomes = append(outcomes, queue.Outcome{
			To: w.c.Function, Type: w.c.Envelope.Type, ID: part.ID, Time: w.c.Envelope.Time, Data: w.op.Part(part.DesktopIDs),
		})
	}
	return outcomes, nil
}

func (w *write) jobAccepted() queue.Outcome {
	r, d := w.record, w.record.Detail
	accepted := events.JobAccepted{
		Function: w.c.Function, Command: w.c.Ref(), JobID: r.JobID, AcceptedAt: r.Accepted, Deadline: d.Deadline,
		DesktopIDs: d.DesktopIDs, Skipped: d.Skipped, Previous: d.Previous, Warning: d.Warning, RequestID: d.RequestID,
	}
	w.op.Accepted(&accepted)
	return queue.Outcome{Type: events.TypeJobAccepted, ID: AcceptedID(w.c.Identity()), Time: r.Accepted, Data: accepted}
}

// notices returns what is published while a command waits: that the search for its lost call has begun, each time under
// the same id.
func (w *write) notices() []queue.Outcome {
	if w == nil || w.record.Digest != w.digest || w.state() != Looking { // the record may belong to other data
		return nil
	}
	u := w.record.Unclear
	if u.Since.IsZero() || u.Looks != u.Announce {
		return nil
	}
	return []queue.Outcome{{
		Type: events.TypeCommandUnclear, About: []string{"command.unclear", strconv.FormatUint(w.record.Fence, 10)}, Time: u.Since,
		Data: events.CommandUnclear{
			Command: w.c.Ref(), DesktopIDs: w.c.DesktopIDs, Since: u.Since, NextLook: u.Next, Reason: u.Reason,
		},
	}}
}

// Split returns the command.split that ends the command of an operation, with these parts.
func Split(op Operation, parts [][]string) *queue.Outcome {
	c := op.About()
	split := events.CommandSplit{Command: c.Ref()}
	for i, ids := range parts {
		part := events.Part{ID: events.PartID(c.Identity(), i), Digest: events.Digest(op.Part(ids)), DesktopIDs: ids}
		split.Parts = append(split.Parts, part)
	}
	return &queue.Outcome{Type: events.TypeCommandSplit, About: []string{"command.split"}, Data: split}
}

// republish returns a recorded end as an outcome. The end of an earlier version gets the digest of its record.
func republish(e ledger.End, digest string) queue.Outcome {
	data := events.WithDigest(e.Data, digest)
	return queue.Outcome{ID: e.ID, Source: e.Source, Type: e.Type, Causation: e.Causation, Time: e.Time, Data: data}
}

// asEnd converts an outcome to the form that a record stores.
func asEnd(o queue.Outcome) (*ledger.End, error) {
	data, err := events.Marshal(o.Data)
	if err != nil {
		return nil, fmt.Errorf("write %s: %w", o.Type, err)
	}
	return &ledger.End{ID: o.ID, Source: o.Source, Type: o.Type, Causation: o.Causation, Time: o.Time, Data: data}, nil
}
