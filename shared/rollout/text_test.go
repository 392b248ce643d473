package rollout

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/store/memstore"
)

// stored are the records of a simulation in a store.
func storedRecords(t *testing.T, s *simulation) *memstore.Store {
	t.Helper()
	records := memstore.New()
	for key, value := range s.records {
		if value == nil {
			continue
		}
		_, err := records.Put(t.Context(), key, value, 0)
		require.NoError(t, err)
	}
	return records
}

// until drives a simulation until a condition holds.
func until(t *testing.T, s *simulation, holds func(h *Head) bool) {
	t.Helper()
	for i := 0; s.head == nil || !holds(s.head); i++ {
		more, err := s.next()
		require.NoError(t, err)
		require.True(t, more && i < 10_000, "it does not come so far")
	}
}

func viewOf(t *testing.T, s *simulation) *View {
	t.Helper()
	v, err := (&Viewer{Store: storedRecords(t, s), Name: s.name}).Read(t.Context())
	require.NoError(t, err)
	return v
}

func text(lines []Line) string {
	all := make([]string, len(lines))
	for i, l := range lines {
		all[i] = strings.TrimRight(l.String(), " ")
	}
	return strings.Join(all, "\n") + "\n"
}

// failing makes the rebuild of some desktops fail.
func failing(f *fleet, ids ...string) func(m Message, now time.Time) []timed {
	return func(m Message, now time.Time) []timed {
		answers := f.answerAll(m, now)
		for i, a := range answers {
			if a.event.Type == events.TypeJobCompleted {
				var d events.JobCompleted
				_ = json.Unmarshal(a.event.Data, &d) // the model's own
				for j, r := range d.Desktops {
					for _, id := range ids {
						if r.DesktopID == id {
							d.Desktops[j] = events.DesktopResult{DesktopID: id, Outcome: events.Failed, ErrorCode: "WKS.1", FailReason: "disk \x1b[31mfull"}
						}
					}
				}
				answers[i].event = m.event(events.TypeJobCompleted, d)
			}
		}
		return answers
	}
}

func TestThePlanIsDescribed(t *testing.T) {
	t.Parallel()
	s, _ := newSim(t, 20)
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", map[string]any{
		"targets":  map[string]any{"where": map[string]any{"status": "ACTIVE"}, "except": map[string]any{"desktop_ids": []string{"d-0003", "d-0004"}}},
		"approval": map[string]any{"required": true},
		"window":   map[string]any{"days": []string{"thu"}, "from": "20:00", "to": "06:00", "timezone": "UTC"},
	})}))
	until(t, s, func(h *Head) bool { return h.Phase == Planned })
	plan, err := ReadPlan(t.Context(), storedRecords(t, s), s.head)
	require.NoError(t, err)
	require.Equal(t, fmt.Sprintf(`plan      of rollout r, made %s
image     new (private)
desktops  18 are rebuilt: the data on their system disks is lost
skipped   2: protected: targets.except.desktop_ids has it: d-0003, d-0004
run now   18: image old (private)
wave 1    canary of 1 desktop
            d-0000: a user is attached, and none is connected
wave 2    wave of 1 desktop
wave 3    wave of 7 desktops
wave 4    wave of 9 desktops
in use    desktops that people use are deferred up to 5 times, then skipped
window    thu, 20:00 to 06:00 UTC
limits    max_unavailable 100, max_failed 20%%, soak 10m
forecast  ends %s if nothing fails, at most 9 desktops unavailable at once, about %s, in 1 window; it halts at 4 failures
digest    %s
approval  is required until %s
`, s.head.PlannedAt.Local().Format("15:04"), s.head.Forecast.End.Local().Format("15:04"), chain.Count(s.head.Forecast.Calls, "API call"),
		s.head.Digest, s.head.PlannedAt.Add(48*time.Hour).Local().Format("2006-01-02 15:04")),
		text(plan.Summary(s.head).Lines(s.facts.Now)))

	fates := plan.Fates(s.head)
	require.Len(t, fates, 20)
	require.Equal(t, Fate{DesktopID: "d-0000", State: "planned", Wave: 1, ImageID: "old"}, fates[0])
	require.Equal(t, Fate{DesktopID: "d-0019", State: "planned", Wave: 4, ImageID: "old"}, fates[17])
	require.Equal(t, Fate{DesktopID: "d-0003", State: "skipped", Reason: "protected: targets.except.desktop_ids has it"}, fates[18])

	status := viewOf(t, s).Status(s.facts.Now)
	require.True(t, status.NeedsPerson)
	require.Equal(t, []string{"rollout", "approve", "r", "--plan-sha256", s.head.Digest}, status.Next[0].Words)
	require.Equal(t, "a person must approve the plan", status.Waiting.Text)
}

