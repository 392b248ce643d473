package rollout

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"recompose/events"
)

// Waits of a batch. All but stale are divided by the pace.
const (
	stale      = 3 * time.Minute        // a look is no ground for a command that long after the service was read
	lateLook   = stale - 30*time.Second // an answer that is older is not used: hardly any time would be left for the command
	noAnswer   = 10 * time.Minute       // a look that nothing answers is made anew
	afterJob   = 2 * time.Minute        // how long check-images is waited for before the first look that verifies
	lookWait   = time.Minute            // between two looks that verify
	verifyTime = 15 * time.Minute       // from then on, the next answer decides
	verifyMost = time.Hour              // after that, a desktop is unverified also if nothing was answered
	probeWait  = 2 * time.Minute        // between two readings of the ledger
	jobSlack   = 15 * time.Minute       // after the deadline of a job
	// underWayMax is how long after its expirytime a command may be under way: a call begins before it, is searched for in
	// less than an hour if its answer was lost, and a job of which no record came has ended by then.
	underWayMax = 2 * time.Hour
)

// lookFields are the fields of a desktop that a look needs.
var lookFields = []string{"login_status", "image_id", "root_volume", "data_volumes", "desktop_type"}

// Codes of desktops that are deferred because a retry or a rollback begins, or a rollback ends, not because of a user.
const (
	codeRetry    = "retry"
	codeRollback = "rollback"
)

// codeCurrent is the code of a desktop that is not rebuilt, because it runs the image that it is to get.
const codeCurrent = "current"

// advance moves a batch on as far as its records allow.
func (s *step) advance(b *Batch) {
	for {
		before := b.State
		switch b.State {
		case Looking:
			s.look(b)
		case Sent:
			s.follow(b)
		case Verifying:
			s.verify(b)
		}
		if b.State == before || !s.ready() {
			return
		}
	}
}

// due is when the batch must be looked at without an event; zero if something else wakes it.
func (b *Batch) due() time.Time {
	var due time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (due.IsZero() || t.Before(due)) {
			due = t
		}
	}
	switch b.State {
	case Looking:
		if b.size() == 0 { // all are excluded
			earlier(b.Since)
		}
		if b.Look != nil && !b.Look.Taken {
			earlier(b.Look.RepublishAt)
		}
	case Sent:
		if b.Command != nil && !b.Command.Taken {
			earlier(b.Command.RepublishAt)
		}
		earlier(b.Probe)
	case Verifying:
		if b.Look == nil && b.Check == nil {
			earlier(b.Probe)
		}
		if b.Look != nil && (!b.Look.Taken || b.Look.Over) {
			earlier(b.Look.RepublishAt)
		}
		if b.Check != nil && (!b.Check.Taken || b.Check.Over) {
			earlier(b.Check.RepublishAt)
		}
	}
	return due
}

// enter changes the state of a batch.
func (s *step) enter(b *Batch, state string) {
	b.State, b.Since, b.Look, b.Joined, b.Found, b.Pages = state, s.Now.UTC(), nil, false, nil, nil
}

// ask makes a new look at these desktops. It is the look of the others, too, whose desktops are among them.
func (s *step) ask(b *Batch, ids []string, others ...*Batch) {
	b.Looks++
	b.Found, b.Pages, b.Joined, b.Shared = nil, nil, false, nil
	b.Look = s.request(events.FnListDesktops, events.TypeListDesktops, b.Looks, b.N, b.Attempt, time.Time{},
		events.ListDesktops{DesktopIDs: ids, Fields: lookFields}, "look")
	for _, o := range others {
		l := *b.Look
		l.RepublishAt = l.At.Add(s.wait(noAnswer)) // b publishes it once more; after that, o makes a new one
		o.Look, o.Joined, o.Found, o.Pages = &l, true, nil, nil
		b.Shared = append(b.Shared, o.N)
	}
}

// unasked reports whether a new look must be made.
func (s *step) unasked(b *Batch) bool {
	l := b.Look
	return l == nil || l.Over && !s.Now.Before(l.RepublishAt) || !l.Taken && !l.Over && s.Now.Sub(l.At) >= s.wait(noAnswer)
}

// answered reports whether the answer to the look is there.
func (s *step) answered(b *Batch) bool {
	if l := b.Look; !l.Taken && !l.Over && !b.Joined {
		s.remind(l, b.N, b.Attempt)
	}
	return b.Look.Taken
}

