package main

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/chain/reasons"
	"recompose/shared/deployment"
	"recompose/shared/rollout"
)

// knownReasons are the reasons of a deployment, and what they were looked up for.
type knownReasons struct {
	why  []string
	work []reasons.Work
}

func (k *knownReasons) Why(_ context.Context, q reasons.Work) []string {
	k.work = append(k.work, q)
	return k.why
}

func TestWhyARolloutDoesNotMove(t *testing.T) {
	t.Parallel()
	waits := func(reason string, quiet time.Duration) *rollout.Waiting {
		return &rollout.Waiting{Reason: reason, Text: "text", Since: time.Now().Add(-quiet)}
	}
	sent := &rollout.Batch{State: rollout.Sent, Parts: map[string]rollout.Part{"c": {}}}
	accepted := &rollout.Batch{State: rollout.Sent, Parts: map[string]rollout.Part{"c": {}, "d": {JobID: "j"}}}
	for name, c := range map[string]struct {
		waiting *rollout.Waiting
		batches []*rollout.Batch
		held    bool
		write   bool
	}{
		"nothing":        {nil, nil, false, false},
		"has only begun": {waits("plan", 0), nil, false, false},
		"a person":       {waits("approval", time.Hour), nil, false, false},
		"a plan":         {waits("plan", time.Minute), nil, true, false},
		"a look":         {waits("batch", time.Minute), []*rollout.Batch{nil, {State: rollout.Looking}}, true, false},
		"a call":         {waits("batch", time.Minute), []*rollout.Batch{sent}, true, true},
		"a job":          {waits("batch", time.Minute), []*rollout.Batch{accepted}, true, false},
	} {
		s, _ := sessionOn(t, nil)
		known := &knownReasons{why: []string{"no answer"}}
		s.finder = known
		held := s.held(t.Context(), &rollout.View{Head: &rollout.Head{Waiting: c.waiting, Start: rollout.Origin{Correlation: "chain"}}, Batches: c.batches})
		if !c.held {
			require.Empty(t, held, name)
			require.Empty(t, known.work, name)
			continue
		}
		require.Equal(t, known.why, held, name)
		require.Equal(t, []reasons.Work{{Correlation: "chain", Whole: true, Write: c.write}}, known.work, name)
	}
}

func TestWhyAVerbHasNoAnswer(t *testing.T) {
	t.Parallel()
	e := events.Envelope{ID: "c", Source: sendSource, Type: events.TypeRolloutStart, Correlation: "c", Data: json.RawMessage(`{"spec": {"name": "november"}}`)}
	start := rollout.Origin{CommandRef: events.CommandRef{ID: "c"}, Correlation: "c"}
	planning := &rollout.Head{Name: "november", Phase: rollout.Planning, Start: start, Waiting: &rollout.Waiting{Reason: "plan", Since: time.Unix(1, 0)}}
	s, _ := sessionOn(t, nil, planning)
	require.Equal(t, []string{"the plan is made, which takes a while for a large fleet"}, s.silence(t.Context(), e, 7))
	known := &knownReasons{why: []string{"it cannot be reached"}}
	s.finder = known
	require.Equal(t, known.why, s.silence(t.Context(), e, 7))

	planning.Reading = &rollout.Reading{Why: "the desktops could not be read, 3 times in a row"}
	s, _ = sessionOn(t, nil, planning)
	s.finder = known
	require.Equal(t, []string{planning.Reading.Why}, s.silence(t.Context(), e, 7))

	s, _ = sessionOn(t, nil)
	require.Contains(t, s.silence(t.Context(), e, 7)[0], "is a worker with the function rollout running?")
	known.work, s.finder = nil, known
	require.Equal(t, known.why, s.silence(t.Context(), e, 7))
	require.Equal(t, uint64(7), known.work[0].Number)
	require.True(t, known.work[0].Unanswered)

	s, _ = sessionOn(t, nil, &rollout.Head{Name: "november", Reason: "it begins when batch 1 has ended", Queued: &rollout.Verb{CommandRef: events.CommandRef{ID: "c"}}})
	require.Equal(t, []string{"it begins when batch 1 has ended"}, s.silence(t.Context(), e, 7))
}

// A plan that refuses every desktop fails; one whose desktops all run the image succeeds.
func TestAPlanThatCanRebuildNoDesktopFails(t *testing.T) {
	t.Parallel()
	left := func(state, reason string) rollout.ReasonCount {
		return rollout.ReasonCount{State: state, Reason: reason, Count: 1}
	}
	refused, current, protected := left(rollout.Refused, "unknown"), left(rollout.Skipped, "current"), left(rollout.Skipped, "protected")
	for name, c := range map[string]struct {
		summary rollout.PlanSummary
		barred  bool
	}{
		"no desktop":             {rollout.PlanSummary{}, false},
		"all refused":            {rollout.PlanSummary{LeftOut: []rollout.ReasonCount{refused}}, true},
		"others protected":       {rollout.PlanSummary{LeftOut: []rollout.ReasonCount{refused, protected}}, true},
		"all protected":          {rollout.PlanSummary{LeftOut: []rollout.ReasonCount{protected}}, false},
		"others run the image":   {rollout.PlanSummary{LeftOut: []rollout.ReasonCount{refused, current}}, false},
		"others will be rebuilt": {rollout.PlanSummary{Planned: 1, LeftOut: []rollout.ReasonCount{refused}}, false},
	} {
		require.Equal(t, c.barred, barred(c.summary) != nil, name)
	}
}

// A plan that rebuilds no desktop is no question.
func TestAPlanOfNoDesktopIsNotAskedAbout(t *testing.T) {
	t.Parallel()
	s, out := sessionOn(t, nil)
	s.service = deployment.Service{Unknown: "no worker has recorded yet which service it works on"}
	current := rollout.ReasonCount{State: rollout.Skipped, Reason: "current", Count: 2}
	wanted, err := s.confirmPlan(rollout.PlanSummary{Name: "november", LeftOut: []rollout.ReasonCount{current}})
	require.NoError(t, err)
	require.False(t, wanted)
	require.Contains(t, out.String(), "none is rebuilt: there is nothing to do")
	require.Contains(t, out.String(), "The rollout is not started, because it would rebuild no desktop")
	require.NotContains(t, out.String(), "rebuilds 0 desktops")

	_, err = s.confirmPlan(rollout.PlanSummary{Name: "november", Planned: 1})
	require.ErrorContains(t, err, "This rebuilds 1 desktop: the data on their system disks is lost. Standard input is not a terminal")
	refused := rollout.ReasonCount{State: rollout.Refused, Reason: "unknown", Count: 1}
	wanted, err = s.confirmPlan(rollout.PlanSummary{Name: "november", LeftOut: []rollout.ReasonCount{refused}})
	require.False(t, wanted)
	require.ErrorContains(t, err, "can rebuild no desktop")
}
