package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
)

// A retry, a rollback and the wave of the deferred desktops take desktops out of batches that have ended, and give each
// a further slot at the end.

// taken is a desktop that gets a further slot: its row in a batch.
type taken struct{ *Row }

// complete completes the operation that a step has begun. Its records are stored one by one, so nothing else may come
// between: a step completes it before it notes its event.
func (s *step) complete() {
	h := s.head
	switch {
	case h.Moving == "":
	case h.Queued != nil:
		s.begin(*h.Queued)
	default:
		s.collect()
		s.sumUp() // an event of this step counts no desktop twice
	}
	if s.ready() {
		h.Moving = ""
	}
}

// begin begins a retry or a rollback. Every batch has ended.
func (s *step) begin(v Verb) {
	h := s.head
	kind, states := RetryWave, []string{Failed, Missing, Unverified}
	if v.Type == events.TypeRolloutRollback {
		kind, states = BackWave, []string{Done, Failed, Unverified}
	}
	only, ok := s.namedBy(v)
	if !ok {
		return
	}
	rows, ok := s.find(v.operation(), only, false, states)
	more, unknown, also := s.settled(v.operation(), only)
	if !ok || !also {
		return
	}
	rows = append(rows, more...)
	var left, waiting []string
	excluded, ok := s.excluded()
	if !ok {
		return
	}
	stays := func(t taken) bool {
		why := ""
		switch {
		case t.State == moved: // before the operation was interrupted; perhaps it was excluded since
		case outOf([]string{t.ID}, excluded) > 0:
			why = "it is excluded"
		case kind == BackWave:
			why = t.noWayBack(h.Image.ID)
		}
		if why != "" {
			left = append(left, t.ID+": "+why)
		}
		return why != ""
	}
	rows = slices.DeleteFunc(rows, stays)
	var tried []taken
	if kind == BackWave {
		waiting, ok = s.waitingBack(excluded)
		if tried, also = s.tried(only); !ok || !also {
			return
		}
		tried = slices.DeleteFunc(tried, stays)
	}
	if len(rows)+len(tried) == 0 && (len(waiting) == 0 || v.Named > 0) {
		s.takeBack(v, "desktop_ids: there is no desktop for the "+verbOf(v)+others(v, left, unknown)+
			"; recompose rollout status shows how each stands")
		return
	}
	ids := waiting
	for _, t := range slices.Concat(rows, tried) {
		ids = append(ids, t.ID)
	}
	if !s.reclaim(v, ids) {
		return
	}
	if kind == BackWave {
		if tried, ok = s.leaveRetries(only); !ok || !s.stayPending() {
			return
		}
		count := len(left) // they are in it
		rows = append(rows, slices.DeleteFunc(tried, stays)...)
		left = left[:count]
	}
	if !s.move(kind, v.operation(), rows) {
		return
	}
	h.Queued, h.Previous, h.PreviousReason, h.Why = nil, "", "", ""
	h.Reason = verbOf(v) + " of " + chain.Count(len(ids), "desktop") + others(v, left, unknown)
	if h.Phase = cmp.Or(h.Before, Running); Over(h.Phase) {
		h.Phase = Running
	}
	if kind == BackWave {
		for i := range h.Waves {
			if w := &h.Waves[i]; w.Judged.IsZero() && w.Kind != BackWave {
				w.Judged = s.Now.UTC() // what was not reached stays pending
			}
		}
		h.Phase = RollingBack
	}
	h.Before = ""
	s.sumUp()
	s.accept(kind == BackWave)
	s.report(events.TypeRolloutResumed, h.unanswered(v), func(r *events.Rollout) { r.Reason, r.By = h.Reason, v.Data.By })
}

// waitingBack are the desktops that an earlier rollback has not reached: they are rolled back with the others.
func (s *step) waitingBack(excluded map[string]string) (ids []string, ok bool) {
	numbers := s.head.waveNumbers(BackWave)
	if len(numbers) == 0 {
		return nil, true
	}
	rows, ok := s.find("", nil, true, []string{Deferred})
	for _, t := range rows {
		ids = append(ids, t.ID)
	}
	for _, n := range numbers {
		slots, there := s.slots(s.head.Waves[n].Next, s.head.Waves[n].To)
		ok = ok && there
		for _, slot := range slots {
			ids = append(ids, slot.ID)
		}
	}
	return slices.DeleteFunc(ids, func(id string) bool { return outOf([]string{id}, excluded) > 0 }), ok
}

