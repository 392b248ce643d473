package rollout

import (
	"fmt"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/chain"
)

// judge halts the rollout where too many desktops have failed, and ends a wave whose batches have all ended.
func (s *step) judge() {
	h := s.head
	if !h.moving() {
		return
	}
	for {
		wave := h.current()
		if wave < 0 || s.tooMany(wave) {
			return
		}
		w := &h.Waves[wave]
		if !h.ran(wave) {
			return
		}
		if w.Kind == CanaryWave && s.moreCandidates(wave) {
			return
		}
		if w.Ended.IsZero() {
			w.Ended = s.Now.UTC()
		}
		counts, next := h.ofWave(wave), h.after(wave)
		if next && !w.Promoted && w.Kind != DeferredWave && w.Kind != BackWave && w.To > w.From &&
			counts[Done]+counts[BackDone]+counts[moved] == 0 {
			s.halt("no_evidence", "no desktop of the wave is done, so nothing shows that the image is good")
			return
		}
		soak := time.Duration(h.Spec.Strategy.Soak)
		if next && !w.Promoted && h.soaks(wave) && s.Now.Before(w.Ended.Add(soak)) {
			return
		}
		w.Judged = s.Now.UTC()
		s.report(events.TypeRolloutWaveCompleted, nil, func(r *events.Rollout) { r.Wave = h.wave(wave) }, fmt.Sprint(wave))
	}
}

// ran reports whether every batch of a wave has ended.
func (h *Head) ran(wave int) bool {
	w := h.Waves[wave]
	return w.Next == w.To && !slices.ContainsFunc(h.openNumbers(), func(n int) bool { return h.Open[n].Wave == wave })
}

// soaks reports whether a wave is watched before the next one begins. Of a rollback only the first one is: it brings no
// new image, and desktops that do not work wait for it.
func (h *Head) soaks(wave int) bool {
	w := h.Waves[wave]
	return w.Kind != DeferredWave && (w.Kind != BackWave || wave == 0 || h.Waves[wave-1].Plan != w.Plan)
}

// after reports whether a wave follows that this one releases.
func (h *Head) after(wave int) bool {
	for i, w := range h.Waves {
		if i != wave && w.Judged.IsZero() && w.To > w.Next {
			return true
		}
	}
	return false
}

// moreCandidates gives a canary as many further desktops as were skipped or deferred, from the wave after it.
func (s *step) moreCandidates(wave int) bool {
	h := s.head
	w := &h.Waves[wave]
	next := h.adjacent(w.To)
	if w.Rounds >= maxRounds || next == nil {
		return false
	}
	counts := h.ofWave(wave)
	short := min(h.Spec.Strategy.Canary-counts[Done]-counts[moved]-counts.failed(), next.To-next.Next)
	if short <= 0 {
		return false
	}
	if next.Out > 0 {
		slots, ok := s.slots(next.From, next.From+short)
		excluded, also := s.excluded()
		if !ok || !also {
			return true
		}
		out := outOf(idsOf(slots), excluded)
		w.Out, next.Out = w.Out+out, next.Out-out
	}
	w.To += short
	next.From += short
	next.Next += short
	w.Rounds++
	if next.From == next.To {
		next.Judged = s.Now.UTC() // nothing is left of it
	}
	return true
}

// adjacent is the wave that begins at a slot and has not begun; nil if there is none.
func (h *Head) adjacent(slot int) *Wave {
	for i := range h.Waves {
		if w := &h.Waves[i]; w.Kind == PlainWave && w.From == slot && w.Next == slot && w.To > slot {
			return w
		}
	}
	return nil
}

// tooMany halts the rollout if more desktops have failed than the spec allows, in the wave or in total. A retry first does
// what it can about the total.
func (s *step) tooMany(wave int) bool {
	h := s.head
	w := h.Waves[wave]
	counts := h.ofWave(wave)
	failed, total, accepted := counts.failed()-h.Accepted[wave], h.Counts().failed(), 0
	for _, n := range h.Accepted {
		accepted += n
	}
	total -= accepted
	planned := h.planned()
	limit := h.Spec.Strategy.MaxFailed
	switch {
	case w.Kind == CanaryWave && failed > h.Spec.Strategy.CanaryMaxFailed:
		s.halt("canary_max_failed", fmt.Sprintf("%s of the canary failed, and canary_max_failed is %d", chain.Count(failed, "desktop"),
			h.Spec.Strategy.CanaryMaxFailed))
	case w.Kind != CanaryWave && failed > limit.Of(w.To-w.From):
		s.halt("max_failed", fmt.Sprintf("%d of %s of wave %d failed, and max_failed allows %d", failed,
			chain.Count(w.To-w.From, "desktop"), wave+1, limit.Of(w.To-w.From)))
	case total > max(limit.Of(planned), h.Spec.Strategy.CanaryMaxFailed) && (w.Kind != RetryWave || h.ran(wave)):
		s.halt("max_failed", fmt.Sprintf("%d of %s failed, and max_failed allows %d", total, chain.Count(planned, "desktop"),
			limit.Of(planned)))
	default:
		return false
	}
	return true
}

// planned is the number of desktops that the first plan rebuilds.
func (h *Head) planned() int {
	n := 0
	for _, w := range h.Waves {
		if w.Kind == CanaryWave || w.Kind == PlainWave {
			n += w.To - w.From
		}
	}
	return n
}

// halt stops the rollout until a person decides.
func (s *step) halt(why, reason string) {
	h := s.head
	h.Before, h.Phase, h.Why, h.Reason, h.By = h.Phase, Halted, why, reason, ""
	s.report(events.TypeRolloutHalted, nil, func(r *events.Rollout) {
		r.Why, r.Reason = why, reason
		if wave := h.current(); wave >= 0 {
			r.Wave = h.wave(wave)
		}
		r.Desktops = s.culprits()
	})
}

// mostInEvent is how many desktops an event names beside those of a batch.
const mostInEvent = 20

// culprits are failed desktops of the batches of this step.
func (s *step) culprits() []events.RolloutDesktop {
	var found []events.RolloutDesktop
	for _, key := range s.keys {
		b, ok := s.records[key].(*Batch)
		if !ok {
			continue
		}
		for _, r := range b.Rows {
			if (Counts{r.State: 1}).failed() > 0 && len(found) < mostInEvent {
				found = append(found, r.desktop())
			}
		}
	}
	return found
}
