package rollout

import (
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
)

// Waits of a rollout, divided by the pace.
const (
	claimWait   = time.Minute      // from the claim to the first batch: plain rebuilds that were under way are over
	stoppedWait = 30 * time.Second // between two looks at what stops writes
	heartbeat   = 15 * time.Minute // at the latest, a rollout that is not over is looked at
	defaultP50  = 10 * time.Minute
	defaultP90  = 20 * time.Minute
	maxRounds   = 20  // of candidates for a canary
	maxOpen     = 200 // batches at a time: the head has all of them
	maxFormed   = 32  // batches in one step, because each is read first
)

// decide decides what follows from the records and the time.
func (s *step) decide() {
	h := s.head
	if s.Republish {
		s.repeat()
	}
	if h.over() {
		h.Waiting, h.Tick = nil, nil
		s.leave()
		return
	}
	s.expireOffer()
	switch h.Phase {
	case Planning:
		s.plan()
	case Planned:
		s.awaitApproval()
	}
	for _, n := range h.openNumbers() {
		s.advanceIfDue(n)
	}
	s.lookTogether()
	if !s.ready() {
		return
	}
	s.sumUp()
	if s.ready() {
		s.judge()
	}
	for formed := 0; s.ready() && s.form(); formed++ {
		s.sumUp()
		if s.more = formed+1 == maxFormed; s.more {
			break
		}
	}
	if s.ready() {
		s.finish()
		s.sumUp()
		s.explain()
		s.tick()
		if h.over() {
			s.leave()
		}
	}
}

// repeat publishes the last events once more: the worker may have died before it had published them.
func (s *step) repeat() {
	for _, e := range s.head.Log {
		published := slices.ContainsFunc(s.out, func(m Message) bool { return m.ID == e.ID })
		if !published && s.Now.Sub(e.Time) < 30*time.Minute {
			s.out = append(s.out, s.message(e))
		}
	}
	if t := s.head.Tick; t != nil {
		s.out = append(s.out, s.tickMessage(*t))
	}
	for _, n := range s.head.Ended {
		if b, ok := s.batch(n); ok && s.Now.Sub(b.Since) < 30*time.Minute {
			s.reportBatch(b)
		}
	}
}

// advanceIfDue moves a batch on if this step is about it, or if it is due.
func (s *step) advanceIfDue(n int) {
	o := s.head.Open[n]
	_, about := s.records[BatchKey(s.name, n)]
	due := !o.Due.IsZero() && !s.Now.Before(o.Due)
	idle := o.State == Looking && o.Due.IsZero() && (s.blocked(o.Wave) == nil || s.head.ending())
	if !about && !due && !idle {
		return
	}
	if b, ok := s.batch(n); ok {
		s.advance(b)
	}
}

// current is the number of the wave that runs: retries and rollbacks first; -1 if all are judged.
func (h *Head) current() int {
	first := -1
	for i, w := range h.Waves {
		switch {
		case !w.Judged.IsZero():
		case w.Kind == RetryWave || w.Kind == BackWave:
			return i
		case first < 0:
			first = i
		}
	}
	return first
}

// ending reports whether batches that are not sent end.
func (h *Head) ending() bool { return h.Phase == Aborting || h.Queued != nil }

// moving reports whether new batches may begin as far as the phase is concerned.
func (h *Head) moving() bool { return h.Phase == Running || h.Phase == RollingBack }

// blocked is why no command of a wave may be sent now; nil if it may.
func (s *step) blocked(wave int) *Waiting {
	h := s.head
	switch open, until := s.window(); {
	case !h.moving():
		return &Waiting{Reason: h.Phase, Text: h.Phase}
	case h.Queued != nil:
		return &Waiting{Reason: "batch", Text: "the batches that run must end first"}
	case s.Stopped != "":
		return &Waiting{Reason: "stopped", Text: s.Stopped, Until: s.Now.Add(s.wait(stoppedWait))}
	case s.Now.Before(h.Claimed.Add(s.wait(claimWait))):
		return &Waiting{Reason: "claim", Text: "rebuilds that were under way when the desktops were claimed may still begin",
			Until: h.Claimed.Add(s.wait(claimWait))}
	case s.Now.Before(h.Waves[wave].NotBefore):
		return &Waiting{Reason: "deferral", Text: "the desktops of this wave were deferred", Until: h.Waves[wave].NotBefore}
	case !open:
		return &Waiting{Reason: "window", Text: "the window is closed" + s.neverFits(), Until: until}
	case !until.IsZero() && s.Now.Add(s.p90()).After(until):
		return &Waiting{Reason: "window", Text: "the rest of the window is too short for a batch" + s.neverFits(),
			Until: h.Spec.Window.Next(until)}
	}
	return nil
}

// neverFits is what a person must know if batches take longer than a window is open: then none begins any more.
func (s *step) neverFits() string {
	length, p90 := s.head.Spec.Window.Length(), s.p90()
	if length >= p90 {
		return ""
	}
	return fmt.Sprintf("; it is open for %v, and batches have taken %v: recompose rollout set makes it longer", length, p90)
}

// window reports whether the window is open, and when it closes (zero: never) or opens.
func (s *step) window() (open bool, until time.Time) {
	if s.head.Spec.Window == nil {
		return true, time.Time{}
	}
	open, until = s.head.Spec.Window.Open(s.Now)
	if !open {
		until = s.head.Spec.Window.Next(s.Now)
	}
	return open, until
}

