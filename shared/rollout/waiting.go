package rollout

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"

	"recompose/events"
)

// explain writes down why nothing happens at the moment.
func (s *step) explain() {
	h := s.head
	var w *Waiting
	switch wave := h.current(); {
	case h.over():
	case h.Phase == Planning && h.Reading != nil:
		w = &Waiting{Reason: "plan", Text: "the plan is made: " + cmp.Or(h.Reading.Why, h.Reading.Step)}
	case h.Phase == Planned:
		w = &Waiting{Reason: "approval", Text: "a person must approve the plan",
			Until: h.PlannedAt.Add(time.Duration(h.Spec.Approval.Within))}
	case h.Phase == Paused, h.Phase == Halted:
		w = &Waiting{Reason: h.Phase, Text: h.Reason}
	case wave >= 0 && (h.Waves[wave].Next < h.Waves[wave].To || len(h.Open) > 0 && !h.sent()) && s.blocked(wave) != nil:
		w = s.blocked(wave)
		if w.Reason == "window" && s.neverFits() != "" && !h.sent() { // a batch that runs may change how long they take
			w.Person, w.Until = true, time.Time{}
		}
		if o := h.Open[h.mostVain()]; w.Reason == "window" && o.Vain >= vainLooks {
			w.Text += "; " + vainText(o.Vain) + "; recompose rollout set makes the window longer"
		}
	case len(h.Open) > 0:
		n := h.mostVain()
		o := h.Open[n]
		w = &Waiting{Reason: "batch", Text: fmt.Sprintf("batch %d is %s", n+1, o.State)}
		if o.Attempt > 1 {
			w.Text += fmt.Sprintf(", attempt %d", o.Attempt)
		}
		if o.Vain >= vainLooks {
			w.Text += "; " + vainText(o.Vain)
		}
		if more := len(h.Open) - 1; more > 0 {
			w.Text += fmt.Sprintf(", and %d more run", more)
		}
	case wave >= 0 && !h.Waves[wave].Ended.IsZero():
		w = &Waiting{Reason: "soak", Text: "the wave has ended and is watched",
			Until: h.Waves[wave].Ended.Add(time.Duration(h.Spec.Strategy.Soak))}
	}
	if w != nil {
		w.Since, w.Until = s.Now.UTC(), w.Until.UTC()
		if w.Until.Before(time.Unix(1, 0)) {
			w.Until = time.Time{}
		}
		if was := h.Waiting; was != nil && was.Reason == w.Reason {
			w.Since = was.Since
			if was.Text == w.Text && w.Reason == "stopped" {
				w.Until = was.Until
			}
		}
	}
	if w != nil && w.Person && (h.Waiting == nil || !h.Waiting.Person) {
		s.report(events.TypeRolloutChanged, nil, func(r *events.Rollout) { r.Reason = w.Text }, "window",
			fmt.Sprint(h.Batches))
	}
	h.Waiting = w
}

// mostVain is the open batch with the most looks in vain, the first one of several; 0 if none is open.
func (h *Head) mostVain() (n int) {
	for i, other := range h.openNumbers() {
		if i == 0 || h.Open[other].Vain > h.Open[n].Vain {
			n = other
		}
	}
	return n
}

// tick makes sure that a message comes when something is due.
func (s *step) tick() {
	h := s.head
	if h.over() {
		h.Tick = nil
		return
	}
	at := s.Now.Add(s.wait(heartbeat))
	earlier := func(t time.Time) {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	for _, o := range h.Open {
		earlier(o.Due)
	}
	if h.Moving != "" || h.ending() && !s.ending || h.Reading.ripe() || s.more {
		earlier(s.Now)
	}
	if r := h.Reading; r != nil && !r.Request.Taken {
		earlier(r.Request.RepublishAt)
	} else if r != nil {
		earlier(r.Probe)
	}
	if h.Offer != nil {
		earlier(h.Offer.At.Add(time.Duration(h.Spec.Approval.Within)))
	}
	if s.Stopped != "" && h.moving() {
		earlier(s.Now.Add(s.wait(stoppedWait)))
	} else if h.Waiting != nil {
		earlier(h.Waiting.Until)
	}
	if wave := h.current(); wave >= 0 && h.moving() {
		if blocked := s.blocked(wave); blocked != nil {
			earlier(blocked.Until)
		}
	}
	at = at.Truncate(time.Millisecond).Add(time.Millisecond).UTC()
	if now := s.Now.Add(10 * time.Millisecond).UTC(); at.Before(now) {
		at = now
	}
	if h.Tick != nil && !at.Before(h.Tick.At.Add(-time.Millisecond)) && h.Tick.At.After(s.Now.Add(-time.Minute)) {
		return
	}
	h.Ticks++
	h.Tick = &Tick{At: at, Seq: h.Ticks}
	s.out = append(s.out, s.tickMessage(*h.Tick))
}

func (s *step) tickMessage(t Tick) Message {
	data, _ := json.Marshal(TickData{Name: s.name, Seq: t.Seq})
	return Message{
		To: events.FnRollout, Type: TypeTick, ID: events.Derive(s.head.Start.identity(), "rollout", "tick",
			fmt.Sprint(t.Seq)),
		Correlation: s.head.Start.Correlation, Causation: s.head.Start.ID, Time: s.Now.UTC(),
		After: max(t.At.Sub(s.Now), 0), Data: data,
	}
}

// TickData is the data of a tick, and of a wake-up, which has no number.
type TickData struct {
	Name string `json:"name"`
	Seq  int    `json:"seq,omitempty"`
}
