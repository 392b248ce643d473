package rebuild_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/rebuild"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/testkit/functiontest"
)

// overtaken is a store in which another worker acts directly after the first read.
type overtaken struct {
	ledger.Store
	meanwhile func()
}

func (o *overtaken) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	r, rev, err := o.Store.Get(ctx, key)
	if act := o.meanwhile; act != nil {
		o.meanwhile = nil
		act()
	}
	return r, rev, err
}

func TestGivingUpDoesNotEndWhatAnotherWorkerHasBegunMeanwhile(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	first := command(r)
	last := first
	last.Deliveries = queue.MaxDeliveries + 1
	options := r.Options()
	options.Store = &overtaken{Store: r.Ledger, meanwhile: func() {
		functiontest.OnlyData[events.JobAccepted](t, r.Process(function(r), first))
	}}
	result := r.Process(rebuild.New(r.API, r.EngineWith(options)), last)
	a := functiontest.OnlyData[events.JobAccepted](t, result)
	require.Equal(t, r.Emulator.State().Jobs[0].ID, a.JobID)
	_, accepted := r.Calls(emulator.CallRebuild)
	require.Equal(t, 1, accepted)
}

// The end of a command that was given up is the same event each time, and names the same dead letter.
func TestTheEndOfAGivenUpCommandStaysTheSame(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 2)
	d := command(r)
	d.Deliveries = queue.MaxDeliveries + 1
	first := r.Process(function(r), d)
	require.NotNil(t, first.Dead)
	d.Deliveries++
	require.Equal(t, first.Events, r.Process(function(r), d).Events)
	require.Equal(t, first.Events, r.Process(function(r), command(r)).Events)
}
