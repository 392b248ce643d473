package rollout

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"recompose/events"
)

// verb carries out a command of a person. It ends in exactly one event, which a second delivery publishes once more.
func (s *step) verb(v Verb) {
	h := s.head
	if h != nil {
		for _, e := range h.Log {
			if e.answers(v) {
				s.out = append(s.out, s.message(e))
				return
			}
		}
		if _, seen := h.Seen[v.operation()]; seen {
			return // its event was published; a person may have changed things since
		}
	}
	defer func() {
		if s.head != nil {
			s.remember(v)
		}
	}()
	switch {
	case h != nil && h.Queued != nil && h.Queued.CommandRef == v.CommandRef: // it waits for the end of the batches
	case v.Type == events.TypeRolloutTargets:
		s.keepTargets(v)
	case v.Type == events.TypeRolloutStart:
		s.start(v)
	case h != nil && v.Time.Unix() <= h.Forgotten: // it would act twice if it is a second delivery
		s.reject(v, fmt.Sprintf("time: since the %s was sent, at %s, the rollout has received so many others that it no longer "+
			"knows whether it was carried out; look at recompose rollout status, and send it with another id", verbOf(v),
			v.Time.UTC().Format(time.RFC3339)))
	case h == nil:
		s.reject(v, "name: there is no rollout "+s.name+"; recompose rollout list shows those that there are")
	default:
		if why := s.carryOut(v); why != "" {
			s.reject(v, why)
		}
	}
}

// remember keeps that a verb was carried out or rejected, for as long as it can be delivered once more.
func (s *step) remember(v Verb) {
	h := s.head
	maps.DeleteFunc(h.Seen, func(_ string, at int64) bool {
		return s.MaxAge > 0 && s.Now.Sub(time.Unix(at, 0)) > s.MaxAge+time.Minute
	})
	if h.Seen == nil {
		h.Seen = map[string]int64{}
	}
	h.Seen[v.operation()] = v.Time.Unix()
	for len(h.Seen) > maxSeen {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(h.Seen)), func(a, b string) int {
			return cmp.Or(cmp.Compare(h.Seen[a], h.Seen[b]), cmp.Compare(a, b))
		})
		h.Forgotten = max(h.Forgotten, h.Seen[oldest])
		delete(h.Seen, oldest)
	}
}

// answers reports whether the event answers this very command: another sender, or other data, may have the same id.
func (e Entry) answers(v Verb) bool {
	var data struct {
		Command events.CommandRef `json:"command"`
	}
	return e.Causation == v.ID && json.Unmarshal(e.Data, &data) == nil && data.Command == v.CommandRef
}

// reject ends a verb that changes nothing.
func (s *step) reject(v Verb, why string) {
	if s.head != nil {
		s.report(events.TypeRolloutRejected, &v, func(r *events.Rollout) { r.Reason = why })
		return
	}
	s.answer(events.TypeRolloutRejected, v, events.Rollout{Name: s.name, Reason: why})
}

// answer ends a verb of a rollout that has no head.
func (s *step) answer(typ string, v Verb, data events.Rollout) {
	data.Command = &v.CommandRef
	raw, _ := json.Marshal(data)
	s.out = append(s.out, Message{
		Type: typ, ID: events.Derive(events.Identity(v.Source, v.ID), "rollout", typ, v.Digest), Causation: v.ID,
		Correlation: v.Correlation, Time: s.Now.UTC(), Data: raw,
	})
}

// free reports whether the name can be used: it was not, or for a plan only.
func (s *step) free() bool { return s.head == nil || s.head.PlanOnly && s.head.over() }

func (s *step) keepTargets(v Verb) {
	if !s.free() {
		s.reject(v, "name: "+s.name+" was used before; a name is used once")
		return
	}
	fresh[TargetsPage](s, TargetsKey(s.name, v.Data.Page)).DesktopIDs = v.Data.DesktopIDs
	s.head = nil
	s.answer(events.TypeRolloutTargetsKept, v, events.Rollout{Name: s.name})
}

// SpecName is the name of the rollout in a spec as JSON; "" if it has none.
func SpecName(spec json.RawMessage) string {
	var named struct {
		Name string `json:"name"`
	}
	_ = json.Unmarshal(spec, &named) // the error of a spec is found when it is parsed
	return named.Name
}

