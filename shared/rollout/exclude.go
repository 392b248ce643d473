package rollout

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout/fence"
)

// maxExcluded is the size of the excluded desktops with their reasons, in bytes.
const maxExcluded = 240 << 10

// exclude takes desktops out that are not in a sent batch. They count as excluded at once.
func (s *step) exclude(v Verb) string {
	h := s.head
	if h.over() { // count those that a worker has excluded that died before it stored the head
		s.find("", v.Data.DesktopIDs, false, []string{Pending, Deferred, Excluded})
	}
	if h.over() || h.Phase == Planning {
		return fmt.Sprintf("desktops are excluded from a rollout that is planned and not over; it is %s", h.where())
	}
	var foreign, sent []string
	ok := true
	for _, id := range v.Data.DesktopIDs {
		claims, there := record[Claims](s, ClaimKey(fence.ClaimPart(id)))
		if ok = ok && there; there && claims.Desktops[fence.Fold(id)] != s.name {
			foreign = append(foreign, id)
		}
	}
	for _, n := range h.openNumbers() {
		b, there := s.batch(n)
		ok = ok && there
		for _, id := range v.Data.DesktopIDs {
			if r := b.folded(id); r != nil && r.State == Sent {
				sent = append(sent, id)
			}
		}
	}
	waiting, found := s.find("", v.Data.DesktopIDs, false, []string{Pending, Deferred})
	excluded, there := record[ExcludedIDs](s, ExcludedKey(s.name)) // last, so that it is stored after the batches
	switch {
	case !ok || !there || !found || !s.countOut(excluded.Desktops):
		return ""
	case len(foreign) > 0:
		return fmt.Sprintf("desktop_ids: %d are not part of the rollout: %s", len(foreign),
			strings.Join(foreign[:min(len(foreign), 5)], ", "))
	case len(sent) > 0:
		done := "nothing was excluded"
		if n := outOf(v.Data.DesktopIDs, excluded.Desktops); n > 0 { // before, or by this command at a worker that died
			done = fmt.Sprintf("%d are excluded, and no more", n)
		}
		return fmt.Sprintf("desktop_ids: %d are in a batch that was sent: %s; %s", len(sent),
			strings.Join(sent[:min(len(sent), 5)], ", "), done)
	}
	all := maps.Clone(excluded.Desktops)
	if all == nil {
		all = map[string]string{}
	}
	for _, id := range v.Data.DesktopIDs {
		all[fence.Fold(id)] = shorten(v.Data.Reason)
	}
	if raw, _ := json.Marshal(all); len(raw) > maxExcluded {
		return fmt.Sprintf("desktop_ids: with them %d desktops of the rollout are excluded, which is too many; abort it and "+
			"start another with targets.except", len(all))
	}
	s.countOut(all)
	for _, t := range waiting {
		s.set(t.Row, Excluded, "excluded", v.Data.Reason)
	}
	excluded.Desktops = all
	s.sumUp()
	s.report(events.TypeRolloutChanged, &v, func(r *events.Rollout) {
		r.Reason, r.By = chain.Count(len(v.Data.DesktopIDs), "desktop")+" excluded: "+v.Data.Reason, v.Data.By
	})
	return ""
}

// countOut counts the excluded desktops of each wave that are in no batch, if their number is another one than before.
// It returns false if records must be read first.
func (s *step) countOut(excluded map[string]string) bool {
	h := s.head
	if len(excluded) == h.Excluded {
		return true
	}
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
	return r.Desktops, ok && s.countOut(r.Desktops)
}
