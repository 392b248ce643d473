package rollout

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"recompose/events"
)

// A forecast is the rollout itself, with a model in the place of the service: the same steps, on records in memory and
// with a clock of its own.

// simulation drives the steps of one rollout.
type simulation struct {
	name    string
	records map[string][]byte
	facts   Facts
	due     timeline
	seq     int
	// answer is the service: the events that follow from a command, and when.
	answer func(m Message, now time.Time) []timed
	// job is what the ledger shows of a command.
	job  func(identity string) Job
	head *Head // after the last step
}

// timed is an event that comes at a time.
type timed struct {
	at    time.Time
	seq   int // of those at the same time
	event Event
}

type timeline []timed

func (t timeline) Len() int { return len(t) }
func (t timeline) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}
func (t timeline) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *timeline) Push(x any)   { *t = append(*t, x.(timed)) }
func (t *timeline) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

func (s *simulation) add(at time.Time, e Event) {
	s.seq++
	heap.Push(&s.due, timed{at, s.seq, e})
}

// next carries out the next step; false if nothing is due any more.
func (s *simulation) next() (bool, error) {
	if len(s.due) == 0 {
		return false, nil
	}
	t := heap.Pop(&s.due).(timed)
	if t.at.After(s.facts.Now) {
		s.facts.Now = t.at
	}
	_, err := s.step(t.event)
	return true, err
}

// step carries out one step, stores its records and passes its messages on.
func (s *simulation) step(e Event) (Result, error) {
	in := map[string][]byte{HeadKey(s.name): s.records[HeadKey(s.name)]}
	s.facts.Jobs = map[string]Job{}
	for range 100 {
		r, err := Step(s.name, in, e, s.facts)
		if err != nil || r.Stale {
			return r, err
		}
		for _, identity := range r.Jobs {
			s.facts.Jobs[identity] = s.job(identity)
		}
		if len(r.Missing)+len(r.Jobs) > 0 {
			for _, key := range r.Missing {
				in[key] = s.records[key]
			}
			continue
		}
		for _, p := range r.Puts {
			s.records[p.Key] = p.Value
		}
		s.head = r.Head
		for _, m := range r.Messages {
			s.pass(m)
		}
		return r, nil
	}
	return Result{}, fmt.Errorf("a step of rollout %s always wants more records", s.name)
}

func (s *simulation) pass(m Message) {
	if m.Type == TypeTick {
		var t TickData
		_ = json.Unmarshal(m.Data, &t) // our own
		s.add(s.facts.Now.Add(m.After), Event{Tick: t.Seq})
		return
	}
	if m.To == "" {
		return
	}
	for _, t := range s.answer(m, s.facts.Now) {
		s.add(t.at, t.event)
	}
}

// event makes an event about a command, with its attribute.
func (m Message) event(typ string, data any) Event {
	ref, _ := events.ParseRolloutRef(m.Rollout) // our own
	raw, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("rollout: write %s: %v", typ, err)) // our own types
	}
	return Event{Type: typ, ID: m.ID + typ, Causation: m.ID, Plan: ref.Plan, Batch: ref.Batch, Attempt: ref.Attempt,
		Data: raw}
}

// Times of the model.
const (
	modelRead   = 2 * time.Second // these are divided by the pace, as the waits are
	modelAccept = 5 * time.Second
	modelCheck  = 20 * time.Second
)

