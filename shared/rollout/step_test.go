package rollout

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

var t0 = time.Date(2026, 11, 26, 20, 0, 0, 0, time.UTC)

func spec(name string, more map[string]any) json.RawMessage {
	s := map[string]any{
		"name": name, "image": map[string]any{"image_id": "new", "image_type": "private"},
		"targets":  map[string]any{"where": map[string]any{"status": "ACTIVE"}},
		"strategy": map[string]any{"canary": 1, "waves": []string{"10%", "50%", "100%"}, "max_unavailable": 100, "max_failed": "20%", "soak": "10m"},
	}
	for k, v := range more {
		s[k] = v
	}
	raw, _ := json.Marshal(s)
	return raw
}

func verb(id, typ string, data events.RolloutCommand) Event {
	return Event{Verb: &Verb{CommandRef: events.CommandRef{Type: typ, ID: id, Source: "test", Digest: id}, Correlation: id, Time: t0, Data: data}}
}

// fleet is a service with desktops.
type fleet struct {
	*model
	ids  []string
	data []events.RowVolume
}

func newSim(t *testing.T, n int) (*simulation, *fleet) {
	f := &fleet{}
	var slots []Slot
	for i := range n {
		id := fmt.Sprintf("d-%04d", i)
		f.ids = append(f.ids, id)
		slots = append(slots, Slot{ID: id, Image: "old"})
	}
	f.model = newModel(slots, 10*time.Minute, 1, 0)
	s := &simulation{name: "r", records: map[string][]byte{}, facts: Facts{Now: t0}}
	s.answer, s.job = f.answerAll, func(string) Job { return Job{State: JobUnderWay} }
	return s, f
}

func (f *fleet) answerAll(m Message, now time.Time) []timed {
	at, _ := events.ParseRolloutRef(m.Rollout)
	ref := events.CommandRef{ID: m.ID, Type: m.Type}
	switch {
	case m.Type == events.TypeListDesktops && at.Attempt == 0:
		d := events.DesktopsListed{Command: ref, Page: 1, Last: true}
		for _, id := range f.ids {
			d.Desktops = append(d.Desktops, events.DesktopRow{DesktopID: id, Status: "ACTIVE", LoginStatus: "REGISTERED", ImageID: "old", ImageType: "private", DataVolumes: f.data})
		}
		return []timed{{at: now.Add(time.Second), event: m.event(events.TypeDesktopsListed, d)}}
	case m.Type == events.TypeListImages:
		d := events.ImagesListed{Command: ref, Page: 1, Last: true, Images: []events.ListedImage{{ID: "old"}, {ID: "new"}}}
		return []timed{{at: now.Add(time.Second), event: m.event(events.TypeImagesListed, d)}}
	}
	return f.answer(m, now)
}

func TestAnImageOfAnotherTypeThanTheSpecHasIsRejected(t *testing.T) {
	t.Parallel()
	for listed, want := range map[string]string{
		"gold": `image.image_type: image new is of the type gold; got "private"`, "private": "", "": "", "other": "",
	} {
		s, f := newSim(t, 3)
		s.answer = func(m Message, now time.Time) []timed {
			if m.Type != events.TypeListImages {
				return f.answerAll(m, now)
			}
			d := events.ImagesListed{
				Command: events.CommandRef{ID: m.ID, Type: m.Type}, Page: 1, Last: true,
				Images: []events.ListedImage{{ID: "old"}, {ID: "new", ImageType: listed}},
			}
			return []timed{{at: now.Add(time.Second), event: m.event(events.TypeImagesListed, d)}}
		}
		s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
		for s.head == nil || s.head.Phase == Planning {
			more, err := s.next()
			require.NoError(t, err)
			require.True(t, more)
		}
		require.Equal(t, want, s.head.Reason, "listed as %q", listed)
		require.Equal(t, want != "", s.head.Phase == Aborted, "listed as %q", listed)
	}
}

