package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
)

// maxExcluded is the size of the excluded desktops with their reasons, in bytes.
const maxExcluded = 240 << 10

// exclude takes desktops out that are not in a sent batch. They count as excluded at once. The event names the others
// with their states: one that is sent is not excluded, and one whose batch has ended is taken up by no retry and no
// rollback any more.
func (s *step) exclude(v Verb) string {
	h := s.head
	if h.over() { // count those that a worker has excluded that died before it stored the head
		s.find("", v.Data.DesktopIDs, false, []string{Pending, Deferred, Excluded})
	}
	if h.over() || h.Phase == Planning {
		return fmt.Sprintf("desktops are excluded from a rollout that is planned and not over; it is %s", h.where())
	}
	var foreign []string
	ok := true
	for _, id := range v.Data.DesktopIDs {
		claims, there := record[Claims](s, ClaimKey(fence.ClaimPart(id)))
		if ok = ok && there; there && claims.Desktops[fence.Fold(id)] != s.name {
			foreign = append(foreign, id)
		}
	}
	waiting, late, found := s.inBatches(v.Data.DesktopIDs)
	excluded, there := record[ExcludedIDs](s, ExcludedKey(s.name)) // last, so that it is stored after the batches
	if !ok || !found || !there || len(excluded.Desktops) != h.Excluded && !s.countOut(excluded.Desktops) {
		return ""
	}
	foreign = slices.DeleteFunc(foreign, func(id string) bool { return outOf([]string{id}, excluded.Desktops) > 0 })
	if len(foreign) > 0 {
		return fmt.Sprintf("desktop_ids: %d are not part of the rollout: %s", len(foreign), chain.First(foreign, 5))
	}
	all := maps.Clone(excluded.Desktops)
	if all == nil {
		all = map[string]string{}
	}
	for _, id := range v.Data.DesktopIDs {
		all[fence.Fold(id)] = shorten(v.Data.Reason)
	}
	sent := 0
	for _, t := range late {
		if t.State == Sent { // also if a worker that died had stored it as excluded before it was sent
			delete(all, fence.Fold(t.ID))
			sent++
		}
	}
	if raw, _ := json.Marshal(all); len(raw) > maxExcluded {
		return fmt.Sprintf("desktop_ids: with them %d desktops of the rollout are excluded, which is too many; abort it and "+
			"start another with targets.except", len(all))
	}
	excluded.Desktops = all
	if !s.countOut(all) {
		return ""
	}
	if sent == len(v.Data.DesktopIDs) {
		return "desktop_ids: none is excluded: " + lateText(late)
	}
	for _, t := range waiting {
		s.set(t.Row, Excluded, "excluded", v.Data.Reason)
	}
	s.release(v.Data.DesktopIDs, late)
	s.sumUp()
	s.report(events.TypeRolloutChanged, &v, func(r *events.Rollout) {
		r.Reason, r.By = chain.Count(len(v.Data.DesktopIDs)-len(late), "desktop")+" excluded: "+v.Data.Reason, v.Data.By
		if len(late) > 0 {
			r.Reason += fmt.Sprintf("; %d not: ", len(late)) + lateText(late)
		}
		for _, t := range late[:min(len(late), mostInEvent)] {
			why := "it stays so: no retry and no rollback takes it up"
			if t.State == Sent {
				why = "its rebuild may run: it is not excluded"
			}
			r.Desktops = append(r.Desktops, events.RolloutDesktop{DesktopID: t.ID, State: t.State, Reason: why})
		}
	})
	return ""
}

// release frees desktops that are excluded, once the head is stored: other rollouts and plain rebuilds may take them. It keeps
// those of which a call runs or may still take effect, and all in a step that claims: claims are stored before the head.
func (s *step) release(ids []string, late []taken) {
	if s.claims {
		return
	}
	held := map[string]bool{}
	for _, t := range late {
		held[fence.Fold(t.ID)] = t.State == Sent || t.State == Unknown
	}
	for _, id := range ids {
		key := ClaimKey(fence.ClaimPart(id))
		if claims, _ := record[Claims](s, key); !held[fence.Fold(id)] && claims.Desktops[fence.Fold(id)] == s.name {
			delete(claims.Desktops, fence.Fold(id))
			s.freed = append(s.freed, key)
		}
	}
}

// inBatches finds those of the desktops that wait in a batch, and those that can no longer be taken out, because their
// batch was sent or has ended. Of a batch whose summary a worker that died did not store, the batch counts.
func (s *step) inBatches(ids []string) (waiting, late []taken, ok bool) {
	waiting, ok = s.find("", ids, false, []string{Pending, Deferred})
	rest := map[string]string{}
	for _, id := range ids {
		rest[fence.Fold(id)] = id
	}
	for _, t := range waiting {
		delete(rest, fence.Fold(t.ID))
	}
	if len(rest) > 0 {
		slots, there := s.unreached(slices.Collect(maps.Values(rest)))
		ok = ok && there
		for _, slot := range slots {
			delete(rest, fence.Fold(slot.ID))
		}
	}
	if !ok || len(rest) == 0 {
		return waiting, nil, ok
	}
	rows, ok := s.find("", slices.Collect(maps.Values(rest)), false, stateOrder)
	for _, t := range rows {
		switch t.State {
		case Pending, Deferred:
			waiting = append(waiting, t)
		case Excluded:
		default:
			late = append(late, t)
		}
	}
	return waiting, late, ok
}

// lateText names desktops by their states.
func lateText(rows []taken) string {
	var parts []string
	for _, state := range stateOrder {
		var ids []string
		for _, t := range rows {
			if t.State == state {
				ids = append(ids, t.ID)
			}
		}
		if len(ids) > 0 {
			parts = append(parts, fmt.Sprintf("%d %s, %s", len(ids), spaced(state), chain.First(ids, 5)))
		}
	}
	return strings.Join(parts, "; ")
}

// countOut counts the excluded desktops of each wave that are in no batch. It returns false if records must be read first.
func (s *step) countOut(excluded map[string]string) bool {
	h := s.head
	ok := true
	for i := range h.Waves {
		w := &h.Waves[i]
		slots, there := s.slots(w.Next, w.To)
		ok = ok && there
		w.Out = outOf(idsOf(slots), excluded)
	}
	if ok {
		h.Excluded = len(excluded)
	}
	return ok
}

func idsOf(slots []Slot) []string {
	ids := make([]string, len(slots))
	for i, slot := range slots {
		ids[i] = slot.ID
	}
	return ids
}

// outOf is how many of the desktops are excluded.
func outOf(ids []string, excluded map[string]string) (n int) {
	for _, id := range ids {
		if _, out := excluded[fence.Fold(id)]; out {
			n++
		}
	}
	return n
}

// excluded are the reasons of the desktops that are excluded, by the folded id. A worker may have died before it stored
// the head of an exclude: its record holds.
func (s *step) excluded() (map[string]string, bool) {
	if s.head.Excluded == 0 {
		return nil, true
	}
	r, ok := record[ExcludedIDs](s, ExcludedKey(s.name))
	return r.Desktops, ok && (len(r.Desktops) == s.head.Excluded || s.countOut(r.Desktops))
}
