package rollout

import (
	"slices"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
)

// checkNamed is why a retry or a rollback cannot take the desktops that it names; "" if it can, or may when the batches have
// ended, or if records must be read first.
func (s *step) checkNamed(v Verb) string {
	ids, ok := v.Data.DesktopIDs, true
	if v.Named > 0 { // it waits for an approval
		ids, ok = s.namedBy(v)
	}
	if len(ids) == 0 || !ok {
		return ""
	}
	slots, ok := s.slots(0, s.head.Ranges[0].Count) // those of the plan: later slots repeat its desktops
	if !ok {
		return ""
	}
	planned := foldedIDs(idsOf(slots))
	foreign := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return planned[fence.Fold(id)] })
	switch {
	case len(foreign) > 0:
		return "desktop_ids: not among the desktops that the plan rebuilds: " + chain.First(foreign, 5)
	case v.Type == events.TypeRolloutRetry:
		return s.noneFails(ids)
	}
	return ""
}

// noneFails is why none of the desktops can be retried: none failed, and none can fail any more. It is "" if one may, or if
// records must be read first.
func (s *step) noneFails(ids []string) string {
	excluded, ok := s.excluded()
	if !ok {
		return ""
	}
	stays := func(id string) bool { return outOf([]string{id}, excluded) > 0 }
	rows, ok := s.find("", ids, false, []string{Failed, Missing, Unverified, Unknown, Pending, Deferred, Sent})
	waiting, there := s.unreached(ids)
	if !ok || !there || slices.ContainsFunc(rows, func(t taken) bool { return !stays(t.ID) }) ||
		slices.ContainsFunc(waiting, func(slot Slot) bool { return !stays(slot.ID) }) {
		return ""
	}
	rows, ok = s.find("", ids, false, stateOrder)
	if !ok {
		return ""
	}
	for i := range rows {
		if stays(rows[i].ID) {
			rows[i] = taken{&Row{Slot: rows[i].Slot, State: Excluded}}
		}
	}
	for _, slot := range waiting {
		rows = append(rows, taken{&Row{Slot: slot, State: Excluded}})
	}
	return "desktop_ids: none of them failed or can fail any more: " + lateText(rows)
}

// unreached are the slots of these desktops that are in no batch.
func (s *step) unreached(ids []string) (waiting []Slot, ok bool) {
	wanted := foldedIDs(ids)
	ok = true
	for _, w := range s.head.Waves {
		slots, there := s.slots(w.Next, w.To)
		ok = ok && there
		for _, slot := range slots {
			if wanted[fence.Fold(slot.ID)] {
				waiting = append(waiting, slot)
			}
		}
	}
	return waiting, ok
}

// foldedIDs are the folded ids.
func foldedIDs(ids []string) map[string]bool {
	folded := make(map[string]bool, len(ids))
	for _, id := range ids {
		folded[fence.Fold(id)] = true
	}
	return folded
}
