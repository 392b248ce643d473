package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/chain"
)

// ReasonCount is how many desktops a plan leaves out for one reason.
type ReasonCount struct {
	State   string   `json:"state"`
	Reason  string   `json:"reason"` // the fixed word at the beginning of the reasons
	Count   int      `json:"count"`
	Example string   `json:"example"`     // one of the reasons as a whole
	IDs     []string `json:"desktop_ids"` // the first of them
}

// maxNamed is how many desktops of one reason are named.
const maxNamed = 3

// line names the first desktops that are left out for the reason.
func (r ReasonCount) line() Line {
	ids := strings.Join(r.IDs, ", ")
	if more := r.Count - len(r.IDs); more > 0 {
		ids += fmt.Sprintf(" and %d more", more)
	}
	return line(r.State, "%d: %s: %s", r.Count, r.Example, ids)
}

// LeftOutLines are the desktops that the plan leaves out, by reason.
func (s PlanSummary) LeftOutLines() []Line {
	lines := make([]Line, len(s.LeftOut))
	for i, r := range s.LeftOut {
		lines[i] = r.line()
	}
	return lines
}

// ImageCount is how many desktops of a plan ran one image before.
type ImageCount struct {
	ImageID   string `json:"image_id"` // "": not known
	ImageType string `json:"image_type,omitempty"`
	Gone      bool   `json:"gone,omitempty"` // no longer exists: no way back
	Count     int    `json:"count"`
}

// PlanSummary is a plan in numbers.
type PlanSummary struct {
	Name      string                  `json:"name"`
	Digest    string                  `json:"plan_sha256"`
	PlanOnly  bool                    `json:"plan_only,omitempty"`
	Image     TargetImage             `json:"image"`
	Planned   int                     `json:"planned"`
	LeftOut   []ReasonCount           `json:"left_out"`
	Waves     []WaveStatus            `json:"waves"`
	Canary    []Pick                  `json:"canary"`
	Baselines []ImageCount            `json:"baselines"`
	NoWayBack int                     `json:"no_way_back,omitempty"`
	NotKnown  int                     `json:"way_back_not_known,omitempty"`
	Forecast  *events.RolloutForecast `json:"forecast,omitempty"`
	Until     time.Time               `json:"approve_until,omitzero"`
	At        time.Time               `json:"at"`

	spec Spec
}

// Summary returns the first plan of a rollout in numbers.
func (p PlanRecords) Summary(h *Head) PlanSummary {
	s := PlanSummary{
		Name: h.Name, Digest: h.Digest, PlanOnly: h.PlanOnly, Image: h.Image, Planned: len(p.Slots), LeftOut: []ReasonCount{},
		Waves: []WaveStatus{}, Canary: h.Canary, Baselines: []ImageCount{}, NoWayBack: h.NoWayBack, NotKnown: h.NotKnown,
		Forecast: h.Forecast, At: h.PlannedAt, spec: h.Spec,
	}
	if h.Phase == Planned && h.Spec.Approval.Required && !h.PlanOnly {
		s.Until = h.PlannedAt.Add(time.Duration(h.Spec.Approval.Within))
	}
	for n := range h.Waves {
		s.Waves = append(s.Waves, h.waveStatus(n))
	}
	for _, out := range p.LeftOut {
		reason, _, _ := strings.Cut(out.Reason, ":")
		i := slices.IndexFunc(s.LeftOut, func(c ReasonCount) bool { return c.State == out.State && c.Reason == reason })
		if i < 0 {
			i = len(s.LeftOut)
			s.LeftOut = append(s.LeftOut, ReasonCount{State: out.State, Reason: reason, Example: out.Reason})
		}
		if s.LeftOut[i].Count++; s.LeftOut[i].Count <= maxNamed {
			s.LeftOut[i].IDs = append(s.LeftOut[i].IDs, out.ID)
		}
	}
	slices.SortStableFunc(s.LeftOut, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(a.State, b.State), b.Count-a.Count, cmp.Compare(a.Reason, b.Reason))
	})
	images := map[ImageCount]int{}
	for _, slot := range p.Slots {
		images[ImageCount{ImageID: slot.Image, ImageType: slot.ImageType, Gone: slot.ImageGone}]++
	}
	s.Baselines = imageCounts(images)
	return s
}

func imageCounts(images map[ImageCount]int) []ImageCount {
	counts := make([]ImageCount, 0, len(images))
	for image, n := range images {
		image.Count = n
		counts = append(counts, image)
	}
	slices.SortFunc(counts, func(a, b ImageCount) int {
		return cmp.Or(b.Count-a.Count, cmp.Compare(a.ImageID, b.ImageID), cmp.Compare(a.ImageType, b.ImageType))
	})
	return counts
}

