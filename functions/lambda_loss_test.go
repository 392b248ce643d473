package functions_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/testkit/awstest"
)

const lossCommands = 20

// rebuildAll hands the same commands to a rebuild function, one desktop each.
func (k *cloud) rebuildAll(t *testing.T, s *awstest.Sandbox) {
	t.Helper()
	ids, image := k.world.DesktopIDs(), k.world.State().Images[1]
	for i := range lossCommands {
		c := command(t, events.FnRebuild, fmt.Sprint("c", i), events.Rebuild{
			DesktopIDs: ids[i : i+1], ImageID: image.ID, ImageType: image.ImageType, RebuildOptions: events.RebuildOptions{RebuildCurrent: true},
		})
		c.MessageID = fmt.Sprint("m", i)
		require.Empty(t, invoke(t, s, time.Minute, c))
	}
}

func (k *cloud) rebuilt() int {
	n := 0
	for _, r := range k.world.Requests(0, 0) {
		if r.Call == emulator.CallRebuild && r.Effect != "" {
			n++
		}
	}
	return n
}

// accepted is the job.accepted of the first command as the queue of watchjob has it.
func (k *cloud) accepted(t *testing.T) awstest.Record {
	t.Helper()
	for _, m := range k.Published() {
		if m.Attributes["type"] == events.TypeJobAccepted {
			r := recordOf(events.FnWatchJob, "accepted", m.Body)
			r.MessageAttributes = map[string]awstest.RecordAttribute{}
			for n, v := range m.Attributes {
				r.MessageAttributes[n] = awstest.RecordAttribute{DataType: "String", StringValue: v}
			}
			return r
		}
	}
	require.Fail(t, "nothing was accepted")
	return awstest.Record{}
}

// The table is emptied, recreated or restored, under functions that run or start. The same commands, sent once more,
// are not done once more.
func TestATableThatLostRecordsIsNoNewTable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		harm func(k *cloud)
		cold bool // the function starts anew
		look bool // before the commands come, watchjob looks at a job that was accepted
		done int  // commands that are done a second time once the loss is accepted: those without a record
	}{
		"emptied":   {harm: func(k *cloud) { k.Empty("recompose") }, done: lossCommands},
		"recreated": {harm: func(k *cloud) { k.Empty("recompose"); k.Remake() }, done: lossCommands},
		// watchjob makes the record of the job that it looks at.
		"emptied, with a job under way":         {harm: func(k *cloud) { k.Empty("recompose") }, cold: true, look: true, done: lossCommands - 1},
		"recreated, with a job under way":       {harm: func(k *cloud) { k.Empty("recompose"); k.Remake() }, cold: true, look: true, done: lossCommands - 1},
		"restored from a backup":                {harm: func(k *cloud) { k.Remake() }, cold: true},
		"restored from a backup, under way too": {harm: func(k *cloud) { k.Remake() }, cold: true, look: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCloud(t, emulator.Options{Desktops: lossCommands, Speed: 100000, Pace: 1})
			s := k.start(t, events.FnRebuild, nil)
			k.rebuildAll(t, s)
			require.Equal(t, lossCommands, k.rebuilt())
			require.NotContains(t, s.Log(), "the ledger is incomplete")
			require.NotEmpty(t, k.accepted(t).MessageAttributes[queue.EpochHeader].StringValue)
			c.harm(k)
			if c.cold {
				s = k.start(t, events.FnRebuild, nil)
			}
			if c.look {
				w := k.start(t, events.FnWatchJob, nil)
				require.Empty(t, invoke(t, w, time.Minute, k.accepted(t)))
			}
			k.rebuildAll(t, s)
			require.Equal(t, lossCommands, k.rebuilt(), "no command was done a second time")
			require.Contains(t, s.Log(), `"level":"ERROR","message":"no write begins: the ledger is incomplete"`)
			require.Contains(t, s.Log(), "recompose setup --aws STACK --accept-ledger-loss")

			store := k.ledger(t)
			require.ErrorIs(t, store.Fit(t.Context(), ""), ledger.ErrLost)
			require.NoError(t, store.Accept(t.Context()))
			require.NoError(t, store.Fit(t.Context(), ""))
			k.rebuildAll(t, s)
			require.Equal(t, lossCommands+c.done, k.rebuilt(), "accepted, writes begin")
		})
	}
}
