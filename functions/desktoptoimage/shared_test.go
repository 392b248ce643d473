package desktoptoimage_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions/desktoptoimage"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/testkit/testclock"
	"recompose/shared/workspace"
)

// slow is a service that takes a second for each answer.
type slow struct{ service http.Handler }

func (s slow) RoundTrip(r *http.Request) (*http.Response, error) {
	<-time.After(time.Second)
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	answer := httptest.NewRecorder()
	s.service.ServeHTTP(answer, r)
	return answer.Result(), nil
}

func TestCapturesShareTheirLists(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const captures = 10
		service, err := emulator.New(emulator.Options{Desktops: captures})
		require.NoError(t, err)
		defer func() { require.NoError(t, service.Close()) }()
		c := config.Default()
		api, err := workspace.New(workspace.Options{
			Endpoint: "http://127.0.0.1", ProjectID: emulator.DefaultProjectID, Transport: slow{service}, ReadsPerMinute: -1, WritesPerMinute: -1,
			SignatureWindow: c.SignatureWindow,
			Auth:            workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
		})
		require.NoError(t, err)
		r := &functiontest.Rig{TB: t, Config: c, Clock: &testclock.Clock{}, Emulator: service}
		f := desktoptoimage.New(api, once.New(c, api, once.Options{Store: memledger.New(), Owner: "w"}))
		var all sync.WaitGroup
		for i, id := range service.DesktopIDs() {
			all.Go(func() {
				d := r.Command(events.TypeDesktopToImage, id, events.DesktopToImage{ImageName: fmt.Sprint("image ", i), DesktopID: id})
				d.Bare.Time = time.Now()
				functiontest.OnlyData[events.JobAccepted](t, queue.Processor{}.Process(t.Context(), f, d))
			})
		}
		all.Wait()
		images, _ := r.Calls(emulator.CallListImages)
		jobs, _ := r.Calls(emulator.CallListSubJobs)
		require.LessOrEqual(t, images, 2)
		require.LessOrEqual(t, jobs, captures, "each by itself would list every spelling")
	})
}