// delay is how long users have to save their work before a rebuild begins.
func (s *step) delay() time.Duration { return time.Duration(s.head.Spec.Users.DelayTime) * time.Minute }

// form forms the next batch of the current wave. It returns false if there is none to be formed now.
func (s *step) form() bool {
	h := s.head
	wave := h.current()
	if wave < 0 || s.blocked(wave) != nil {
		return false
	}
	w := &h.Waves[wave]
	counts := h.Counts()
	limit := h.Spec.Strategy.MaxUnavailable
	held := counts[Failed] + counts[Unverified] + counts[Unknown]
	room := limit - counts.unavailable()
	for _, o := range h.Open {
		if o.State == Looking {
			room -= o.Size
		}
	}
	size := min(BatchRows, w.To-w.Next, limit-held)
	switch {
	case held >= limit && (w.To > w.Next || len(h.Open) > 0) && !h.sent():
		s.halt("no_room", fmt.Sprintf("max_unavailable, %d, is used up by %s that failed or whose outcome is not known",
			limit, chain.Count(held, "desktop")))
		return false
	case size <= 0, room <= 0, room < size && w.Kind != BackWave, len(h.Open) >= maxOpen:
		return false
	}
	slots, ok := s.slots(w.Next, w.Next+size)
	excluded, also := s.excluded()
	if !ok || !also {
		return false
	}
	if w.Kind == BackWave {
		if size = oneImage(slots); room < size {
			return false
		}
		slots = slots[:size]
	}
	b, ok := s.batch(h.Batches)
	switch there := len(b.Rows) > 0; {
	case !ok:
		return false
	case there && (b.State != Looking || b.Plan > h.Plan): // the head is older than the batch
		s.stale = true
		return false
	case there && b.Plan == h.Plan && b.Wave == wave && b.From == w.Next: // another worker formed it, and has not stored the head
		size = len(b.Rows)
	default:
		*b = Batch{N: h.Batches, Wave: wave, From: w.Next, Plan: h.Plan, Attempt: 1}
		for _, slot := range slots {
			b.Rows = append(b.Rows, Row{Slot: slot, State: Pending})
		}
	}
	if w.Started.IsZero() {
		w.Started = s.Now.UTC()
		s.report(events.TypeRolloutWaveStarted, nil, func(r *events.Rollout) { r.Wave = h.wave(wave) }, fmt.Sprint(wave))
	}
	for i := range b.Rows {
		if reason, out := excluded[fence.Fold(b.Rows[i].ID)]; out {
			w.Out--
			s.set(&b.Rows[i], Excluded, "excluded", reason)
		}
	}
	h.Batches++
	w.Next += size
	s.enter(b, Looking)
	if b.size() > 0 { // else the next step ends it: if the head is not stored, the batch is formed once more
		s.advance(b)
	}
	return s.ready()
}

// oneImage is how many of the first slots had the same image: one command brings one image.
func oneImage(slots []Slot) int {
	for i, slot := range slots {
		if slot.Image != slots[0].Image || slot.ImageType != slots[0].ImageType {
			return i
		}
	}
	return len(slots)
}

// sent reports whether desktops of an open batch are being rebuilt.
func (h *Head) sent() bool {
	for _, o := range h.Open {
		if o.State != Looking {
			return true
		}
	}
	return false
}

// slots are those from one number to another.
func (s *step) slots(from, to int) ([]Slot, bool) {
	var slots []Slot
	complete := true
	for _, p := range s.head.parts(from, to) {
		page, ok := record[Page](s, p.key)
		if complete = complete && ok; ok {
			slots = append(slots, p.of(page)...)
		}
	}
	return slots, complete
}

// part is where slots are: in a page, from one number to another.
type part struct {
	key      string
	from, to int
}

func (p part) of(page *Page) []Slot { return page.Slots[p.from:min(p.to, len(page.Slots))] }

// parts are where the slots from one number to another are.
func (h *Head) parts(from, to int) (parts []part) {
	for _, r := range h.Ranges {
		first, last := max(from-r.From, 0), min(to-r.From, r.Count)
		for n := first / PageRows; first < last && n*PageRows < last; n++ {
			parts = append(parts, part{PageKey(h.Name, r.Operation, n), max(first-n*PageRows, 0), min(last-n*PageRows, PageRows)})
		}
	}
	return parts
}

func (h *Head) wave(n int) *events.RolloutWave {
	w := h.Waves[n]
	counts := h.ofWave(n)
	delete(counts, moved)
	return &events.RolloutWave{Number: n + 1, Of: len(h.Waves), Kind: w.Kind, Size: w.To - w.From, Counts: counts}
}

// finish begins what waits for the end of every batch, and ends the rollout when nothing is left.
func (s *step) finish() {
	h := s.head
	switch {
	case len(h.Open) > 0:
	case h.Phase == Aborting:
		h.Phase = Aborted
		s.report(events.TypeRolloutAborted, nil, func(r *events.Rollout) { r.Reason, r.By = h.Reason, h.By })
	case h.Queued != nil:
		h.Moving = h.Queued.ID
	case !h.moving() || h.current() >= 0:
	case h.deferred():
		h.Moving = fmt.Sprint(deferredMove, len(h.Waves))
	case h.Phase == RollingBack:
		h.Phase = RolledBack
		s.report(events.TypeRolloutRolledBack, nil, nil)
	default:
		h.Phase = Completed
		s.report(events.TypeRolloutCompleted, nil, nil)
	}
}
