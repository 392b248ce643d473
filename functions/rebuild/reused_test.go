package rebuild_test

import (
	"bytes"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
)

// A second command with the same id and other data ends as id_reused, with its own digest and all its desktops,
// whatever the state of the first one and however often the second one is delivered. The record of the first one does
// not change.
func TestAReusedIDEndsByItself(t *testing.T) {
	t.Parallel()
	key := events.Identity("test", "c1")
	for name, begin := range map[string]func(t *testing.T, r *functiontest.Rig, first queue.Delivery){
		"accepted": func(t *testing.T, r *functiontest.Rig, first queue.Delivery) {
			functiontest.OnlyData[events.JobAccepted](t, r.Process(function(r), first))
		},
		"ended": func(t *testing.T, r *functiontest.Rig, first queue.Delivery) {
			r.Clock.Add(24 * time.Hour)
			functiontest.OnlyData[events.CommandFailed](t, r.Process(function(r), first))
		},
		"given up": func(t *testing.T, r *functiontest.Rig, first queue.Delivery) {
			first.Deliveries = queue.MaxDeliveries + 1
			require.NotNil(t, r.Process(function(r), first).Dead)
		},
		"looked for": func(t *testing.T, r *functiontest.Rig, first queue.Delivery) {
			r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Drop: "after"}})
			require.NotNil(t, r.Process(function(r), first).Delay)
		},
		"refused for now": func(t *testing.T, r *functiontest.Rig, first queue.Delivery) {
			r.Faults(emulator.Fault{Call: emulator.CallRebuild, Times: 1, Do: emulator.Do{Status: 409, ErrorCode: "WKS.1"}})
			require.NotNil(t, r.Process(function(r), first).Delay)
		},
	} {
		for _, deliveries := range []int{1, queue.MaxDeliveries + 1} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				r := functiontest.New(t, 4)
				all := data(r)
				begin(t, r, r.Command(events.TypeRebuild, "c1", all.Only(r.Desktops[:1])))
				before, _, err := r.Ledger.Get(t.Context(), key)
				require.NoError(t, err)
				calls := len(r.Emulator.Requests(0, 0))

				second := r.Command(events.TypeRebuild, "c1", all.Only(r.Desktops[1:]))
				second.Deliveries = deliveries
				result := r.Process(function(r), second)
				require.Len(t, result.Events, 1)
				failed := functiontest.Data[events.CommandFailed](t, result.Events[0])
				require.Equal(t, events.KindIDReused, failed.Error.Kind)
				require.Equal(t, events.EffectNone, failed.Effect)
				require.Equal(t, events.Digest(all.Only(r.Desktops[1:])), failed.Command.Digest)
				require.Equal(t, r.Desktops[1:], failed.DesktopIDs)
				require.Len(t, r.Emulator.Requests(0, 0), calls)
				after, _, err := r.Ledger.Get(t.Context(), key)
				require.NoError(t, err)
				require.Equal(t, before, after)
			})
		}
	}
}

// withoutDigest is what an earlier version published or recorded.
func withoutDigest(t *testing.T, data json.RawMessage, digest string) json.RawMessage {
	t.Helper()
	old := bytes.Replace(data, []byte(`,"digest":"`+digest+`"`), nil, 1)
	require.NotEqual(t, string(data), string(old))
	return old
}

// An end that an earlier version recorded is published with the digest of its record, under its id, so that a waiter
// for this data accepts it as the end.
func TestAnEndOfAnEarlierVersionGetsItsDigest(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: r.Emulator.State().Desktops[0].Metadata["metering.image_id"], ImageType: "gold"}
	d := r.Command(events.TypeRebuild, "c1", cmd)
	e := functiontest.Only(t, r.Process(function(r), d))
	require.Equal(t, events.TypeJobCompleted, e.Type)

	key, root := events.Identity("test", "c1"), events.Root{ID: "c1", Source: "test", Digest: events.Digest(cmd)}
	record, rev, err := r.Ledger.Get(t.Context(), key)
	require.NoError(t, err)
	record.End.Data = withoutDigest(t, record.End.Data, record.Digest)
	_, err = r.Ledger.Put(t.Context(), key, record, rev)
	require.NoError(t, err)
	old := e
	old.Data = record.End.Data
	require.Len(t, events.Open(root, []events.Envelope{old}), 1, "it could be the end of other data")

	for _, deliveries := range []int{1, queue.MaxDeliveries + 1} {
		d.Deliveries = deliveries
		again := functiontest.Only(t, r.Process(function(r), d))
		require.JSONEq(t, string(e.Data), string(again.Data))
		again.Data = e.Data
		require.Equal(t, e, again)
		require.Empty(t, events.Open(root, []events.Envelope{old, again}))
	}

	other := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd.Only(r.Desktops[:1]))))
	require.Equal(t, events.KindIDReused, functiontest.Data[events.CommandFailed](t, other).Error.Kind)
	require.Empty(t, events.Chain(root, []events.Envelope{other}))
}

// The same holds for the job.accepted of a record that an earlier version made.
func TestAJobOfAnEarlierVersionGetsItsDigest(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	id, imageType := r.OtherImage()
	cmd := events.Rebuild{DesktopIDs: r.Desktops, ImageID: id, ImageType: imageType}
	first := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeRebuild, "c1", cmd)))
	record, _, err := r.Ledger.Get(t.Context(), events.Identity("test", "c1"))
	require.NoError(t, err)
	require.Equal(t, once.Accepted, once.StateOf(record))
	require.Equal(t, events.Digest(cmd), record.Digest)
	require.Equal(t, record.Digest, first.Answered().Digest)
	old := first
	old.Data = withoutDigest(t, first.Data, record.Digest)
	root := events.Root{ID: "c1", Source: "test", Digest: record.Digest}
	require.Equal(t, []events.Pending{{ID: "c1"}}, events.Open(root, []events.Envelope{old}))
	require.Equal(t, []events.Pending{{ID: first.ID, Function: events.FnRebuild, JobID: record.JobID}}, events.Open(root, []events.Envelope{old, first}))
}