func TestARolloutThatHaltsIsDescribed(t *testing.T) {
	t.Parallel()
	s, f := newSim(t, 20)
	s.answer = failing(f, "d-0002", "d-0005", "d-0006", "d-0007", "d-0008")
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))

	until(t, s, func(h *Head) bool {
		return len(h.Waves) > 2 && h.Waves[1].Judged.IsZero() && !h.Waves[1].Ended.IsZero()
	})
	v := viewOf(t, s)
	status := v.Status(s.facts.Now)
	require.Equal(t, []string{"rollout", "promote", "r"}, status.Next[0].Words)
	lines := text(v.Lines(status, s.facts.Now, Layout{Width: 20, CellRows: 1, Failures: 3}))
	require.Contains(t, lines, "wave 2    wave          1  soaks  until ")
	require.Contains(t, lines, "waits     the wave has ended and is watched (since ")
	require.Contains(t, lines, "rate      ")
	require.True(t, status.End.After(s.facts.Now.Add(20*time.Minute)), "two soaks are left: %v", status.End)

	until(t, s, func(h *Head) bool { return h.Phase == Halted && len(h.Open) == 0 })
	v = viewOf(t, s)
	status = v.Status(s.facts.Now)
	lines = text(v.Lines(status, s.facts.Now, Layout{Width: 20, CellRows: 1, Failures: 3}))
	require.Contains(t, lines, "rollout   r, halted (max_failed)\nimage     new (private)\ndesktops  20: 5 done, 10 pending, 5 failed\n")
	require.Contains(t, lines, "wave 3    wave          8  runs   3 done, 5 failed\n")
	require.Contains(t, lines, "failures  failed, WKS.1, ")
	require.Contains(t, lines, ": d-0002, d-0005, d-0006 and 2 more\n")
	require.Len(t, status.Failures, 5)
	require.Equal(t, []string{"rollout", "retry", "r"}, status.Next[0].Words)
	require.Equal(t, []string{"rollout", "resume", "r", "--accept-failed", "5"}, status.Next[1].Words)
	require.False(t, status.NeedsPerson, "a halt is reported as failed")
	require.False(t, status.Over())
}

func TestCellsShowTheWorstOfTheirDesktops(t *testing.T) {
	t.Parallel()
	v := &View{Head: &Head{Waves: []Wave{{Kind: PlainWave, From: 5, To: 15, Next: 11}, {Kind: DeferredWave, From: 15, To: 17, Next: 15}}}}
	rows := []Row{{State: Done}, {State: Done}, {State: moved}, {State: Failed}, {State: Sent}, {State: Skipped}}
	v.Batches = []*Batch{{Wave: 0, From: 5, Rows: rows}, nil}
	require.Equal(t, []string{Done, Done, moved, Failed, Sent, Skipped, Pending, Pending, Pending, Pending}, v.Cells(0, 10))
	require.Equal(t, []string{Done, Failed, Sent, Pending, Pending}, v.Cells(0, 5))
	require.Equal(t, []string{Failed}, v.Cells(0, 1))
	require.Equal(t, []string{Deferred, Deferred}, v.Cells(1, 80))
}

func TestTheDescriptionFitsIntoATerminal(t *testing.T) {
	t.Parallel()
	s, f := newSim(t, 2000)
	s.answer = failing(f, f.ids[1], f.ids[2])
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", map[string]any{
		"strategy": map[string]any{"canary": 5, "waves": []string{"5%", "10%", "15%", "20%", "30%", "60%", "100%"}, "max_unavailable": 500, "max_failed": "20%", "canary_max_failed": 2},
	})}))
	until(t, s, func(h *Head) bool { return h.Batches > 3 && len(h.Open) > 0 })
	v := viewOf(t, s)
	status := v.Status(s.facts.Now)
	for _, height := range []int{3, 10, 24, 60, 200} {
		lines := v.Fit(status, s.facts.Now, 80, height)
		require.LessOrEqual(t, len(lines), height)
		for _, l := range lines {
			if strings.HasPrefix(l.String(), "          ") {
				require.LessOrEqual(t, len(l.String()), 80)
			}
		}
	}
	require.Contains(t, text(v.Fit(status, s.facts.Now, 80, 24)), "failures  ")
}

