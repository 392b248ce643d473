package ledgertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
)

// writerOnce proves on a store what it is for: many workers are given one command, and one call is made.
func writerOnce(t *testing.T, ss Stores) {
	var sent atomic.Int32
	call := ledger.Call{
		Key: key, Digest: "d",
		Prepare: func(context.Context) (json.RawMessage, *ledger.End, error) { return json.RawMessage(`{}`), nil, nil },
		Check:   func(context.Context) (*ledger.End, error) { return nil, nil },
		Send: func(context.Context, time.Time, json.RawMessage) (ledger.Sent, error) {
			return ledger.Sent{JobID: fmt.Sprint("j", sent.Add(1)), At: time.Now().UTC(), Detail: json.RawMessage(`{}`)}, nil
		},
		Judge:   func(error) ledger.Judgement { return ledger.Judgement{MayHaveExecuted: true} },
		Unknown: func(error) ledger.End { return ledger.End{ID: "unknown"} },
	}
	begin := make(chan struct{})
	var all sync.WaitGroup
	jobs := make([]string, 16)
	for i := range jobs {
		w := ledger.Writer{Store: ss.Open(t), Owner: fmt.Sprint("w", i), Now: time.Now, ServiceNow: time.Now}
		all.Go(func() {
			<-begin
			r, err := w.Do(t.Context(), call)
			if _, busy := errors.AsType[*ledger.WaitError](err); err == nil || busy {
				jobs[i] = r.JobID
				return
			}
			jobs[i] = err.Error()
		})
	}
	close(begin)
	all.Wait()
	require.Equal(t, int32(1), sent.Load(), "calls")
	for _, j := range jobs {
		require.Contains(t, []string{"", "j1"}, j)
	}
}