// stayPending makes desktops pending that a retry or a rollback has kept from being sent: no wave of them follows.
func (s *step) stayPending() bool {
	rows, ok := s.find("", nil, false, []string{Deferred})
	for _, t := range rows {
		if t.Code == codeRetry {
			s.set(t.Row, Pending, "", "")
		}
	}
	return ok
}

// operation identifies a retry or a rollback: another verb, sender or data may have the same id.
func (v Verb) operation() string {
	return events.Derive(events.Identity(v.Source, v.ID), v.Type, v.Digest)[:16]
}

// others are the desktops that a retry or a rollback leaves as they are.
func others(v Verb, left []string, unknown []taken) (text string) {
	if len(left) > 0 {
		why := " have no way back: "
		if v.Type == events.TypeRolloutRetry {
			why = " stay as they are: "
		}
		text += fmt.Sprint("; ", len(left), why, shorten(strings.Join(left, "; ")))
	}
	ids := make([]string, len(unknown))
	for i, t := range unknown {
		ids[i] = t.ID
	}
	switch {
	case len(ids) == 0:
	case v.Named > 0:
		text += fmt.Sprintf("; %d stay unknown: their calls may still take effect: %s", len(ids), chain.First(ids, 5))
	default:
		text += fmt.Sprintf("; %d of unknown outcome are left, as they are not named: %s", len(ids), chain.First(ids, 5))
	}
	return text
}

// takeBack rejects a retry or a rollback that waited for the end of the batches. The rollout stands as it did before: it
// must neither accept failures nor end waves.
func (s *step) takeBack(v Verb, reason string) {
	h := s.head
	h.Phase, h.Reason = cmp.Or(h.Previous, Paused), h.PreviousReason
	h.Previous, h.PreviousReason, h.Queued = "", "", nil
	if h.over() || h.moving() {
		h.Before = ""
	}
	s.report(events.TypeRolloutRejected, h.unanswered(v), func(r *events.Rollout) { r.Reason = reason })
}

// namedBy are the desktops that a retry or a rollback is limited to.
func (s *step) namedBy(v Verb) ([]string, bool) {
	if v.Named == 0 {
		return nil, true
	}
	page, ok := record[TargetsPage](s, NamedKey(s.name, v.operation()))
	return page.DesktopIDs, ok
}

// noWayBack is why a desktop cannot be rolled back; "" if it can.
func (t taken) noWayBack(image string) string {
	switch {
	case t.Image == "":
		return "its earlier image is not known"
	case t.ImageType == "": // a rebuild needs it
		return "the type of its earlier image is not known"
	case t.ImageGone:
		return "its earlier image " + t.Image + " no longer exists"
	case sameImage(t.Image, image):
		return "it ran the image before"
	}
	return ""
}

// reclaim claims desktops of a rollout that was over.
func (s *step) reclaim(v Verb, ids []string) bool {
	reason, ok := s.claim(ids, true)
	if ok && reason != "" {
		s.takeBack(v, reason)
	}
	return ok && reason == ""
}

// find finds the desktops in one of these states, in the batches that the head has: others are formed once more. Those
// that an operation has moved before it was interrupted are found once more. back: only those that were to be rolled
// back.
func (s *step) find(by string, only []string, back bool, states []string) ([]taken, bool) {
	h := s.head
	wanted := foldedIDs(only)
	complete := true
	var numbers []int
	for n := 0; n*SumBatches < h.Batches; n++ {
		sum, ok := record[Sum](s, SumKey(s.name, n))
		complete = complete && ok
		for number, summary := range sum.Batches {
			if number < h.Batches && slices.ContainsFunc(append(slices.Clone(states), moved),
				func(state string) bool { return summary.Counts[state] > 0 }) {
				numbers = append(numbers, number)
			}
		}
	}
	slices.Sort(numbers)
	var rows []taken
	for _, n := range numbers {
		b, ok := s.batch(n)
		if complete = complete && ok; !complete || back && h.Waves[b.Wave].Kind != BackWave {
			continue
		}
		for i := range b.Rows {
			r := &b.Rows[i]
			fits := slices.Contains(states, r.State) || r.State == moved && r.By == by && r.Code != codeUnknown
			if fits && (len(wanted) == 0 || wanted[fence.Fold(r.ID)]) {
				rows = append(rows, taken{r})
			}
		}
	}
	return rows, complete
}

// codeUnknown is the code of a desktop of unknown outcome that has moved.
const codeUnknown = "was_unknown"

