package events_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

const (
	rolloutName = "office-2026-02"
	planDigest  = "9f2c0d6f3c1d4f0b8a7e6d5c4b3a29180f1e2d3c4b5a69788796a5b4c3d2e1f0"
	idsDigest   = "1b4f0e9851971998e732078544c96b36c3d01cedf7caa332359d6f1d83567014"
	admin       = "ada@admin-1"
)

// rolloutCommands are the samples of the commands of a rollout, by type.
func rolloutCommands() map[string]events.Envelope {
	all := map[string]events.Envelope{}
	add := func(typ string, data events.RolloutCommand) {
		verb := strings.TrimSuffix(strings.TrimPrefix(typ, "recompose.command.rollout."), ".v1")
		e := command(events.FnRollout, verb+"-2026-02-10", data)
		e.Type = typ
		all[typ] = e
	}
	accepted := int64(1)
	add(events.TypeRolloutStart, events.RolloutCommand{ProjectID: project, Spec: mustJSON(map[string]any{
		"name": rolloutName, "image": map[string]any{"image_id": newImage, "image_type": "private"},
		"targets":  map[string]any{"desktop_ids": []string{first, second, third}},
		"strategy": map[string]any{"canary": 1, "waves": []string{"100%"}, "max_unavailable": 2, "max_failed": 0, "soak": "10m"},
		"approval": map[string]any{"required": true, "within": "48h"},
	})})
	add(events.TypeRolloutTargets, events.RolloutCommand{Name: "fleet-2026-02", Page: 1, DesktopIDs: []string{first, second, third}})
	add(events.TypeRolloutApprove, events.RolloutCommand{Name: rolloutName, PlanSHA256: planDigest, By: admin})
	add(events.TypeRolloutPause, events.RolloutCommand{Name: rolloutName, Reason: "users report a missing printer", By: admin})
	add(events.TypeRolloutResume, events.RolloutCommand{Name: rolloutName, Reason: "seen", AcceptFailed: &accepted, By: admin})
	add(events.TypeRolloutPromote, events.RolloutCommand{Name: rolloutName, By: admin})
	add(events.TypeRolloutExclude, events.RolloutCommand{Name: rolloutName, DesktopIDs: []string{third}, Reason: "on loan", By: admin})
	add(events.TypeRolloutSet, events.RolloutCommand{
		Name: rolloutName, MaxUnavailable: 3, MaxFailed: json.RawMessage(`"2%"`), By: admin,
		Window: json.RawMessage(`{"days":["sat","sun"],"from":"20:00","to":"06:00","timezone":"Europe/Berlin"}`),
	})
	add(events.TypeRolloutRetry, events.RolloutCommand{Name: rolloutName, By: admin})
	add(events.TypeRolloutRollback, events.RolloutCommand{Name: rolloutName, DesktopIDs: []string{first}, By: admin})
	add(events.TypeRolloutAbort, events.RolloutCommand{Name: rolloutName, Reason: "the image is withdrawn", By: admin})
	return all
}

