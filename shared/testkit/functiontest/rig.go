// Package functiontest is the test rig for functions: the real client against the emulator, a ledger in memory, and
// one clock for all of them, which tests move. Faults come from the emulator, not from mocks.
package functiontest

import (
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/testkit/testclock"
	"recompose/shared/workspace"
)

// Rig is one service, and one worker's client and ledger.
type Rig struct {
	TB       testing.TB
	endpoint string
	Config   *config.Config // the defaults; tests may change it before they make an engine
	Clock    *testclock.Clock
	Emulator *emulator.Server
	API      *workspace.Client
	Ledger   ledger.Store
	Desktops []string // their ids
}

// New starts an emulator with some desktops.
func New(tb testing.TB, desktops int) *Rig {
	tb.Helper()
	return NewSkewed(tb, desktops, 0)
}

// NewSkewed is New with a service whose clock is ahead of the worker's by the given time.
func NewSkewed(tb testing.TB, desktops int, ahead time.Duration) *Rig {
	tb.Helper()
	return NewWith(tb, emulator.Options{Desktops: desktops, ClockSkew: ahead})
}

// NewWith is New with more options of the emulator; it gets the clock of the rig.
func NewWith(tb testing.TB, o emulator.Options) *Rig {
	tb.Helper()
	r := &Rig{TB: tb, Config: config.Default(), Clock: testclock.New(), Ledger: memledger.New()}
	var err error
	o.Now = r.Clock.Now
	r.Emulator, err = emulator.New(o)
	require.NoError(tb, err)
	server := httptest.NewServer(r.Emulator)
	tb.Cleanup(func() { server.Close(); require.NoError(tb, r.Emulator.Close()) })
	r.endpoint = server.URL
	r.API = r.Client()
	r.Desktops = r.Emulator.DesktopIDs()
	return r
}

