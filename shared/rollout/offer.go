package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/chain"
)

// raises reports whether a set makes the rollout less careful.
func (s *step) raises(v Verb) bool {
	st := s.head.Spec.Strategy
	if int(v.Data.MaxUnavailable) > st.MaxUnavailable || v.Data.Window != nil {
		return true
	}
	var amount Amount
	if v.Data.MaxFailed == nil || json.Unmarshal(v.Data.MaxFailed, &amount) != nil {
		return false
	}
	more := func(of int) bool { return amount.Of(of) > st.MaxFailed.Of(of) }
	// A number may be less than a share of the fleet and more than the same share of a wave.
	return more(s.head.planned()) || slices.ContainsFunc(s.head.Waves,
		func(w Wave) bool { return w.Kind != CanaryWave && more(w.To-w.From) })
}

// offer applies a verb, or keeps it until a person approves it.
func (s *step) offer(v Verb, careful bool) string {
	h := s.head
	if why := s.check(v); why != "" {
		return why
	}
	raw, _ := json.Marshal(v.Data)
	if ids := v.Data.DesktopIDs; len(ids) > 0 { // too many for the head
		fresh[TargetsPage](s, NamedKey(s.name, v.operation())).DesktopIDs = ids
		v.Named, v.Data.DesktopIDs = len(ids), nil
	}
	if !careful || !h.Spec.Approval.Required {
		return s.apply(v)
	}
	if h.Offer != nil {
		s.dropOffer("was replaced by another " + verbOf(v))
	}
	sum := sha256.Sum256([]byte(h.Digest + "\n" + v.Type + "\n" + string(raw)))
	h.Offer = &Offer{Verb: v, Digest: hex.EncodeToString(sum[:]), At: s.Now.UTC()}
	s.report(events.TypeRolloutPlanned, &v, func(r *events.Rollout) {
		r.Digest, r.By = h.Offer.Digest, v.Data.By
		r.Reason = "approval is required"
		r.Until = h.Offer.At.Add(time.Duration(h.Spec.Approval.Within)).UTC()
	})
	return ""
}

func (s *step) expireOffer() {
	h := s.head
	if h.Offer != nil && !s.Now.Before(h.Offer.At.Add(time.Duration(h.Spec.Approval.Within))) {
		s.dropOffer("has expired")
	}
}

// dropOffer takes back what waits for approval, and reports it to those who wait for the chain of its sender.
func (s *step) dropOffer(reason string) {
	h := s.head
	dropped := h.Offer.Verb
	h.Offer = nil
	s.report(events.TypeRolloutChanged, nil, func(r *events.Rollout) {
		r.Command, r.Reason = &dropped.CommandRef, "the "+verbOf(dropped)+" that waited for approval "+reason
	}, "offer", dropped.operation())
	last := &h.Log[len(h.Log)-1]
	last.Correlation = dropped.Correlation
	s.out[len(s.out)-1] = s.message(*last)
}

// maxWavesInHead is how many waves a rollout may have before another retry, rollback or deferral.
const maxWavesInHead = 250

// check is why a verb cannot be carried out now; "" if it can, or if records must be read first.
func (s *step) check(v Verb) string {
	h := s.head
	if v.Type == events.TypeRolloutSet {
		if h.over() || h.Phase == Planning {
			return h.cannot("changed")
		}
		_, why := s.changed(v)
		return why
	}
	if why := h.cannotBegin(v); why != "" {
		return why
	}
	return s.checkNamed(v)
}

// cannotBegin is why a retry or a rollback cannot be carried out as the rollout stands; "" if it can.
func (h *Head) cannotBegin(v Verb) string {
	switch {
	case h.Queued != nil:
		return "another retry or rollback waits for the end of the batches"
	case len(h.Waves) >= maxWavesInHead:
		return fmt.Sprintf("the rollout has %d waves, which is the most; start another one for its desktops", len(h.Waves))
	case h.Phase == Planning, h.Phase == Planned, len(h.Waves) == 0:
		return fmt.Sprintf("a rollout that is %s has no desktop to retry or to roll back", h.where())
	case h.Phase == Aborting && v.Type == events.TypeRolloutRollback:
		return "batches of the aborting rollout have not ended: wait until it is aborted, and send the rollback then"
	case v.Type == events.TypeRolloutRetry && h.Phase == RollingBack,
		v.Type == events.TypeRolloutRetry && h.Before == RollingBack:
		return "a rollout that is rolling back is not retried; resume it, or abort it"
	case v.Type == events.TypeRolloutRetry && (h.Phase == Aborting || h.Phase == Aborted || h.Phase == RolledBack):
		return fmt.Sprintf("a rollout that is %s is not retried; start another", h.where())
	case v.Type == events.TypeRolloutRetry:
		return h.nothingToRetry(v)
	case v.Type == events.TypeRolloutRollback && v.Named+len(v.Data.DesktopIDs) > 0 && h.over() && h.waitBack() > 0:
		return fmt.Sprintf("desktop_ids: an earlier rollback has not reached %s, and these would be rolled back, too: send the "+
			"rollback without desktop_ids, or rebuild single desktops without a rollout", chain.Count(h.waitBack(), "desktop"))
	case v.Type == events.TypeRolloutRollback && !h.hasRebuilt():
		return "no desktop was rebuilt, so there is nothing to roll back; abort ends a rollout that is not over"
	}
	return ""
}

