package functiontest

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/queue"
)

// status is one way in which the service answers a call.
type status struct {
	name string
	do   emulator.Do
	// kind and effect of the command.failed that a read or a write ends in; "" where the command goes on.
	read, write   string
	effect        string
	stops         bool // the worker takes no more messages
	comesAgain    bool // to a write: the call was not executed and is made again later
	acceptedWrite int
}

func answer(code int, errorCode string) emulator.Do {
	return emulator.Do{Status: code, ErrorCode: errorCode, ErrorMsg: "told to"}
}

// statuses are the status codes of the vendor's pages, those of the gateway, and losses of the network.
func statuses() []status {
	unavailable := func(name string, do emulator.Do, accepted int) status {
		return status{name: name, do: do, read: events.KindUnavailable, write: events.KindUnknownOutcome, effect: events.EffectUnknown, acceptedWrite: accepted}
	}
	definite := func(name string, do emulator.Do, kind string) status {
		return status{name: name, do: do, read: kind, write: kind, effect: events.EffectNone}
	}
	bad := func(name string, do emulator.Do) status {
		return status{name: name, do: do, read: events.KindBadAnswer, write: events.KindUnknownOutcome, effect: events.EffectUnknown}
	}
	return []status{
		definite("400", answer(400, "WKS.00211102"), events.KindRefused),
		{name: "401", do: answer(401, "APIGW.0301"), stops: true},
		definite("403", answer(403, "WKS.00010099"), events.KindForbidden),
		definite("404", answer(404, "WKS.0915"), events.KindNotFound),
		definite("404 of the gateway", answer(404, "APIGW.0101"), events.KindEndpoint),
		definite("405", answer(405, "WKS.00000405"), events.KindRefused),
		definite("409", answer(409, "WKS.00010032"), events.KindConflict),
		{name: "429", do: answer(429, "APIGW.0308"), read: events.KindThrottled, comesAgain: true},
		unavailable("500", answer(500, "WKS.00000003"), 0),
		unavailable("502", answer(502, ""), 0),
		unavailable("503", answer(503, "WKS.00050902"), 0),
		unavailable("504", answer(504, "APIG.0203"), 0),
		bad("302", answer(http.StatusFound, "")),
		bad("200 and nothing in it", emulator.Do{Status: 200}),
		unavailable("network lost before the effect", emulator.Do{Drop: "before"}, 0),
		unavailable("network lost after the effect", emulator.Do{Drop: "after"}, 1),
	}
}

// ReadStatuses drives every status code and a network loss through a function whose call changes nothing.
func ReadStatuses(t *testing.T, call string, function func(*Rig) queue.Function, command func(*Rig) queue.Delivery) {
	t.Helper()
	for _, s := range statuses() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := New(t, 3)
			r.Faults(emulator.Fault{Call: call, Do: s.do})
			if s.stops {
				stopped := r.Process(function(r), command(r))
				require.Error(t, stopped.Stop)
				require.Empty(t, stopped.Events)
				require.NotNil(t, stopped.Delay, "the message is kept")
				return
			}
			failed := Data[events.CommandFailed](t, Only(t, r.Follow(function(r), command(r))), events.TypeCommandFailed)
			require.Equal(t, s.read, failed.Error.Kind)
			require.Equal(t, events.EffectNone, failed.Effect)
			require.Equal(t, "c1", failed.Command.ID)
			if s.do.Status > 0 && s.do.ErrorCode != "" {
				require.Equal(t, s.do.Status, failed.Error.HTTPStatus)
				require.Equal(t, s.do.ErrorCode, failed.Error.ErrorCode)
				require.NotEmpty(t, failed.Error.RequestID)
			}
		})
		if s.read == events.KindUnavailable || s.read == events.KindThrottled {
			t.Run(s.name+" once", func(t *testing.T) {
				t.Parallel()
				r := New(t, 3)
				r.Faults(emulator.Fault{Call: call, Times: 1, Do: s.do})
				e := Only(t, r.Follow(function(r), command(r)))
				require.NotEqual(t, events.TypeCommandFailed, e.Type, "says %s", e.Data)
			})
		}
	}
}

// WriteStatuses drives every status code and a network loss through a function whose call may be made once only: the
// event says what is known, and the service is asked no second time, however often the command comes again.
func WriteStatuses(t *testing.T, call string, function func(*Rig) queue.Function, command func(*Rig) queue.Delivery) {
	t.Helper()
	for _, s := range statuses() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := New(t, 3)
			r.Faults(emulator.Fault{Call: call, Times: 1, Do: s.do})
			f, c := function(r), command(r)
			if s.stops || s.comesAgain {
				first := r.Process(f, c)
				require.Empty(t, first.Events)
				require.Equal(t, s.stops, first.Stop != nil)
				require.NotNil(t, first.Delay, "the message is kept")
				e := Only(t, r.Follow(f, r.Later(first.Delay)))
				require.Equal(t, events.TypeJobAccepted, e.Type, "nothing was done, so it may be done later; says %s", e.Data)
				asked, accepted := r.Calls(call)
				require.Equal(t, [2]int{2, 1}, [2]int{asked, accepted})
				return
			}
			first := Only(t, r.Process(f, c))
			failed := Data[events.CommandFailed](t, first, events.TypeCommandFailed)
			require.Equal(t, s.write, failed.Error.Kind)
			require.Equal(t, s.effect, failed.Effect)
			require.NotEmpty(t, failed.DesktopIDs)
			if s.do.Status > 0 && s.do.ErrorCode != "" {
				require.Equal(t, s.do.Status, failed.Error.HTTPStatus)
				require.Equal(t, s.do.ErrorCode, failed.Error.ErrorCode)
			}
			again := Only(t, r.Process(f, c))
			require.Equal(t, first, again, "a second delivery says the same")
			asked, accepted := r.Calls(call)
			require.Equal(t, [2]int{1, s.acceptedWrite}, [2]int{asked, accepted})
		})
	}
}