// Barred reports whether the plan can rebuild no desktop although some should be: none is planned, none runs the image
// already, and some are refused.
func (s PlanSummary) Barred() bool {
	refused := slices.ContainsFunc(s.LeftOut, func(r ReasonCount) bool { return r.State == Refused })
	return s.Planned == 0 && refused && !slices.ContainsFunc(s.LeftOut, func(r ReasonCount) bool { return r.Reason == "current" })
}

// Lines describe the plan for the person who decides on it.
func (s PlanSummary) Lines(now time.Time) []Line {
	image := s.Image.ID
	if s.Image.Type != "" {
		image += " (" + s.Image.Type + ")"
	}
	lines := []Line{
		line("plan", "of rollout %s, made %s", s.Name, chain.Clock(s.At, now)),
		line("image", "%s", image),
		line("desktops", "%d are rebuilt: the data on their system disks is lost", s.Planned),
	}
	if s.Barred() {
		lines[2] = line("desktops", "none can be rebuilt")
	} else if s.Planned == 0 {
		lines[2] = line("desktops", "none is rebuilt: there is nothing to do")
	}
	lines = append(lines, s.LeftOutLines()...)
	for i, b := range s.Baselines {
		text := "an image that is not known"
		if b.ImageID != "" {
			text = "image " + b.ImageID
			if b.ImageType != "" {
				text += " (" + b.ImageType + ")"
			}
		}
		if b.Gone {
			text += ", which no longer exists: there is no way back"
		}
		lines = append(lines, line(map[bool]string{true: "run now"}[i == 0], "%d: %s", b.Count, text))
	}
	if s.NotKnown > 0 {
		lines = append(lines, line("way back", "not certain for %d: the service does not list their images", s.NotKnown))
	}
	for _, w := range s.Waves {
		lines = append(lines, line(fmt.Sprintf("wave %d", w.Number), "%s of %s", w.Kind, chain.Count(w.Size, "desktop")))
		if w.Kind != CanaryWave {
			continue
		}
		for _, p := range s.Canary {
			lines = append(lines, line("", "  %s: %s", p.ID, p.Reason))
		}
		if more := w.Size - len(s.Canary); more > 0 && len(s.Canary) == maxPicks {
			lines = append(lines, line("", "  and %d more", more))
		}
	}
	lines = append(lines, s.spec.lines()...)
	if f := s.Forecast; f != nil && s.Planned > 0 {
		text := fmt.Sprintf("at most %s unavailable at once, about %s",
			chain.Count(f.MaxUnavailable, "desktop"), chain.Count(f.Calls, "API call"))
		if !f.End.IsZero() {
			text = "ends " + chain.Clock(f.End, now) + " if nothing fails, " + text
		}
		if f.Windows > 0 {
			text += ", in " + chain.Count(f.Windows, "window")
		}
		lines = append(lines, line("forecast", "%s; it halts at %s", text, chain.Count(f.HaltsAt, "failure")))
	}
	lines = append(lines, line("digest", "%s", s.Digest))
	if !s.Until.IsZero() {
		lines = append(lines, line("approval", "is required until %s", chain.Clock(s.Until, now)))
	}
	return lines
}

// lines describe the rules of a spec.
func (s Spec) lines() []Line {
	users := map[string]string{
		Skip: "skipped", Force: "rebuilt in spite of them",
		Defer: fmt.Sprintf("deferred up to %s, then %s", chain.Count(s.Users.MaxDeferrals, "time"),
			map[string]string{Skip: "skipped", Force: "rebuilt in spite of them"}[s.Users.Then]),
	}[s.Users.Connected]
	lines := []Line{line("in use", "desktops that people use are %s", users)}
	if w := s.Window; w != nil {
		lines = append(lines, line("window", "%s", w))
	}
	return append(lines, line("limits", "max_unavailable %d, max_failed %s, soak %s", s.Strategy.MaxUnavailable,
		s.Strategy.MaxFailed, s.Strategy.Soak))
}

// Fate is what becomes of a desktop by a plan.
type Fate struct {
	DesktopID string
	State     string // planned, skipped, refused
	Wave      int    // from 1; 0: none
	Reason    string
	ImageID   string // that it runs now
}

// Fates are the desktops of a plan: those that it rebuilds in order, then those that it leaves out.
func (p PlanRecords) Fates(h *Head) []Fate {
	fates := make([]Fate, 0, len(p.Slots)+len(p.LeftOut))
	for i, slot := range p.Slots {
		wave := slices.IndexFunc(h.Waves, func(w Wave) bool { return i >= w.From && i < w.To })
		fates = append(fates, Fate{DesktopID: slot.ID, State: "planned", Wave: wave + 1, ImageID: slot.Image})
	}
	for _, out := range p.LeftOut {
		fates = append(fates, Fate{DesktopID: out.ID, State: out.State, Reason: out.Reason})
	}
	return fates
}