// nothingToRetry is why a retry would find no desktop; "" if it may find one. Those of unknown outcome must be named.
func (h *Head) nothingToRetry(v Verb) string {
	c := h.Counts()
	if c[Failed]+c[Missing]+c[Unverified] > 0 {
		return ""
	}
	reason := "no desktop failed, is missing or was not verified, so there is nothing to retry: " + chain.CountsText(c)
	switch named := v.Named+len(v.Data.DesktopIDs) > 0; {
	case c[Unknown] > 0 && named:
		return ""
	case c[Unknown] > 0:
		return reason + "; name those of unknown outcome in desktop_ids, once their calls can no longer take effect"
	case h.Phase == Paused || h.Phase == Halted:
		return reason + "; resume goes on"
	case !h.over():
		return reason + "; send the retry when one has failed"
	}
	return reason + "; rebuild single desktops without a rollout, or start another"
}

// hasRebuilt reports whether desktops were, may have been or are being rebuilt, or wait for an earlier rollback.
func (h *Head) hasRebuilt() bool {
	c := h.Counts()
	return c[Done]+c[Failed]+c[Unverified]+c[Unknown]+h.waitBack()+len(h.waveNumbers(RetryWave)) > 0 || h.sent()
}

// Rebuilds is how many desktops a retry or a rollback that names none rebuilds, by the type of its command: those that it
// takes now, and at most so many more. It begins when the batches under way have ended, and takes their desktops, too.
func (h *Head) Rebuilds(typ string) (now, more int) {
	c := h.Counts()
	if typ == events.TypeRolloutRetry {
		return c[Failed] + c[Missing] + c[Unverified], c[Sent]
	}
	return c[Done] + c[Failed] + c[Unverified], c[Sent] + c[Unknown] + h.waitBack() + h.mayBeTried()
}

// mayBeTried is how many desktops at most have failed and wait for a retry.
func (h *Head) mayBeTried() (n int) {
	waves := h.waveNumbers(RetryWave)
	if len(waves) > 0 { // one that was deferred has moved
		waves = append(waves, h.waveNumbers(DeferredWave)...)
	}
	for _, wave := range waves {
		of := h.ofWave(wave)
		n += of[Pending] + of[Deferred]
	}
	return n
}

// waitBack is how many desktops an earlier rollback has not reached.
func (h *Head) waitBack() (n int) {
	for _, wave := range h.waveNumbers(BackWave) {
		of := h.ofWave(wave)
		n += of[Pending] + of[Deferred]
	}
	return n
}

// waveNumbers are the numbers of the waves of a kind.
func (h *Head) waveNumbers(kind string) (numbers []int) {
	for n, w := range h.Waves {
		if w.Kind == kind {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// changed is the spec with what a set changes.
func (s *step) changed(v Verb) (Spec, string) {
	spec := s.head.Spec
	if n := int(v.Data.MaxUnavailable); n > 0 {
		spec.Strategy.MaxUnavailable = n
	}
	if v.Data.MaxFailed != nil {
		if err := json.Unmarshal(v.Data.MaxFailed, &spec.Strategy.MaxFailed); err != nil {
			return spec, "max_failed: " + err.Error()
		}
	}
	if v.Data.Window != nil {
		spec.Window = &Window{}
		if err := json.Unmarshal(v.Data.Window, spec.Window); err != nil {
			return spec, "window: " + err.Error()
		}
		if spec.Window.Length() < s.p90() {
			return spec, s.tooShort(spec.Window)
		}
	}
	whole := spec
	whole.Targets.DesktopIDs = []string{"any"} // the ids are kept elsewhere
	whole.Targets.Where, whole.Targets.File = nil, ""
	if err := whole.Check(); err != nil {
		return spec, err.Error()
	}
	return spec, ""
}

// apply carries out a verb that is approved, or needs no approval.
func (s *step) apply(v Verb) string {
	h := s.head
	if v.Type == events.TypeRolloutSet {
		spec, why := s.changed(v)
		if why != "" {
			return why
		}
		if given := h.Spec.settings(); h.Given == nil {
			h.Given = &given
		}
		h.Spec = spec
		s.report(events.TypeRolloutChanged, h.unanswered(v), func(r *events.Rollout) {
			r.Reason, r.By = "the settings were changed", v.Data.By
		})
		return ""
	}
	h.Previous, h.PreviousReason = h.Phase, h.Reason
	if h.over() {
		h.Before = h.Phase
		s.join()
	} else if h.moving() {
		h.Before = h.Phase
	}
	h.Phase, h.Queued, h.Reason = Paused, &v, verbOf(v)+" begins when every batch has ended"
	return ""
}

// verbOf is the last word of the type of a verb.
func verbOf(v Verb) string {
	words := strings.Split(strings.TrimSuffix(v.Type, ".v1"), ".")
	return words[len(words)-1]
}
