package rollout

import (
	"slices"
	"time"

	"recompose/events"
)

// Status is how a rollout stands at a time.
type Status struct {
	Name        string                  `json:"name"`
	Phase       string                  `json:"phase"`
	Revision    int                     `json:"revision"`
	Plan        int                     `json:"plan"`
	PlanOnly    bool                    `json:"plan_only,omitempty"`
	Digest      string                  `json:"plan_sha256,omitempty"`
	Chain       string                  `json:"chain"`
	Started     time.Time               `json:"started"` // when its start was sent
	Image       TargetImage             `json:"image"`
	Settings    Settings                `json:"settings"`                // in force
	Given       *Settings               `json:"spec_settings,omitempty"` // those of the spec, if they differ
	Counts      Counts                  `json:"counts"`
	Waves       []WaveStatus            `json:"waves"`
	Batches     int                     `json:"batches"`
	Open        int                     `json:"open_batches"`
	PerHour     float64                 `json:"desktops_per_hour,omitempty"`
	End         time.Time               `json:"estimated_end,omitzero"`
	Reason      string                  `json:"reason,omitempty"`
	Why         string                  `json:"why,omitempty"`
	By          string                  `json:"by,omitempty"`
	Waiting     *Waiting                `json:"waiting,omitempty"`
	Held        []string                `json:"held,omitempty"` // why what it waits for does not come; set by those who show it
	Offer       *OfferStatus            `json:"offer,omitempty"`
	Stalled     time.Duration           `json:"-"` // how long its next step is overdue
	Forecast    *events.RolloutForecast `json:"forecast,omitempty"`
	Failures    []events.RolloutDesktop `json:"failures"`
	Next        []NextCommand           `json:"next"`
	NeedsPerson bool                    `json:"waits_for_a_person"`
}

// WaveStatus is how a wave stands.
type WaveStatus struct {
	Number  int       `json:"number"` // from 1
	Kind    string    `json:"kind"`
	Size    int       `json:"size"`
	State   string    `json:"state"` // waits, runs, soaks, done; after an end also not begun, ended
	Until   time.Time `json:"until,omitzero"`
	Counts  Counts    `json:"counts"`
	ImageID string    `json:"image_id,omitempty"` // of a rollback
}

// States of a wave.
const (
	WaveWaits = "waits"
	WaveRuns  = "runs"
	WaveSoaks = "soaks"
	WaveDone  = "done"

	// After the end of the rollout.
	WaveNotBegun = "not begun"
	WaveEnded    = "ended"
)

// OfferStatus is a verb that waits for approval.
type OfferStatus struct {
	Verb   string    `json:"verb"`
	Digest string    `json:"plan_sha256"`
	By     string    `json:"by,omitempty"`
	Until  time.Time `json:"until"`
}

// lateTick is how late a step may be until the rollout counts as stalled: the workers look for lost ones once a minute.
const lateTick = 3 * time.Minute

// Status returns how the rollout stands now.
func (v *View) Status(now time.Time) Status {
	h := v.Head
	s := Status{
		Name: h.Name, Phase: h.Phase, Revision: h.Revision, Plan: h.Plan, PlanOnly: h.PlanOnly, Digest: h.Digest,
		Chain: h.Start.Correlation, Started: h.Start.Time, Image: h.Image, Counts: h.Counts(), Batches: h.Batches,
		Open: len(h.Open), Reason: h.Reason, Why: h.Why, By: h.By, Waiting: h.Waiting, Forecast: h.Forecast,
		Waves: []WaveStatus{}, Failures: v.failures(), NeedsPerson: h.NeedsPerson(),
	}
	if s.Settings = h.Spec.settings(); h.Given != nil && len(s.Settings.differences(*h.Given)) > 0 {
		s.Given = h.Given
	}
	for n := range h.Waves {
		s.Waves = append(s.Waves, h.waveStatus(n))
	}
	if h.Offer != nil {
		s.Offer = &OfferStatus{
			Verb: verbOf(h.Offer.Verb), Digest: h.Offer.Digest, By: h.Offer.Verb.Data.By,
			Until: h.Offer.At.Add(time.Duration(h.Spec.Approval.Within)),
		}
	}
	if h.Tick != nil && now.Sub(h.Tick.At) > lateTick {
		s.Stalled = now.Sub(h.Tick.At)
	}
	if h.moving() {
		s.PerHour = v.perHour()
	}
	if h.moving() && !s.NeedsPerson {
		s.End = v.end(s, now)
	}
	s.Next = h.next()
	return s
}