func (b *Batch) in(state string) []string {
	var ids []string
	for _, r := range b.Rows {
		if r.State == state {
			ids = append(ids, r.ID)
		}
	}
	return ids
}

// send stores and publishes the command for the desktops.
func (s *step) send(b *Batch, ids []string) {
	spec := s.head.Spec
	expiry := s.readAt(b.Look).Add(stale)
	if open, until := s.window(); open && !until.IsZero() {
		if last := until.Add(-s.p90()); last.Before(expiry) {
			expiry = last
		}
	}
	for _, id := range ids {
		s.set(b.row(id), Sent, "", "")
	}
	s.enter(b, Sent)
	b.SentAt, b.Check, b.Vain = s.Now.UTC(), nil, 0
	b.Command = s.request(events.FnRebuild, events.TypeRebuild, 0, b.N, b.Attempt, expiry.UTC(), events.Rebuild{
		DesktopIDs: ids, ImageID: s.imageOf(b), ImageType: s.typeOf(b),
		RebuildOptions: events.RebuildOptions{
			OSType: s.osOf(b), DelayTime: spec.Users.DelayTime, Message: spec.Users.Message,
			OrderID: spec.Options.OrderID, EnterpriseProjectID: spec.Options.EnterpriseProjectID,
			EncryptType: spec.Options.EncryptType, KMSID: spec.Options.KMSID,
			HandleType: spec.Options.HandleType, AllowOSChange: spec.Options.AllowOSChange,
			RebuildCurrent: spec.Options.SkipCurrent != nil && !*spec.Options.SkipCurrent,
		},
	}, "rebuild")
	if b.Parts == nil {
		b.Parts = map[string]Part{}
	}
	b.Parts[b.Command.ID] = Part{DesktopIDs: ids, Own: true}
	b.Probe = expiry.Add(s.wait(time.Minute)).UTC()
}

// follow waits for the ends of the commands of the batch. Without events it reads what the ledger shows of them.
func (s *step) follow(b *Batch) {
	s.remind(b.Command, b.N, b.Attempt)
	if !b.over() && !s.Now.Before(b.Probe) {
		s.probe(b)
		if !s.ready() {
			return
		}
	}
	if !b.over() {
		return
	}
	verify, rebuilt := false, false
	for i := range b.Rows {
		switch r := &b.Rows[i]; {
		case r.State != Sent:
		case r.Rebuilt:
			verify, rebuilt = true, rebuilt || r.Code != codeCurrent
		default:
			s.set(r, Unknown, "no_result", "the ends of the command do not name it")
		}
	}
	if verify {
		if rebuilt && b.OverAt.After(b.SentAt) { // else it is not known how long it took
			s.head.Took = append(s.head.Took, int(b.OverAt.Sub(b.SentAt).Seconds()))
		}
		if len(s.head.Took) > 50 {
			s.head.Took = slices.Clone(s.head.Took[1:])
		}
		s.beginVerify(b, s.Now.Add(s.wait(afterJob)))
		return
	}
	s.settle(b)
}

// settle ends a batch, or begins a new attempt for desktops whose command did nothing.
func (s *step) settle(b *Batch) {
	if len(b.in(Pending)) == 0 {
		s.end(b)
		return
	}
	b.Attempt++
	b.Looks, b.Command, b.Check, b.Ends, b.Probe = 0, nil, nil, time.Time{}, time.Time{}
	unknown := b.in(Unknown)
	maps.DeleteFunc(b.Parts, func(_ string, p Part) bool { // a retry looks for the ends of the others in the ledger
		return !slices.ContainsFunc(p.DesktopIDs, func(id string) bool { return slices.Contains(unknown, id) })
	})
	s.enter(b, Looking)
}

// identity is the ledger key of the command with this id.
func (p Part) identity(id string) string {
	source := events.Source(events.FnRebuild)
	if p.Own {
		source = events.Source(events.FnRollout)
	}
	return events.Identity(source, id)
}

// expire ends a command that was never begun, long after its expirytime: if it still comes, it is refused.
func (s *step) expire(b *Batch, id string) {
	b.change(id, func(p *Part) { p.Over = true })
	for _, desktop := range b.Parts[id].DesktopIDs {
		if r := b.row(desktop); r != nil && r.State == Sent && !r.Rebuilt {
			s.set(r, Pending, "", "")
		}
	}
}

// over reports whether every command of the batch has ended.
func (b *Batch) over() bool {
	for _, p := range b.Parts {
		if !p.Over {
			return false
		}
	}
	return true
}

