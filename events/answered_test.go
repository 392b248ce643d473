package events_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// A command ends in the answer to its own data.
func TestOpenEndsOnTheAnswerToItsOwnData(t *testing.T) {
	t.Parallel()
	cmd := command(events.FnRebuild, "nightly", someRebuild)
	root := events.Root{ID: cmd.ID, Source: cmd.Source, Digest: cmd.Digest()}
	answer := func(typ, id string, named events.CommandRef, kind string) events.Envelope {
		return events.Envelope{ID: id, Source: "recompose/rebuild", Type: typ, Causation: cmd.ID, Data: mustJSON(events.CommandFailed{
			Command: named, Error: events.Failure{Kind: kind},
		})}
	}
	mine, older, bare, elsewhere := ref(cmd), ref(cmd), ref(cmd), ref(cmd)
	older.Digest = strings.Repeat("0", 64)
	bare.Digest = ""
	elsewhere.Source = "elsewhere"
	done, failed := events.TypeJobCompleted, events.TypeCommandFailed
	for name, c := range map[string]struct {
		root  events.Root
		event events.Envelope
		ends  bool
	}{
		"its digest":                           {root, answer(done, "e", mine, ""), true},
		"its own id_reused":                    {root, answer(failed, "e", mine, events.KindIDReused), true},
		"its own invalid":                      {root, answer(failed, "e", mine, events.KindInvalid), true},
		"other data":                           {root, answer(done, "e", older, ""), false},
		"id_reused of other data":              {root, answer(failed, "e", older, events.KindIDReused), false},
		"invalid, of other data":               {root, answer(failed, "e", older, events.KindInvalid), false},
		"invalid, undecodable":                 {root, answer(failed, "e", bare, events.KindInvalid), true},
		"invalid, undecodable, from elsewhere": {root, answer(failed, "e", events.CommandRef{ID: cmd.ID, Source: "elsewhere"}, events.KindInvalid), false},
		"invalid, undecodable, any source":     {events.Root{ID: cmd.ID, Digest: cmd.Digest()}, answer(failed, "e", bare, events.KindInvalid), false},
		"an earlier version, which has none":   {root, answer(done, "e", bare, ""), false},
		"a failure of an earlier version":      {root, answer(failed, "e", bare, events.KindConflict), false},
		"names no command":                     {root, answer(done, "e", events.CommandRef{}, ""), false},
		"another source":                       {root, answer(done, "e", elsewhere, ""), false},
		"another source, the source not known": {events.Root{ID: cmd.ID, Digest: cmd.Digest()}, answer(done, "e", elsewhere, ""), true},
		"any data":                             {events.Root{ID: cmd.ID}, answer(done, "e", older, ""), true},
		"any data, of an earlier version":      {events.Root{ID: cmd.ID}, answer(done, "e", bare, ""), true},
		"any data of this source":              {events.Root{ID: cmd.ID, Source: cmd.Source}, answer(done, "e", older, ""), true},
		"any data of this source, another":     {events.Root{ID: cmd.ID, Source: cmd.Source}, answer(done, "e", elsewhere, ""), false},
	} {
		require.Equal(t, c.ends, len(events.Open(c.root, []events.Envelope{c.event})) == 0, name)
		require.Equal(t, c.ends, len(events.Chain(c.root, []events.Envelope{c.event})) == 1, name)
	}

	// An end of an earlier version that is published once more has the digest of its record: that copy counts, in any
	// order.
	old, reissued := answer(done, "e", bare, ""), answer(done, "e", mine, "")
	for _, copies := range [][]events.Envelope{{old, reissued}, {reissued, old}, {old, reissued, old}} {
		require.Empty(t, events.Open(root, copies))
		require.Equal(t, []events.Envelope{reissued}, events.Chain(root, copies))
	}
}

// Undecodable data that is sent under the id of an answered command changes nothing: the command keeps its end.
func TestUndecodableDataUnderTheSameIDDoesNotAnswer(t *testing.T) {
	t.Parallel()
	cmd := command(events.FnRebuild, "nightly", someRebuild)
	own := answering(cmd, events.FnRebuild, events.TypeJobAccepted, "job.accepted", morning, events.JobAccepted{Command: ref(cmd), JobID: "j"})
	named := ref(cmd)
	named.Digest = ""
	invalid := answering(cmd, events.FnRebuild, events.TypeCommandFailed, "command.failed", morning, events.CommandFailed{
		Command: named, Error: events.Failure{Kind: events.KindInvalid},
	})
	for _, root := range []events.Root{{ID: cmd.ID, Source: cmd.Source, Digest: cmd.Digest()}, {ID: cmd.ID, Digest: cmd.Digest()}} {
		for _, all := range [][]events.Envelope{{own, invalid}, {invalid, own}} {
			require.Equal(t, []events.Envelope{own}, events.Chain(root, all))
			require.Equal(t, []events.Pending{{ID: own.ID, JobID: "j"}}, events.Open(root, all))
		}
	}
	require.Len(t, events.Chain(events.Root{ID: cmd.ID}, []events.Envelope{own, invalid}), 2, "any data")
}