// Forecast is what a plan takes if every desktop can be rebuilt and none fails, begun at now. Jobs take took; zero is
// the documented default. It is pure, and takes less than a second for 10,000 desktops.
func Forecast(h Head, slots []Slot, now time.Time, pace float64, took time.Duration) (*events.RolloutForecast, error) {
	if took <= 0 {
		took = defaultP50
	}
	forecast := &events.RolloutForecast{HaltsAt: h.Spec.Strategy.MaxFailed.Of(h.planned()) + 1}
	s := &simulation{
		name: h.Name, records: map[string][]byte{}, facts: Facts{Now: now.UTC(), Pace: pace},
		job: func(string) Job { return Job{State: JobUnderWay} },
	}
	st := &step{Facts: s.facts, name: h.Name, in: map[string][]byte{}, records: map[string]any{}, head: &h}
	h.Ranges, h.Slots, h.Waves = nil, 0, slices.Clone(h.Waves)
	slots = slices.Clone(slots)
	for i := range slots {
		slots[i].Data = "" // the model has no volumes
	}
	st.append("forecast", slots)
	for _, key := range st.keys {
		value, err := json.Marshal(st.records[key])
		if err != nil {
			return nil, fmt.Errorf("forecast: %w", err)
		}
		s.records[key] = value
	}
	h.Phase, h.Reading, h.Claimed, h.Log, h.PlanOnly, h.Tick = Running, nil, now.UTC(), nil, false, nil
	h.Spec.Approval = Approval{}
	value, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("forecast: %w", err)
	}
	s.records[HeadKey(h.Name)], s.head = value, &h
	model := newModel(slots, took, pace, time.Duration(h.Spec.Users.DelayTime)*time.Minute)
	s.answer = model.answer
	s.add(now, Event{})
	windows := map[time.Time]bool{}
	const most = 40_000       // steps: several times those of 100,000 desktops
	var watched time.Duration // while batches run, their jobs are read about once a minute
	for range most {
		before, runs := s.facts.Now, len(s.head.Open) > 0
		more, err := s.next()
		if runs {
			watched += s.facts.Now.Sub(before)
		}
		switch {
		case err != nil:
			return nil, fmt.Errorf("forecast: %w", err)
		case !more, s.head.over(), s.head.Phase == Halted:
			forecast.End, forecast.Calls = s.facts.Now, model.calls+int(watched/time.Minute)
			forecast.Windows = len(windows)
			return forecast, nil
		}
		forecast.MaxUnavailable = max(forecast.MaxUnavailable, s.head.Counts().unavailable())
		if w := s.head.Spec.Window; w != nil && len(s.head.Open) > 0 {
			if open, until := w.Open(s.facts.Now); open {
				windows[until.UTC()] = true // as a key, a time is also its zone
			}
		}
	}
	return nil, fmt.Errorf("forecast: the rollout does not end")
}

// model is a service on which everything succeeds.
type model struct {
	desktops map[string]Slot
	runs     map[string]string
	took     time.Duration
	pace     float64
	calls    int
}

func newModel(slots []Slot, took time.Duration, pace float64, delay time.Duration) *model {
	m := &model{desktops: map[string]Slot{}, runs: map[string]string{}, took: time.Duration(float64(took)/pace) + delay,
		pace: pace}
	for _, slot := range slots {
		m.desktops[slot.ID] = slot
	}
	return m
}

func (m *model) paced(d time.Duration) time.Duration { return time.Duration(float64(d) / m.pace) }

func (m *model) answer(c Message, now time.Time) []timed {
	ref := events.CommandRef{ID: c.ID, Type: c.Type}
	switch c.Type {
	case events.TypeListDesktops:
		m.calls++
		var list events.ListDesktops
		_ = json.Unmarshal(c.Data, &list) // our own
		d := events.DesktopsListed{Command: ref, Page: 1, Last: true}
		for _, id := range list.DesktopIDs {
			slot := m.desktops[id]
			image := slot.Image
			if runs := m.runs[id]; runs != "" {
				image = runs
			}
			d.Desktops = append(d.Desktops, events.DesktopRow{DesktopID: id, Status: "ACTIVE", LoginStatus: "REGISTERED",
				ImageID: image})
		}
		return []timed{{at: now.Add(m.paced(modelRead)), event: c.event(events.TypeDesktopsListed, d)}}
	case events.TypeRebuild:
		m.calls += 3 // the jobs before it, check-images, the rebuild
		var r events.Rebuild
		_ = json.Unmarshal(c.Data, &r) // our own
		done := events.JobCompleted{Function: events.FnRebuild, Command: ref, Outcome: events.Succeeded}
		for _, id := range r.DesktopIDs {
			m.runs[id] = r.ImageID
			done.Desktops = append(done.Desktops, events.DesktopResult{DesktopID: id, Outcome: events.Succeeded})
		}
		accepted := now.Add(m.paced(modelAccept))
		end := accepted.Add(m.took)
		return []timed{
			{at: accepted, event: c.event(events.TypeJobAccepted, events.JobAccepted{Function: events.FnRebuild, Command: ref,
				JobID: c.ID, Deadline: end.Add(time.Hour)})},
			{at: end, event: c.event(events.TypeJobCompleted, done)},
			{at: end.Add(m.paced(modelCheck)), event: c.event(events.TypeImagesChecked,
				events.ImagesChecked{Matched: r.DesktopIDs})},
		}
	case events.TypeCheckImages:
		m.calls++
	}
	return nil
}