// rolloutSamples are the samples of the commands and events of a rollout.
func rolloutSamples() map[string]events.Envelope {
	all := rolloutCommands()
	start := all[events.TypeRolloutStart]
	pages := start
	pages.ID, pages.Data = "start-fleet-2026-02", mustJSON(events.RolloutCommand{
		Spec:     json.RawMessage(`{"name":"fleet-2026-02","image":{"from_desktop":"` + captured + `"}}`),
		PlanOnly: true, Targets: &events.RolloutPages{Pages: 1, SHA256: idsDigest},
	})
	all[events.TypeRolloutStart+".pages"] = pages
	report := func(name string, cause *events.Envelope, at int, r events.Rollout) {
		about := start
		if cause != nil {
			about = *cause
		}
		typ, _, _ := strings.Cut(name, ".v1")
		typ += ".v1"
		command := ref(about)
		r.Command, r.Name, r.Chain, r.Revision, r.Plan = &command, rolloutName, start.Correlation, at, 1
		r.Digest, r.ImageID = planDigest, newImage
		e := answering(about, events.FnRollout, typ, "", minutes(at), r)
		e.ID = events.Derive(start.Identity(), "rollout", typ, fmt.Sprint(at))
		switch {
		case events.IsNotice(typ):
			e.Causation = ""
		case cause == nil:
			e.Causation = events.RolloutEnd(start.Identity())
		}
		all[name] = e
	}
	answer := func(verb string) *events.Envelope {
		e := all[verb]
		return &e
	}
	canary := &events.RolloutWave{Number: 1, Of: 2, Kind: "canary", Size: 1}
	done := events.RolloutDesktop{DesktopID: first, State: "done", At: minutes(40), RequestID: "8b5f9c7ac2a44ab9b3a7a1d5e3c0f005"}
	failed := events.RolloutDesktop{
		DesktopID: second, State: "failed", Code: "WKS.00010304", Reason: "The desktop failed to be rebuilt.", At: minutes(60),
		RequestID: "8b5f9c7ac2a44ab9b3a7a1d5e3c0f006",
	}
	pending, one := map[string]int{"pending": 3}, map[string]int{"done": 1, "pending": 2}
	report(events.TypeRolloutPlanned, answer(events.TypeRolloutStart), 2, events.Rollout{Phase: "planned", Counts: pending, Until: minutes(2 + 48*60),
		Forecast: &events.RolloutForecast{End: minutes(90), MaxUnavailable: 2, Calls: 9, HaltsAt: 1}})
	report(events.TypeRolloutApproved, answer(events.TypeRolloutApprove), 3, events.Rollout{Phase: "running", Counts: pending, By: admin})
	report(events.TypeRolloutStarted, nil, 4, events.Rollout{Phase: "running", Counts: pending})
	report(events.TypeRolloutWaveStarted, nil, 5, events.Rollout{Phase: "running", Counts: pending, Wave: canary})
	report(events.TypeRolloutBatchCompleted, nil, 40, events.Rollout{Phase: "running", Wave: canary,
		Batch: &events.RolloutBatch{Number: 1, Attempt: 1, Desktops: []events.RolloutDesktop{done}}})
	report(events.TypeRolloutWaveCompleted, nil, 41, events.Rollout{Phase: "running", Counts: one,
		Wave: &events.RolloutWave{Number: 1, Of: 2, Kind: "canary", Size: 1, Counts: map[string]int{"done": 1}}})
	report(events.TypeRolloutPaused, answer(events.TypeRolloutPause), 42, events.Rollout{Phase: "paused", Counts: one, By: admin, Reason: "users report a missing printer"})
	report(events.TypeRolloutChanged, answer(events.TypeRolloutSet), 43, events.Rollout{Phase: "running", Counts: one, By: admin})
	report(events.TypeRolloutHalted, nil, 60, events.Rollout{Phase: "halted", Counts: map[string]int{"done": 1, "failed": 1, "pending": 1},
		Wave: &events.RolloutWave{Number: 2, Of: 2, Kind: "wave", Size: 2, Counts: map[string]int{"failed": 1, "pending": 1}},
		Why:  "max_failed", Reason: "1 of 2 desktops of wave 2 failed, and max_failed allows 0", Desktops: []events.RolloutDesktop{failed}})
	report(events.TypeRolloutResumed, answer(events.TypeRolloutResume), 61, events.Rollout{Phase: "running", By: admin, Counts: map[string]int{"done": 1, "failed": 1, "pending": 1}})
	report(events.TypeRolloutCompleted, nil, 80, events.Rollout{Phase: "completed", Counts: map[string]int{"done": 2, "failed": 1}})
	report(events.TypeRolloutAborted, nil, 80, events.Rollout{Phase: "aborted", Counts: map[string]int{"done": 1, "failed": 1, "pending": 1}, By: admin})
	report(events.TypeRolloutRolledBack, nil, 80, events.Rollout{Phase: "rolled_back", Counts: map[string]int{"rolled_back": 1, "failed": 1, "pending": 1}})
	report(events.TypeRolloutRejected, answer(events.TypeRolloutRetry), 62, events.Rollout{Phase: "running", Counts: one, Reason: "no desktop failed"})
	targets := all[events.TypeRolloutTargets]
	about := ref(targets)
	all[events.TypeRolloutTargetsKept] = read(targets, events.FnRollout, events.TypeRolloutTargetsKept, events.TypeRolloutTargetsKept, minutes(1),
		events.Rollout{Command: &about, Name: "fleet-2026-02"})
	return all
}

