package natsledger_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
	"recompose/shared/store/natsstore"
)

const rolloutStream = "KV_test_RECOMPOSE_ROLLOUTS"

// rollouts opens the records of rollouts, as a worker and recompose setup do.
func (p *place) rollouts(t *testing.T) *natsstore.Store {
	t.Helper()
	s, err := natsstore.Open(t.Context(), p.Conn, natsstore.Options{Deployment: "test", Bucket: natsstore.Rollouts})
	require.NoError(t, err)
	return s
}

func TestABucketOfRolloutsThatWasMadeAnewStopsWrites(t *testing.T) {
	t.Parallel()
	for name, anew := range map[string]bool{"deleted": false, "made anew": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := setup(t)
			p.rollouts(t)
			a := p.worker(t, natsledger.Options{})
			a.fits()
			require.NoError(t, a.js.DeleteStream(t.Context(), rolloutStream))
			why := "the bucket of rollouts does not exist"
			if anew {
				p.rollouts(t)
				why = "the bucket of rollouts was created at"
			}
			a.lost(why)
			p.worker(t, natsledger.Options{}).lost(why)
			p.worker(t, natsledger.Options{Options: natsstore.Options{Mend: true}}).lost(why) // setup alone repairs nothing
			p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}}).lost(why)

			p.rollouts(t)
			b := p.worker(t, natsledger.Options{Options: natsstore.Options{Mend: true}})
			b.lost("the bucket of rollouts was created at")
			b.accepts()
			require.NoError(t, a.Fit(t.Context(), ""), "an operator has accepted the loss")
			require.NoError(t, b.Fit(t.Context(), ""))
			p.worker(t, natsledger.Options{}).fits()
		})
	}
}

func TestABucketOfRolloutsThatWasEmptiedStopsWrites(t *testing.T) {
	t.Parallel()
	p := setup(t)
	_, err := p.rollouts(t).Put(t.Context(), "rollouts/live", []byte(`{"names":["win11"]}`), 0)
	require.NoError(t, err)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	s, err := a.js.Stream(t.Context(), rolloutStream)
	require.NoError(t, err)
	require.NoError(t, s.Purge(t.Context()))
	a.lost("the bucket of rollouts is empty, and had records")
	p.worker(t, natsledger.Options{}).lost("the bucket of rollouts is empty, and had records")
	a.accepts()
	require.NoError(t, a.Fit(t.Context(), ""))
	_, err = p.rollouts(t).Put(t.Context(), "rollouts/live", []byte(`{"names":["win11"]}`), 0)
	require.NoError(t, err)
	require.NoError(t, a.Fit(t.Context(), ""))
	require.NoError(t, s.Purge(t.Context()))
	require.ErrorIs(t, a.Fit(t.Context(), ""), ledger.ErrLost)
}

func TestADeploymentThatNeverHadRolloutsUpgradesWithoutAPerson(t *testing.T) {
	t.Parallel()
	p := setup(t)
	old := p.worker(t, natsledger.Options{})
	old.fits()
	old.works(0, 3)
	require.NotContains(t, old.metadata(), "rollouts")

	p.rollouts(t) // a worker of this version, or recompose setup, makes the bucket
	old.fits()    // also a worker that runs
	require.Contains(t, old.metadata(), "rollouts")
	p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}}).fits()
	p.worker(t, natsledger.Options{}).fits()
}

// A worker that may not store which bucket it uses would take any other one for it later.
func TestAWorkerThatMayNotCreateWaitsForSetupToRecordTheBucketOfRollouts(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.worker(t, natsledger.Options{}).fits()
	p.rollouts(t)
	a := p.worker(t, natsledger.Options{Options: natsstore.Options{Verify: true}})
	a.lost("the bucket of rollouts is not recorded in the metadata of stream test_RECOMPOSE_EVENTS; recompose setup repairs it")
	p.worker(t, natsledger.Options{Options: natsstore.Options{Mend: true}}).fits()
	require.NoError(t, a.Fit(t.Context(), ""))
}

func TestTheEventStreamMadeAnewKeepsTheBucketOfRollouts(t *testing.T) {
	t.Parallel()
	p := setup(t)
	p.rollouts(t)
	a := p.worker(t, natsledger.Options{})
	a.fits()
	require.NoError(t, a.js.DeleteStream(t.Context(), "test_RECOMPOSE_EVENTS"))
	p.events(t)
	p.worker(t, natsledger.Options{}).fits()
	require.Contains(t, a.metadata(), "rollouts")
}
