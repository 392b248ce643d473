package ledgertest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// service is a fake service with the clock of this machine.
type service struct{}

func (service) ProjectID() string      { return "p1" }
func (service) ServiceNow() time.Time  { return time.Now() }
func (service) SignaturesExpire() bool { return true }

// AwaitTurn, CheckTurn and DropTurn do nothing: a fake has no rate limit.
func (service) AwaitTurn(context.Context) error { return nil }
func (service) CheckTurn() error                { return nil }
func (service) DropTurn()                       {}

// writerOnce tests the purpose of the ledger: many workers get the same command, and one call is made.
func writerOnce(t *testing.T, ss Stores) {
	var sent atomic.Int32
	begin := make(chan struct{})
	var all sync.WaitGroup
	jobs := make([]string, 16)
	for i := range jobs {
		engine := once.New(config.Default(), service{}, once.Options{Store: ss.Open(t), Owner: fmt.Sprint("w", i)})
		all.Go(func() {
			<-begin
			outcomes, err := engine.Do(t.Context(), operation{&sent})
			switch {
			case err == nil:
				jobs[i] = outcomes[0].Data.(events.JobAccepted).JobID
			case !queue.IsVerdict(err):
				jobs[i] = err.Error()
			}
		})
	}
	close(begin)
	all.Wait()
	require.Equal(t, int32(1), sent.Load(), "calls")
	require.Contains(t, jobs, "j1")
	for _, j := range jobs {
		require.Contains(t, []string{"", "j1"}, j)
	}
}

// operation is a command whose call is accepted at once.
type operation struct{ sent *atomic.Int32 }

func (operation) About() once.Command {
	return once.Command{Command: queue.Command{Envelope: events.Envelope{ID: "1", Source: "ledgertest"}}, Data: "d"}
}

func (operation) Prepare(context.Context, ledger.Detail, ledger.Detail) (ledger.Detail, *queue.Outcome, error) {
	return ledger.Detail{DesktopIDs: []string{"d"}}, nil, nil
}

func (o operation) Send(context.Context, time.Time, ledger.Detail) (workspace.Accepted, error) {
	return workspace.Accepted{JobID: fmt.Sprint("j", o.sent.Add(1)), Date: time.Now().UTC()}, nil
}

func (operation) Accepted(*events.JobAccepted) {}

func (operation) FindJob(context.Context, ledger.Detail, time.Time, time.Time) (once.Found, error) {
	return once.Found{Incomplete: "there is no search"}, nil
}

func (operation) Unchanged(context.Context, ledger.Detail, once.Tasks) (bool, string, error) {
	return false, "", nil
}

func (operation) Divide(context.Context, ledger.Detail, events.Failure, bool) (*queue.Outcome, error) {
	return nil, nil
}

func (operation) Part([]string) any { return nil }