// probe reads what the ledger shows of the commands that have not ended, and of a command.split what it shows of its
// parts.
func (s *step) probe(b *Batch) {
	next := s.Now.Add(s.wait(probeWait)).UTC()
	for _, id := range slices.Sorted(maps.Keys(b.Parts)) {
		p := b.Parts[id]
		if p.Over {
			continue
		}
		job, known := s.Jobs[p.identity(id)]
		switch {
		case !known:
			s.jobs = append(s.jobs, p.identity(id))
		case job.State == JobEnded:
			if s.noteBatch(b, Event{Type: job.Type, Data: job.Data}); !b.Parts[id].Over {
				s.giveUp(b, id, "its end in the ledger cannot be read")
			}
		case job.Absent && (p.JobID != "" || p.Unclear): // it was begun: a new attempt could be a second rebuild
			if s.Now.After(b.Command.Expiry.Add(s.wait(jobSlack))) && s.Now.After(p.Deadline.Add(s.wait(jobSlack))) {
				s.giveUp(b, id, "the ledger has no record of it, and it was begun")
			}
		case job.State == JobFree && s.Now.After(b.Command.Expiry.Add(s.wait(jobSlack))):
			s.expire(b, id)
		case job.State == JobFree && id == b.Command.ID:
			s.publish(b.Command, b.N, b.Attempt)
		case job.State == JobAccepted && s.Now.After(job.Deadline.Add(s.wait(jobSlack))):
			s.giveUp(b, id, "no end of its job was reported")
		case job.State == JobUnderWay && s.Now.After(b.Command.Expiry.Add(s.delay()+s.wait(underWayMax))):
			s.giveUp(b, id, "the ledger shows no outcome of its call")
		case job.State == JobAccepted:
			p.Deadline = job.Deadline
			b.Parts[id] = p
			b.Command.Taken = true
			if at := job.Deadline.Add(s.wait(time.Minute)); at.After(next) {
				next = at.UTC()
			}
		}
	}
	b.Probe = next
}

// giveUp ends a command of which no end is to be expected any more: the outcome of its desktops is not known.
func (s *step) giveUp(b *Batch, id, reason string) {
	b.change(id, func(p *Part) { p.Over = true })
	for _, desktop := range b.Parts[id].DesktopIDs {
		if r := b.row(desktop); r != nil && r.State == Sent && !r.Rebuilt {
			s.set(r, Unknown, "no_end", reason)
		}
	}
}

// end ends a batch and publishes the states of its desktops.
func (s *step) end(b *Batch) {
	s.enter(b, Ended)
	s.ended(b)
}

// mostEnded is the number of batches that ended last which the head keeps.
const mostEnded = 20

func (s *step) ended(b *Batch) {
	h := s.head
	h.Ended = append(h.Ended, b.N)
	h.Ended = slices.Clone(h.Ended[max(len(h.Ended)-mostEnded, 0):])
	s.reportBatch(b)
}

func (s *step) reportBatch(b *Batch) {
	h := s.head
	data := events.Rollout{
		Name: h.Name, Chain: h.Start.Correlation, Revision: h.Revision + 1, Phase: h.Phase, Plan: h.Plan, Digest: h.Digest,
		ImageID: s.imageOf(b),
		Command: &h.Start.CommandRef,
		Wave: &events.RolloutWave{Number: b.Wave + 1, Of: len(h.Waves), Kind: h.Waves[b.Wave].Kind,
			Size: h.Waves[b.Wave].To - h.Waves[b.Wave].From},
		Batch: &events.RolloutBatch{Number: b.N + 1, Attempt: b.Attempt},
	}
	for _, r := range b.Rows {
		if r.State != moved {
			data.Batch.Desktops = append(data.Batch.Desktops, r.desktop())
		}
	}
	raw, _ := json.Marshal(data)
	s.out = append(s.out, Message{
		Type: events.TypeRolloutBatchCompleted, Correlation: h.Start.Correlation,
		Time: b.Since, Data: raw,
		ID: events.Derive(h.Start.identity(), "rollout", "batch.completed", strconv.Itoa(b.N), strconv.Itoa(b.Attempt),
			strconv.FormatInt(b.Since.UnixNano(), 36)),
	})
}

func (r Row) desktop() events.RolloutDesktop {
	return events.RolloutDesktop{
		DesktopID: r.ID, State: r.State, Code: r.Code, Reason: r.Reason, At: r.At, RequestID: r.RequestID,
	}
}