func (s *step) start(v Verb) {
	if h := s.head; h != nil && h.Start.ID == v.ID && h.Start.Source == v.Source {
		if h.Start.CommandRef != v.CommandRef { // else it is a second delivery
			s.reject(v, "id: started rollout "+s.name+" with other data before; send it with another id and name")
		}
		return
	}
	spec, err := ParseSpec(v.Data.Spec)
	kept := spec
	kept.Targets.DesktopIDs = nil
	raw, _ := json.Marshal(kept)
	switch {
	case err != nil:
		s.reject(v, "spec: "+err.Error())
		return
	case !s.free():
		s.reject(v, "name: "+s.name+" was used before; a name is used once")
		return
	case len(raw) > maxSpec:
		s.reject(v, fmt.Sprintf("spec: has %d bytes without targets.desktop_ids, and may have %d; protect desktops by "+
			"targets.except.tags, not by so many ids", len(raw), maxSpec))
		return
	}
	h := &Head{
		Name: s.name, Phase: Planning, PlanOnly: v.Data.PlanOnly,
		Start: Origin{CommandRef: v.CommandRef, Correlation: v.Correlation, Time: v.Time},
		Image: TargetImage{ID: spec.Image.ImageID, Type: spec.Image.ImageType, OSType: spec.Image.OSType},
	}
	if s.head != nil {
		h.Revision, h.Seen, h.Forgotten = s.head.Revision, s.head.Seen, s.head.Forgotten
	}
	ids := spec.Targets.DesktopIDs
	switch t := v.Data.Targets; {
	case spec.Targets.File != "" && t == nil:
		s.reject(v, "targets.file: a file is read by recompose rollout start; in a message give targets.desktop_ids")
		return
	case t != nil && spec.Targets.File == "":
		s.reject(v, "targets: pages go with a spec that has targets.file")
		return
	case t != nil:
		given, ok := s.targets(int(t.Pages))
		if !ok {
			return
		}
		if sum := TargetsSHA256(given); sum != t.SHA256 {
			s.reject(v, fmt.Sprintf("targets.sha256: the %d ids of the %d pages that were sent ahead have %s, not %s; "+
				"send the pages first", len(given), t.Pages, sum, t.SHA256))
			return
		}
		h.Pages, h.IDs, h.Targets = int(t.Pages), len(given), t.SHA256
	case len(ids) > 0:
		fresh[TargetsPage](s, TargetsKey(s.name, 1)).DesktopIDs = ids
		h.Pages, h.IDs, h.Targets = 1, len(ids), TargetsSHA256(ids)
	}
	spec.Targets.DesktopIDs = nil
	h.Spec, s.head = spec, h
	live, ok := record[Live](s, LiveKey)
	index, also := record[Index](s, IndexKey)
	if !ok || !also {
		return
	}
	if !slices.Contains(live.Names, s.name) {
		live.Names = append(live.Names, s.name)
	}
	index.add(s.name, live.Names)
	if spec.Image.FromDesktop != "" {
		s.beginReading(stepCapture)
	} else {
		s.beginReading(stepFleet)
	}
}