func TestARolloutOfTenDesktopsCompletes(t *testing.T) {
	t.Parallel()
	s, _ := newSim(t, 10)
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
	for i := 0; ; i++ {
		more, err := s.next()
		require.NoError(t, err)
		if s.head != nil && testing.Verbose() {
			t.Log(s.facts.Now.Format(time.TimeOnly), s.head.Phase, s.head.Counts(), s.head.Open, s.head.Waiting)
		}
		if !more || s.head.over() {
			break
		}
		require.Less(t, i, 1000)
	}
	require.Equal(t, Completed, s.head.Phase, s.head.Reason)
	require.Equal(t, Counts{Done: 10}, s.head.Counts())
}

// run carries out steps until the rollout stands still or is over.
func run(t *testing.T, s *simulation, until func() bool) {
	for i := 0; ; i++ {
		more, err := s.next()
		require.NoError(t, err)
		if s.head != nil && testing.Verbose() {
			t.Log(s.facts.Now.Format(time.TimeOnly), s.head.Phase, s.head.Counts(), s.head.Open, s.head.Waiting)
		}
		if !more || until() {
			return
		}
		require.Less(t, i, 5000)
	}
}

func TestACompletedRolloutIsRolledBackForOneDesktop(t *testing.T) {
	t.Parallel()
	s, f := newSim(t, 10)
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
	run(t, s, func() bool { return s.head.over() })
	require.Equal(t, Completed, s.head.Phase)
	s.add(s.facts.Now, verb("c2", events.TypeRolloutRollback, events.RolloutCommand{Name: "r", DesktopIDs: []string{"d-0003"}}))
	first := true
	run(t, s, func() bool { was := first; first = false; return !was && s.head.over() })
	require.Equal(t, RolledBack, s.head.Phase, s.head.Reason)
	require.Equal(t, Counts{Done: 9, BackDone: 1}, s.head.Counts())
	require.Equal(t, "old", f.runs["d-0003"])
}

// A command that was lost, and that the ledger does not know long after its expirytime, can no longer begin: its desktops
// get another attempt.
func TestALostCommandIsGivenUpAfterItsExpiry(t *testing.T) {
	t.Parallel()
	s, f := newSim(t, 3)
	lost := map[string]bool{}
	s.job = func(string) Job { return Job{State: JobFree} }
	s.answer = func(m Message, now time.Time) []timed {
		ref, _ := events.ParseRolloutRef(m.Rollout)
		if m.Type == events.TypeRebuild && ref.Attempt == 1 {
			lost[m.ID] = true
			return nil
		}
		return f.answerAll(m, now)
	}
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
	run(t, s, func() bool { return s.head != nil && s.head.over() })
	require.Equal(t, Completed, s.head.Phase, s.head.Reason)
	require.Equal(t, Counts{Done: 3}, s.head.Counts())
	require.NotEmpty(t, lost)
	require.Greater(t, s.facts.Now.Sub(t0), time.Duration(len(lost))*stale)
}

// The message of a command can be lost after its call was begun: then the ledger shows it under way for ever.
func TestACommandThatStaysUnderWayIsUnknownInTheEnd(t *testing.T) {
	t.Parallel()
	for state, bound := range map[string]time.Duration{
		JobUnderWay: stale + underWayMax + 30*time.Minute, JobAccepted: 2 * time.Hour, JobEnded: stale + 30*time.Minute,
	} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s, f := newSim(t, 3)
			s.job = func(string) Job { return Job{State: state, Deadline: t0.Add(time.Hour), Type: "not.an.end"} }
			s.answer = func(m Message, now time.Time) []timed {
				if m.Type == events.TypeRebuild {
					return nil
				}
				return f.answerAll(m, now)
			}
			s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
			run(t, s, func() bool { return s.head != nil && s.head.Phase == Halted })
			require.Equal(t, Halted, s.head.Phase)
			require.Equal(t, Counts{Unknown: 1, Pending: 2}, s.head.Counts())
			require.Less(t, s.facts.Now.Sub(t0), bound)
		})
	}
}