func TestChangesAreShownOnce(t *testing.T) {
	t.Parallel()
	s, _ := newSim(t, 10)
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
	until(t, s, func(h *Head) bool { return h.Phase == Planned || h.Phase == Running })
	changes := Changes{Since: s.head.Revision}
	counts := map[string]int{}
	note := func(all []Change) {
		for _, c := range all {
			counts[c.Type]++
			require.True(t, c.Type == "" && c.Text != "" || len(c.Data) > 0)
		}
	}
	note(changes.Of(viewOf(t, s)))
	require.Zero(t, counts[events.TypeRolloutPlanned], "it was printed before")
	for !s.head.over() {
		_, err := s.next()
		require.NoError(t, err)
		note(changes.Of(viewOf(t, s)))
	}
	require.Equal(t, 1, counts[events.TypeRolloutCompleted])
	require.Equal(t, 3, counts[events.TypeRolloutWaveCompleted]-counts[events.TypeRolloutCompleted]+1)
	require.Equal(t, s.head.Batches, counts[events.TypeRolloutBatchCompleted])
	require.Empty(t, changes.Of(viewOf(t, s)))
}

func TestTheEndIsEstimatedAcrossWindows(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 28, 5, 0, 0, 0, time.UTC)
	v := &View{Head: &Head{Phase: Running, Spec: Spec{Window: &Window{From: "20:00", To: "06:00", Timezone: "UTC"}}}}
	s := Status{Counts: Counts{Pending: 200}, PerHour: 100}
	require.Equal(t, time.Date(2026, 11, 28, 21, 0, 0, 0, time.UTC), v.end(s, now), "one hour now, one in the evening")
	s.PerHour = 0
	require.Zero(t, v.end(s, now))
	v.Forecast = &events.RolloutForecast{End: now.Add(time.Hour)}
	require.Equal(t, now.Add(time.Hour), v.end(s, now))
}

func TestALostTickIsShown(t *testing.T) {
	t.Parallel()
	s, _ := newSim(t, 10)
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{Spec: spec("r", nil)}))
	until(t, s, func(h *Head) bool { return h.Phase == Running })
	v := viewOf(t, s)
	require.Zero(t, v.Status(s.facts.Now).Stalled)
	later := s.head.Tick.At.Add(10 * time.Minute)
	require.Contains(t, text(v.Lines(v.Status(later), later, Layout{})), "stalled   its next step is 10m0s overdue: no worker runs the function rollout")
}

func TestDriftCountsTheTargetsByImage(t *testing.T) {
	t.Parallel()
	in := PlanInput{
		Image: TargetImage{ID: "new"}, IDs: []string{"a", "b", "c", "gone"},
		Fleet: []Desktop{{ID: "a", Image: "new", ImageType: "private"}, {ID: "b", Image: "old"}, {ID: "c"}, {ID: "other", Image: "old"}},
	}
	require.Equal(t, `image     new
targets   4: 1 run it, 2 differ, 1 are not known to the service
               1  not known
               1  new (private)
               1  old
differ    b runs old
          and 1 more; --csv and --json list all
unknown   gone
`, text(Drift(in).Lines(1)))
}

func TestAPlanOfNothingPromisesNoLoss(t *testing.T) {
	t.Parallel()
	s, _ := newSim(t, 5)
	s.add(t0, verb("c1", events.TypeRolloutStart, events.RolloutCommand{PlanOnly: true, Spec: spec("r", map[string]any{
		"targets": map[string]any{"desktop_ids": []string{"x-1", "x-2", "x-3", "x-4"}},
	})}))
	until(t, s, func(h *Head) bool { return h.Phase == Planned || h.over() })
	plan, err := ReadPlan(t.Context(), storedRecords(t, s), s.head)
	require.NoError(t, err)
	lines := text(plan.Summary(s.head).Lines(s.facts.Now))
	require.Contains(t, lines, "desktops  none can be rebuilt\nrefused   4: unknown")
	require.Contains(t, lines, ": x-1, x-2, x-3 and 1 more\n")
	require.NotContains(t, lines, "lost")
	require.NotContains(t, lines, "halts")
}

func TestTheWavesOfAnEndedRolloutPromiseNothing(t *testing.T) {
	t.Parallel()
	h := &Head{Phase: Aborted, Waves: []Wave{
		{Kind: CanaryWave, To: 1, Next: 1, Started: t0, Ended: t0, Judged: t0},
		{Kind: PlainWave, From: 1, To: 4, Next: 2, Started: t0},
		{Kind: PlainWave, From: 4, To: 9, Next: 4},
	}}
	for n, state := range []string{WaveDone, WaveEnded, WaveNotBegun} {
		require.Equal(t, state, h.waveStatus(n).State)
	}
	h.Phase = Halted
	require.Equal(t, WaveRuns, h.waveStatus(1).State)
	require.Equal(t, WaveWaits, h.waveStatus(2).State)
}