// settled finds the named desktops of unknown outcome whose command has ended long ago, so that its call can no longer
// take effect, and the others: those of which that is not so, or without names all.
func (s *step) settled(by string, only []string) (rows, others []taken, ok bool) {
	const inEffect = 17 * time.Minute // a signature is refused after 15
	h := s.head
	for n := range h.Batches {
		sum, there := record[Sum](s, SumKey(s.name, n/SumBatches))
		if !there {
			return nil, nil, false
		}
		if c := sum.Batches[n].Counts; c[Unknown]+c[moved] == 0 {
			continue
		}
		b, there := s.batch(n)
		if !there {
			return nil, nil, false
		}
		for i := range b.Rows {
			r := &b.Rows[i]
			if r.State == moved && r.By == by && r.Code == codeUnknown {
				rows = append(rows, taken{r})
			}
			named := slices.ContainsFunc(only, func(id string) bool { return strings.EqualFold(id, r.ID) })
			switch {
			case r.State != Unknown, len(only) > 0 && !named:
			case named && s.Now.Sub(b.SentAt) >= s.wait(inEffect) && s.Now.Sub(r.At) >= s.wait(inEffect) && s.ledgerEnded(b, r.ID):
				rows = append(rows, taken{r})
			default:
				others = append(others, taken{r})
			}
		}
	}
	return rows, others, s.ready()
}

// ledgerEnded reports whether the ledger shows an end of the command that had this desktop.
func (s *step) ledgerEnded(b *Batch, desktop string) bool {
	named := false
	for id, p := range b.Parts {
		if !slices.Contains(p.DesktopIDs, desktop) {
			continue
		}
		named = true
		identity := p.identity(id)
		job, known := s.Jobs[identity]
		if !known {
			s.jobs = append(s.jobs, identity)
			return false
		}
		if job.State != JobEnded {
			return false
		}
	}
	return named
}

// deferredMove begins the name of the operation that collects the deferred desktops.
const deferredMove = "deferred/"

// collect makes a wave of the deferred desktops.
func (s *step) collect() {
	h := s.head
	kind := DeferredWave
	if h.Phase == RollingBack {
		kind = BackWave
	}
	rows, ok := s.find(h.Moving, nil, kind == BackWave, []string{Deferred})
	first := len(h.Waves)
	if !ok || !s.move(kind, h.Moving, rows) {
		return
	}
	for i := first; i < len(h.Waves); i++ {
		h.Waves[i].NotBefore = h.LastDeferred.Add(time.Duration(h.Spec.Users.DeferFor)).UTC()
	}
}

// deferred reports whether desktops wait for a wave of the deferred ones.
func (h *Head) deferred() bool {
	for wave, w := range h.Waves {
		if (w.Kind == BackWave) == (h.Phase == RollingBack) && h.ofWave(wave)[Deferred] > 0 {
			return true
		}
	}
	return false
}

// moveBy marks that a later slot of the desktop counts.
func (r *Row) moveBy(by string) {
	switch r.State {
	case moved:
		return // before the operation was interrupted
	case Deferred:
		if r.Code != codeRetry && r.Code != codeRollback {
			r.Deferrals++
		}
	case Unknown:
		r.Code = codeUnknown
	}
	r.State, r.By = moved, by
}

// move gives the desktops further slots, and makes waves of them: those of the strategy if a rollback begins, else one.
func (s *step) move(kind, by string, rows []taken) bool {
	h := s.head
	if kind == BackWave {
		slices.SortStableFunc(rows, func(a, b taken) int {
			return cmp.Or(strings.Compare(a.Image, b.Image), strings.Compare(a.ImageType, b.ImageType))
		})
	}
	excluded, ok := s.excluded()
	if !ok {
		return false
	}
	if h.Queued != nil {
		h.Plan++
	}
	from, slots := h.Slots, make([]Slot, len(rows))
	for i, t := range rows {
		t.moveBy(by)
		slots[i] = t.Slot
		slots[i].Tried = kind == RetryWave || kind != BackWave && t.Tried
	}
	waves := h.Spec.Strategy.waves(len(rows))
	if len(rows) > 0 && (kind != BackWave || h.Phase == RollingBack || len(h.Waves)+len(waves) > maxWavesInHead) {
		waves = []Wave{{To: len(rows)}}
	}
	for _, w := range waves {
		of := slots[w.From:w.To]
		w.Kind, w.Plan, w.Out = kind, h.Plan, outOf(idsOf(of), excluded)
		if kind == BackWave && oneImage(of) == len(of) { // else form cuts the batches where the image changes
			w.Image, w.ImageType = of[0].Image, of[0].ImageType
		}
		w.From, w.To, w.Next = from+w.From, from+w.To, from+w.From
		h.Waves = append(h.Waves, w)
	}
	s.append(events.Derive(by, "operation")[:10], slots)
	return s.ready()
}