// Client returns the client of a worker that has just started: it has not yet learned the service's clock.
func (r *Rig) Client() *workspace.Client {
	r.TB.Helper()
	c, err := workspace.New(workspace.Options{
		Endpoint: r.endpoint, ProjectID: emulator.DefaultProjectID, Now: r.Clock.Now, ReadsPerMinute: -1, WritesPerMinute: -1,
		SignatureWindow: r.Config.SignatureWindow,
		Auth:            workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	require.NoError(r.TB, err)
	return c
}

// Options returns the options of a worker without lists.
func (r *Rig) Options() once.Options {
	return once.Options{Store: r.Ledger, Owner: "rig", Now: r.Clock.Now}
}

// Engine returns the engine of a worker with the configuration and options of the rig.
func (r *Rig) Engine() *once.Engine { return r.EngineWith(r.Options()) }

// EngineWith returns the engine of a worker with other options.
func (r *Rig) EngineWith(o once.Options) *once.Engine { return once.New(r.Config, r.API, o) }

// Command returns a command of type typ as a message.
func (r *Rig) Command(typ, id string, data any) queue.Delivery {
	r.TB.Helper()
	raw, ok := data.(string)
	if !ok {
		b, err := json.Marshal(data)
		require.NoError(r.TB, err)
		raw = string(b)
	}
	return r.Message(events.Envelope{ID: id, Source: "test", Type: typ, Time: r.Clock.Now(), Correlation: "chain", Data: json.RawMessage(raw)})
}

// Message returns an envelope as a transport delivers it.
func (r *Rig) Message(e events.Envelope) queue.Delivery {
	r.TB.Helper()
	body, err := json.Marshal(e)
	require.NoError(r.TB, err)
	return queue.Delivery{
		Headers: events.Headers{"Content-Type": {events.ContentType}}, Body: body, Deliveries: 1, Bare: events.Bare{Time: r.Clock.Now()},
	}
}

// Process passes a message to a function.
func (r *Rig) Process(f queue.Function, d queue.Delivery) queue.Result {
	r.TB.Helper()
	return queue.Processor{Now: r.Clock.Now}.Process(r.TB.Context(), f, d)
}

// Later returns a delayed message when it is due; it moves the clock there.
func (r *Rig) Later(d *queue.Delay) queue.Delivery {
	r.TB.Helper()
	require.NotNil(r.TB, d, "the message should be delayed")
	r.Clock.Add(d.After)
	m := r.Message(d.Envelope)
	m.Headers[queue.AttemptHeader] = []string{fmt.Sprint(d.Attempt)}
	m.Headers[queue.FailuresHeader], m.Headers[queue.HeldHeader] = []string{fmt.Sprint(d.Failures)}, []string{fmt.Sprint(d.Held)}
	return m
}

// Follow passes a message to a function until it is no longer delayed, at most 200 times.
func (r *Rig) Follow(f queue.Function, d queue.Delivery) queue.Result {
	r.TB.Helper()
	for range 200 {
		result := r.Process(f, d)
		require.NoError(r.TB, result.Retry)
		if result.Delay == nil {
			return result
		}
		d = r.Later(result.Delay)
	}
	require.Fail(r.TB, "the message is delayed for ever")
	return queue.Result{}
}

// Calls counts the requests of one call that the emulator received, and how many of them it accepted as a job.
func (r *Rig) Calls(call string) (requests, accepted int) {
	r.TB.Helper()
	for _, q := range r.Emulator.Requests(0, 0) {
		if q.Call != call {
			continue
		}
		requests++
		if q.Effect != "" {
			accepted++
		}
	}
	return requests, accepted
}

// Faults replaces the emulator's faults.
func (r *Rig) Faults(faults ...emulator.Fault) {
	r.TB.Helper()
	require.NoError(r.TB, r.Emulator.SetFaults(faults))
}

// Only returns the one event of a result; the result must have no other event and no delay.
func Only(tb testing.TB, result queue.Result) events.Envelope {
	tb.Helper()
	require.NoError(tb, result.Retry)
	require.NoError(tb, result.Stop)
	require.Nil(tb, result.Delay, "it should not be delayed")
	require.Nil(tb, result.Dead)
	require.Len(tb, result.Events, 1)
	return result.Events[0]
}

// Unclear requires that a result reports the search for a lost call, and nothing else.
func Unclear(tb testing.TB, result queue.Result) {
	tb.Helper()
	require.Len(tb, result.Events, 1, "no other event yet")
	unclear := Data[events.CommandUnclear](tb, result.Events[0])
	require.NotEmpty(tb, unclear.DesktopIDs)
	require.NotEmpty(tb, unclear.Reason)
	require.Empty(tb, result.Events[0].Causation, "it does not end the command")
	require.NotNil(tb, result.Delay)
}

// Data decodes the data of an event, which must be of the type that has such data.
func Data[T any](tb testing.TB, e events.Envelope) T {
	tb.Helper()
	i := slices.IndexFunc(events.Events, func(row events.Event) bool { _, is := row.Data.(T); return is })
	require.Equal(tb, events.Events[i].Type, e.Type, "got %s", e.Data)
	var data T
	require.NoError(tb, json.Unmarshal(e.Data, &data))
	return data
}

// OnlyData is Data of Only.
func OnlyData[T any](tb testing.TB, result queue.Result) T {
	tb.Helper()
	return Data[T](tb, Only(tb, result))
}

// OtherImage returns the id of an image that the desktops do not run: the first of the emulator's that no desktop has.
func (r *Rig) OtherImage() (id, imageType string) {
	r.TB.Helper()
	state := r.Emulator.State()
	running := map[string]bool{}
	for _, d := range state.Desktops {
		running[d.Metadata["metering.image_id"]] = true
	}
	for _, image := range state.Images {
		if !running[image.ID] {
			return image.ID, image.ImageType
		}
	}
	require.Fail(r.TB, "the emulator has no other image")
	return "", ""
}