// Over reports whether nothing follows any more.
func (s Status) Over() bool { return Over(s.Phase) || s.PlanOnly && s.Phase == Planned }

// NeedsPerson reports whether the rollout waits for a person: it must be approved, or is paused, or no batch fits into its
// window. A halt is not among this, unless what a person has sent after it waits for approval.
func (h *Head) NeedsPerson() bool {
	if h.Offer != nil && !h.moving() {
		return true
	}
	switch h.Phase {
	case Running, RollingBack:
		return h.Waiting != nil && h.Waiting.Person
	case Planned:
		return !h.PlanOnly
	case Paused:
		return h.Queued == nil
	}
	return false
}

func (h *Head) waveStatus(n int) WaveStatus {
	w := h.Waves[n]
	s := WaveStatus{Number: n + 1, Kind: w.Kind, Size: w.To - w.From, State: WaveWaits, Counts: h.ofWave(n)}
	s.ImageID = w.Image
	s.Size -= s.Counts[moved]
	delete(s.Counts, moved)
	never := w.Started.IsZero() && w.Next == w.From
	switch {
	case Over(h.Phase) && never:
		s.State = WaveNotBegun
	case !w.Judged.IsZero():
		s.State = WaveDone
	case Over(h.Phase):
		s.State = WaveEnded
	case !w.Ended.IsZero():
		s.State, s.Until = WaveSoaks, w.Ended.Add(time.Duration(h.Spec.Strategy.Soak))
	case !w.Started.IsZero():
		s.State = WaveRuns
	}
	return s
}

// failures are the desktops that failed, were refused after the plan, or whose outcome is not known, in the order of their
// batches.
func (v *View) failures() []events.RolloutDesktop {
	failures := []events.RolloutDesktop{}
	for _, b := range v.Batches {
		if b == nil {
			continue
		}
		for _, r := range b.Rows {
			if slices.Contains([]string{Failed, Missing, Unverified, Unknown, Refused}, r.State) {
				failures = append(failures, r.desktop())
			}
		}
	}
	return failures
}

// ratePeriod is the time before the last desktop that was done, of which the rate is taken.
const ratePeriod = 30 * time.Minute

// perHour is how many desktops an hour were done lately; 0 if it is not known.
func (v *View) perHour() float64 {
	var done []time.Time
	for _, b := range v.Batches {
		if b == nil || b.State != Ended {
			continue
		}
		for _, r := range b.Rows {
			if r.State == Done || r.State == BackDone {
				done = append(done, r.At)
			}
		}
	}
	if len(done) == 0 {
		return 0
	}
	last := slices.MaxFunc(done, time.Time.Compare)
	first, n := last, 0
	for _, t := range done {
		if !t.Before(last.Add(-ratePeriod)) {
			n++
			if t.Before(first) {
				first = t
			}
		}
	}
	// The desktops of a batch are done together, so the time that the first batch took belongs to the period.
	period := last.Sub(first)
	if len(v.Took) > 0 {
		period += time.Duration(v.Took[0]) * time.Second
	}
	if period < time.Second {
		return 0
	}
	return float64(n) / period.Hours()
}

// end is when the rollout will have ended at its present rate, windows and soaks included; zero if it is not known.
func (v *View) end(s Status, now time.Time) time.Time {
	left := s.Counts[Pending] + s.Counts[Deferred] + s.Counts[Sent]
	if s.PerHour == 0 {
		if v.Forecast != nil && v.Forecast.End.After(now) {
			return v.Forecast.End
		}
		return time.Time{}
	}
	need := time.Duration(float64(left) / s.PerHour * float64(time.Hour))
	waits := 0
	for _, w := range s.Waves {
		if w.State == WaveWaits && v.soaks(w.Number-1) {
			waits++
		}
	}
	need += time.Duration(waits) * time.Duration(v.Spec.Strategy.Soak)
	t := now
	const most = 1000 // openings of the window
	for range most {
		open, until := v.Spec.Window.Open(t)
		switch {
		case !open:
			if t = v.Spec.Window.Next(t); t.IsZero() {
				return t
			}
		case until.IsZero() || !t.Add(need).After(until):
			return t.Add(need)
		default:
			need -= until.Sub(t)
			t = until
		}
	}
	return time.Time{}
}