// A rollout is open from its plan to its end, and each verb until its answer.
func TestARolloutIsOpenUntilItsEnd(t *testing.T) {
	t.Parallel()
	all := rolloutSamples()
	start := all[events.TypeRolloutStart]
	root := events.Root{ID: start.ID, Source: start.Source, Digest: start.Digest()}
	open := func(types ...string) []events.Pending {
		var have []events.Envelope
		for _, typ := range types {
			have = append(have, all[typ])
		}
		inOrder := events.Open(root, have)
		slices.Reverse(have)
		require.Equal(t, inOrder, events.Open(root, have))
		return inOrder
	}
	rest := []events.Pending{{ID: events.RolloutEnd(start.Identity()), Function: events.FnRollout}}
	require.Equal(t, []events.Pending{{ID: start.ID}}, open())
	require.Equal(t, rest, open(events.TypeRolloutPlanned))
	require.Equal(t, rest, open(events.TypeRolloutPlanned, events.TypeRolloutApproved, events.TypeRolloutStarted, events.TypeRolloutWaveStarted,
		events.TypeRolloutBatchCompleted, events.TypeRolloutWaveCompleted, events.TypeRolloutPaused, events.TypeRolloutHalted))
	require.Equal(t, []events.Pending{{ID: start.ID}}, open(events.TypeRolloutCompleted), "the end before its plan")
	for _, end := range []string{events.TypeRolloutCompleted, events.TypeRolloutAborted, events.TypeRolloutRolledBack} {
		require.Empty(t, open(events.TypeRolloutPlanned, end))
	}
	only := all[events.TypeRolloutPlanned]
	var r events.Rollout
	require.NoError(t, json.Unmarshal(only.Data, &r))
	r.PlanOnly = true
	only.Data = mustJSON(r)
	require.Empty(t, events.Open(root, []events.Envelope{only}), "only a plan was asked for")
	rejected := all[events.TypeRolloutRejected]
	r.PlanOnly, rejected.Causation, rejected.Data = false, start.ID, mustJSON(r)
	require.Empty(t, events.Open(root, []events.Envelope{rejected}))
	for verb, with := range map[string]string{
		events.TypeRolloutApprove: events.TypeRolloutApproved, events.TypeRolloutPause: events.TypeRolloutPaused,
		events.TypeRolloutResume: events.TypeRolloutResumed, events.TypeRolloutSet: events.TypeRolloutChanged,
		events.TypeRolloutTargets: events.TypeRolloutTargetsKept, events.TypeRolloutRetry: events.TypeRolloutRejected,
	} {
		c := all[verb]
		own := events.Root{ID: c.ID, Source: c.Source, Digest: c.Digest()}
		others := slices.DeleteFunc(slices.Collect(maps.Values(all)), func(e events.Envelope) bool { return e.Type == with })
		require.Equal(t, []events.Pending{{ID: c.ID}}, events.Open(own, others), verb)
		require.Empty(t, events.Open(own, slices.Collect(maps.Values(all))), verb)
	}
}

func TestEveryTypeOfARolloutIsListed(t *testing.T) {
	t.Parallel()
	rollouts := func(begin string) (types []string) {
		return slices.DeleteFunc(typeConstants(t), func(typ string) bool { return !strings.HasPrefix(typ, begin) })
	}
	require.ElementsMatch(t, rollouts("recompose.command.rollout."), events.RolloutTypes)
	require.ElementsMatch(t, rollouts("recompose.event.rollout."), events.RolloutEventTypes)
}

func FuzzRollout(f *testing.F) {
	for _, e := range rolloutCommands() {
		f.Add(e.Type, []byte(e.Data))
	}
	f.Add(events.TypeRolloutStart, []byte(`{"spec":[],"targets":{"pages":0,"sha256":"x"},"plan_only":"yes","name":"x"}`))
	f.Fuzz(func(t *testing.T, typ string, data []byte) {
		if !slices.Contains(events.RolloutTypes, typ) {
			return
		}
		c, err := events.DecodeRollout(typ)(data)
		if err != nil {
			invalid := new(events.InvalidError)
			require.ErrorAs(t, err, &invalid)
			require.NotEmpty(t, invalid.Faults)
			requirePrintable(t, err)
			require.Zero(t, c)
			return
		}
		second, err := events.DecodeRollout(typ)(mustJSON(c))
		require.NoError(t, err)
		require.Equal(t, events.Digest(c), events.Digest(second))
	})
}