// An implied command is also answered only for its own data; events of earlier versions have no digest.
func TestOpenOfImpliedCommands(t *testing.T) {
	t.Parallel()
	_, published := goldenChain()
	made := published["job.completed.v1"]
	for name, follows := range map[string]struct {
		cause    events.Envelope
		function string
		data     any
	}{
		"a rebuild": {made, events.FnRebuild, events.ThenRebuild{
			DesktopIDs:     []string{first, second},
			RebuildOptions: events.RebuildOptions{DelayTime: 15, Message: "Your desktop will be rebuilt in 15 minutes. Save your work."},
		}.WithImage(newImage, "private")},
		"a check": {published["job.completed.v1.rebuild"], events.FnCheckImages, events.CheckImages{DesktopIDs: []string{first, second}}},
	} {
		cmd := implied(follows.cause, follows.function, follows.data)
		answer := func(change func(*events.CommandRef)) events.Envelope {
			named := ref(cmd)
			change(&named)
			return answering(cmd, follows.function, events.TypeCommandFailed, "x", morning, events.CommandFailed{Command: named})
		}
		open := func(es ...events.Envelope) int {
			return len(events.Open(events.Root{ID: follows.cause.Causation}, append(es, follows.cause)))
		}
		require.Equal(t, 1, open(), name)
		require.Zero(t, open(answer(func(*events.CommandRef) {})), name)
		require.Zero(t, open(answer(func(r *events.CommandRef) { r.Digest = "" })), name)
		require.Equal(t, 1, open(answer(func(r *events.CommandRef) { r.Digest = "other" })), name)
	}
	cmd := command(events.FnRebuild, "split", someRebuild)
	parts := []events.Part{part(cmd, 0, "part-0"), {ID: events.PartID(cmd.Identity(), 1), DesktopIDs: []string{"part-1"}}}
	split := answering(cmd, events.FnRebuild, events.TypeCommandSplit, "command.split", morning, events.CommandSplit{Command: ref(cmd), Parts: parts})
	answer := func(id, digest string) events.Envelope {
		e := answering(cmd, events.FnRebuild, events.TypeJobCompleted, id+digest, morning, events.JobCompleted{Command: events.CommandRef{ID: id, Digest: digest}})
		e.Causation = id
		return e
	}
	open := func(es ...events.Envelope) int { return len(events.Open(events.Root{ID: cmd.ID}, append(es, split))) }
	require.Equal(t, 2, open())
	require.Equal(t, 2, open(answer(parts[0].ID, "other")))
	require.Zero(t, open(answer(parts[0].ID, parts[0].Digest), answer(parts[1].ID, "any: the split does not have it")))
}

// Reports have no causation: they do not end a command, and belong to the chain of the command that they name.
func TestChainHasTheReportsAboutItsCommands(t *testing.T) {
	t.Parallel()
	cmd := command(events.FnRebuild, "nightly", someRebuild)
	accepted := answering(cmd, events.FnRebuild, events.TypeJobAccepted, "job.accepted", morning, events.JobAccepted{Command: ref(cmd), JobID: "j"})
	report := func(id string, about events.CommandRef) events.Envelope {
		return events.Envelope{ID: id, Source: "s", Type: "recompose.event.job.progress.v1", Data: mustJSON(map[string]any{"command": about})}
	}
	mine, other := report("mine", ref(cmd)), ref(cmd)
	other.Digest = "other"
	root := events.Root{ID: cmd.ID, Source: cmd.Source, Digest: cmd.Digest()}
	all := []events.Envelope{mine, report("other", other), report("none", events.CommandRef{}), accepted}
	require.Equal(t, []events.Envelope{mine, accepted}, events.Chain(root, all))
	require.Equal(t, events.Open(root, []events.Envelope{accepted}), events.Open(root, all))
	require.Len(t, events.Open(root, all[:1]), 1)
}

// Notices do not end a command. They belong to the chain of the command and data that they name, even if their sender
// set a causation.
func TestNoticesBelongToTheChainOfTheirCommand(t *testing.T) {
	t.Parallel()
	cmd := command(events.FnRebuild, "root", someRebuild)
	reused := cmd
	reused.Data = mustJSON(someRebuild.Only([]string{"another"}))
	accepted := answering(cmd, events.FnRebuild, events.TypeJobAccepted, "accepted", morning, events.JobAccepted{Command: ref(cmd), JobID: "j"})
	progress := events.JobProgress{Function: events.FnRebuild, Command: ref(cmd), JobID: "j", Percent: 50}
	own := notice(accepted, events.FnWatchJob, events.TypeJobProgress, []string{"50"}, morning, progress)
	unclear := notice(cmd, events.FnRebuild, events.TypeCommandUnclear, []string{"unclear"}, morning, events.CommandUnclear{Command: ref(cmd)})
	unclear.Causation = accepted.ID
	foreign := notice(reused, events.FnRebuild, events.TypeCommandUnclear, []string{"other"}, morning, events.CommandUnclear{Command: ref(reused)})
	foreign.Causation = cmd.ID

	root := events.Root{ID: cmd.ID, Source: cmd.Source, Digest: cmd.Digest()}
	published := []events.Envelope{own, foreign, unclear, accepted}
	require.Equal(t, []events.Envelope{own, unclear, accepted}, events.Chain(root, published))
	require.Equal(t, []events.Pending{{ID: accepted.ID, JobID: "j"}}, events.Open(root, published))
	require.Equal(t, []events.Pending{{ID: cmd.ID}}, events.Open(root, published[:3]))
	require.Equal(t, published, events.Chain(events.Root{ID: cmd.ID}, published), "any data")
	require.Len(t, events.Open(events.Root{}, published[:3]), 1, "no root: a notice is not its answer")
}