// TargetsSHA256 is the digest of a list of ids: of all ids in order, each followed by a newline.
func TargetsSHA256(ids []string) string {
	sum := sha256.New()
	for _, id := range ids {
		sum.Write([]byte(id + "\n"))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// over reports whether nothing follows any more: the claims are void.
func (h *Head) over() bool { return Over(h.Phase) || h.PlanOnly && h.Phase == Planned }

// leave takes the rollout from those that live.
func (s *step) leave() {
	live, ok := record[Live](s, LiveKey)
	if ok {
		live.Names = slices.DeleteFunc(slices.Clone(live.Names), func(n string) bool { return n == s.name })
	}
}

// join puts the rollout among those that live.
func (s *step) join() {
	live, ok := record[Live](s, LiveKey)
	if ok && !slices.Contains(live.Names, s.name) {
		live.Names = append(live.Names, s.name)
	}
}

// carryOut carries out a verb of a rollout that exists. It returns why it cannot; "" if it could.
func (s *step) carryOut(v Verb) string {
	h := s.head
	note := func(r *events.Rollout) { r.Reason, r.By = v.Data.Reason, v.Data.By }
	switch v.Type {
	case events.TypeRolloutApprove:
		return s.approve(v)
	case events.TypeRolloutPause:
		switch w := h.Queued; {
		case w != nil: // without this it would begin in spite of the pause
			if h.unanswered(*w) != nil {
				s.reject(*w, "the rollout was paused before the "+verbOf(*w)+" began; send it after the pause")
			}
			stood, reason := h.Previous, h.PreviousReason
			h.Queued, h.Previous, h.PreviousReason = nil, "", ""
			if Over(stood) {
				h.Phase, h.Before, h.Reason = stood, "", reason
				return h.cannot("paused")
			}
		case !h.moving():
			return h.cannot("paused")
		default:
			h.Before = h.Phase
		}
		h.Phase, h.Reason, h.By = Paused, v.Data.Reason, v.Data.By
		s.report(events.TypeRolloutPaused, &v, note)
	case events.TypeRolloutResume:
		return s.resume(v)
	case events.TypeRolloutPromote:
		wave := h.current()
		if !h.moving() || wave < 0 || h.Waves[wave].Ended.IsZero() {
			return "promote ends the soak of a wave, and no wave soaks: " + h.where()
		}
		h.Waves[wave].Promoted = true
		s.report(events.TypeRolloutChanged, &v, func(r *events.Rollout) {
			r.Reason, r.By, r.Wave = "the soak was ended", v.Data.By, h.wave(wave)
		})
	case events.TypeRolloutExclude:
		return s.exclude(v)
	case events.TypeRolloutSet:
		return s.offer(v, s.raises(v))
	case events.TypeRolloutRetry, events.TypeRolloutRollback:
		return s.offer(v, true)
	case events.TypeRolloutAbort:
		if h.over() || h.Phase == Aborting {
			return h.cannot("aborted")
		}
		if w := h.Queued; w != nil && h.unanswered(*w) != nil {
			s.reject(*w, "the rollout was aborted before the "+verbOf(*w)+" began")
		}
		if h.Offer != nil {
			s.dropOffer("ended with the rollout")
		}
		if h.Phase == Planning { // its sender waits for the plan
			s.reject(*h.starter(), strings.TrimSuffix("the rollout was aborted before its plan was made: "+v.Data.Reason, ": "))
		}
		h.Phase, h.Reason, h.By, h.Reading, h.Queued = Aborting, v.Data.Reason, v.Data.By, nil, nil
		h.Previous, h.PreviousReason = "", ""
		s.report(events.TypeRolloutChanged, &v, func(r *events.Rollout) {
			r.Reason, r.By = strings.TrimSuffix("aborting: "+v.Data.Reason, ": "), v.Data.By
		})
	}
	return ""
}

// unanswered is the verb, or nil if an event has answered it: the plan that a person has approved.
func (h *Head) unanswered(v Verb) *Verb {
	if slices.ContainsFunc(h.Log, func(e Entry) bool { return e.answers(v) }) {
		return nil
	}
	return &v
}

func (h *Head) cannot(what string) string {
	return fmt.Sprintf("a rollout that is %s cannot be %s", h.where(), what)
}

func (h *Head) where() string { return strings.ReplaceAll(h.Phase, "_", " ") }

func (s *step) approve(v Verb) string {
	const readBefore = "recompose rollout approve without a digest shows it and asks"
	h := s.head
	switch {
	case h.Offer != nil && v.Data.PlanSHA256 == h.Offer.Digest:
		offered := h.Offer.Verb
		if s.expireOffer(); h.Offer == nil { // nothing wakes a rollout that is over when its offer expires
			return "the time for an approval has passed: send the " + verbOf(offered) + " once more"
		}
		if why := s.check(offered); why != "" {
			s.dropOffer("can no longer be done: " + why)
			return "what was offered can no longer be done: " + why
		}
		h.Offer = nil
		h.Digest = v.Data.PlanSHA256
		s.report(events.TypeRolloutApproved, &v, func(r *events.Rollout) { r.By = v.Data.By })
		return s.apply(offered)
	case h.Phase != Planned && h.Offer != nil:
		return fmt.Sprintf("plan_sha256: the %s that waits has %s, not %s; %s", verbOf(h.Offer.Verb), h.Offer.Digest,
			v.Data.PlanSHA256, readBefore)
	case h.Phase != Planned || h.PlanOnly || !h.Spec.Approval.Required:
		return "nothing waits for approval: the rollout is " + h.where()
	case v.Data.PlanSHA256 != h.Digest:
		return fmt.Sprintf("plan_sha256: the plan in force is %s, not %s; %s", h.Digest, v.Data.PlanSHA256, readBefore)
	case !s.Now.Before(h.PlannedAt.Add(time.Duration(h.Spec.Approval.Within))):
		return "the time for an approval has passed; start the rollout under another name"
	}
	s.report(events.TypeRolloutApproved, &v, func(r *events.Rollout) { r.By = v.Data.By })
	h.By = v.Data.By
	s.run()
	return ""
}

func (s *step) resume(v Verb) string {
	h := s.head
	failed := h.Counts().failed()
	switch {
	case h.Phase != Paused && h.Phase != Halted:
		return h.cannot("resumed")
	case h.Queued != nil: // after a halt, or of a rollout that was over, it would go on before the operation
		return "the " + verbOf(*h.Queued) + " begins when every batch has ended, and the rollout goes on with it; pause or " +
			"abort takes it back"
	case h.Phase == Halted && v.Data.AcceptFailed == nil:
		return fmt.Sprintf("accept_failed: must be given after a halt: the number of failed desktops that you accept, now %d",
			failed)
	case h.Phase == Halted && int(*v.Data.AcceptFailed) != failed:
		return fmt.Sprintf("accept_failed: must be the present number of failed desktops, %d; got %d", failed,
			*v.Data.AcceptFailed)
	case h.Phase == Halted:
		s.accept(true)
		if wave := h.current(); wave >= 0 && h.Why == "no_evidence" {
			h.Waves[wave].Promoted = true
		}
	}
	h.Phase, h.Before, h.Why, h.Reason, h.By = cmp.Or(h.Before, Running), "", "", "", v.Data.By
	s.report(events.TypeRolloutResumed, &v, func(r *events.Rollout) { r.Reason, r.By = v.Data.Reason, v.Data.By })
	return ""
}

// accept makes the thresholds count failures from now on. A retry accepts none: of those that were accepted before, it
// leaves those that have not become pending.
func (s *step) accept(all bool) {
	before := s.head.Accepted
	s.head.Accepted = map[int]int{}
	for wave := range s.head.Waves {
		n := s.head.ofWave(wave).failed()
		if !all {
			n = min(n, before[wave])
		}
		if n > 0 {
			s.head.Accepted[wave] = n
		}
	}
}