func TestACaptureThatNeverEndsEndsThePlan(t *testing.T) {
	t.Parallel()
	for state, bound := range map[string]time.Duration{JobUnderWay: captureMax + time.Hour, JobAccepted: 3 * time.Hour} {
		t.Run(state, func(t *testing.T) {
			t.Parallel()
			s, _ := newSim(t, 3)
			deadline := t0.Add(2 * time.Hour)
			s.job = func(string) Job { return Job{State: state, Deadline: deadline} }
			s.answer = func(m Message, now time.Time) []timed {
				if m.Type != events.TypeDesktopToImage {
					return nil
				}
				return []timed{{at: now, event: m.event(events.TypeJobAccepted, events.JobAccepted{
					Command: events.CommandRef{ID: m.ID}, JobID: "j", Deadline: deadline,
				})}}
			}
			image := map[string]any{"image": map[string]any{"from_desktop": "d-0000", "execute_sysprep": false}}
			s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", image)}))
			run(t, s, func() bool { return s.head != nil && s.head.over() })
			require.Equal(t, Aborted, s.head.Phase, s.head.Waiting)
			require.Contains(t, s.head.Reason, "the image could not be made: no end of the capture was reported")
			require.Less(t, s.facts.Now.Sub(t0), bound)
		})
	}
}

func TestTheEndOfABatchIsPublishedBeforeThatOfItsWaveAndTheRollout(t *testing.T) {
	t.Parallel()
	w := calm(t, 5)
	w.start("r", strategy(0, whole, 5, "50%"), nil)
	w.until("r", Completed)
	var types []string
	for _, m := range w.reported[len(w.reported)-3:] {
		types = append(types, m.Type)
	}
	require.Equal(t, []string{
		events.TypeRolloutBatchCompleted, events.TypeRolloutWaveCompleted, events.TypeRolloutCompleted,
	}, types)
}

func TestTheEndOfABatchIsShownBeforeThatOfItsRollout(t *testing.T) {
	t.Parallel()
	v := &View{Head: &Head{Name: "r"}}
	var c Changes
	require.Empty(t, c.Of(v))
	v.Log = []Entry{{Type: events.TypeRolloutCompleted, ID: "1", Time: t0}}
	v.Batches = []*Batch{{State: Ended, Since: t0}}
	changes := c.Of(v)
	require.Len(t, changes, 2)
	require.Equal(t, events.TypeRolloutBatchCompleted, changes[0].Type)
	require.Equal(t, events.TypeRolloutCompleted, changes[1].Type)
}

// A wave of the deferred desktops takes them out of the batch, often before the batch is read.
func TestABatchIsShownAsItEnded(t *testing.T) {
	t.Parallel()
	v := &View{Head: &Head{Name: "r"}}
	var c Changes
	require.Empty(t, c.Of(v))
	v.Batches = []*Batch{{State: Ended, Since: t0, Rows: []Row{
		{Slot: Slot{ID: "d1"}, State: Done},
		{Slot: Slot{ID: "d2"}, State: moved, By: deferredMove + "4"},
		{Slot: Slot{ID: "d3"}, State: moved, By: "s/retry-1"},
	}}}
	changes := c.Of(v)
	require.Len(t, changes, 1)
	var shown events.Rollout
	require.NoError(t, json.Unmarshal(changes[0].Data, &shown))
	require.Equal(t, Done, shown.Batch.Desktops[0].State)
	require.Equal(t, Deferred, shown.Batch.Desktops[1].State)
	require.Equal(t, moved, v.Batches[0].Rows[1].State, "the view stays as it was read")
}

// The batch that is waited for may have begun before the change above the line.
func TestTheTimesOfChangesDoNotGoBack(t *testing.T) {
	t.Parallel()
	v := &View{Head: &Head{Name: "r"}}
	v.Log = []Entry{{Type: events.TypeRolloutWaveStarted, ID: "1", Time: t0}}
	v.Waiting = &Waiting{Text: "batch 1 is sent", Since: t0.Add(-time.Minute)}
	var c Changes
	changes := c.Of(v)
	require.Len(t, changes, 2)
	require.Equal(t, "waits: batch 1 is sent", changes[1].Text)
	require.Equal(t, t0, changes[1].At)
	v.Waiting = &Waiting{Text: "batch 2 is sent", Since: t0.Add(-time.Second)}
	require.Equal(t, t0, c.Of(v)[0].At)
}
