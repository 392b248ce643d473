package rollout

import (
	"slices"

	"recompose/shared/rollout/fence"
)

// A retry gives desktops that failed further slots, in which they count as pending. A rollback that begins before their
// turn takes them up all the same: a rebuild of them was begun.

// tried finds the desktops that failed and that the retry has not reached: they count as pending, and go back, too.
func (s *step) tried(only []string) ([]taken, bool) {
	rows, ok := s.find("", only, false, []string{Pending, Deferred})
	rows = slices.DeleteFunc(rows, func(t taken) bool { return !t.Tried })
	wanted := foldedIDs(only)
	for i := range s.head.Waves {
		if w := &s.head.Waves[i]; w.Kind == RetryWave || w.Kind == DeferredWave {
			slots, there := s.slots(w.Next, w.To)
			ok = ok && there
			for _, slot := range slots {
				if slot.Tried && (len(only) == 0 || wanted[fence.Fold(slot.ID)]) {
					rows = append(rows, taken{&Row{Slot: slot, State: Pending}})
				}
			}
		}
	}
	return rows, ok
}

// leaveRetries ends the waves of desktops that failed before they are reached, and returns those that go back.
func (s *step) leaveRetries(only []string) ([]taken, bool) {
	h := s.head
	excluded, ok := s.excluded()
	for i := range h.Waves {
		w := &h.Waves[i]
		slots, there := s.slots(w.Next, w.To)
		if ok = ok && there; !ok || !slices.ContainsFunc(slots, func(slot Slot) bool { return slot.Tried }) {
			continue
		}
		for part := range slices.Chunk(slots, BatchRows) {
			b, there := s.batch(h.Batches)
			if ok = ok && there; !ok {
				break
			}
			*b = Batch{N: h.Batches, Wave: i, From: w.Next, Plan: h.Plan, Attempt: 1, State: Ended, Since: s.Now.UTC()}
			for _, slot := range part {
				b.Rows = append(b.Rows, Row{Slot: slot, State: Pending})
				if reason, out := excluded[fence.Fold(slot.ID)]; out {
					w.Out--
					s.set(&b.Rows[len(b.Rows)-1], Excluded, "excluded", reason)
				}
			}
			h.Batches++
			w.Next += len(part)
		}
	}
	s.sumUp()
	if !ok || !s.ready() {
		return nil, false
	}
	return s.tried(only)
}
