package functiontest

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/queue"
)

// status is one way in which the service answers a call.
type status struct {
	name string
	do   emulator.Do
	// read and write are the kinds, and effect the effect, of the command.failed that a read or a write ends in; "" if
	// the command does not end.
	read, write string
	effect      string
	stops       bool // the worker receives no more messages
	retried     bool // a write: the call was not executed and is retried later
	// lost, for a write: it is unknown whether the service accepted the call. The engine searches for its job: it finds
	// the job if taken is set; otherwise it repeats the call after the fence.
	lost, taken bool
}

func answer(code int, errorCode string) emulator.Do {
	return emulator.Do{Status: code, ErrorCode: errorCode, ErrorMsg: "injected fault"}
}

// statuses are the status codes of the vendor's pages, those of the gateway, and losses of the network.
func statuses() []status {
	unavailable := func(name string, do emulator.Do, taken bool) status {
		return status{name: name, do: do, read: events.KindUnavailable, lost: true, taken: taken}
	}
	definite := func(name string, do emulator.Do, kind string) status {
		return status{name: name, do: do, read: kind, write: kind, effect: events.EffectNone}
	}
	bad := func(name string, do emulator.Do) status {
		return status{name: name, do: do, read: events.KindBadAnswer, lost: true}
	}
	return []status{
		definite("400", answer(400, "WKS.00211102"), events.KindRefused),
		{name: "401", do: answer(401, "APIGW.0301"), stops: true},
		definite("403", answer(403, "WKS.00010099"), events.KindForbidden),
		definite("404", answer(404, "WKS.0915"), events.KindNotFound),
		definite("404 of the gateway", answer(404, "APIGW.0101"), events.KindEndpoint),
		definite("405", answer(405, "WKS.00000405"), events.KindRefused),
		{name: "409", do: answer(409, "WKS.00010032"), read: events.KindConflict, retried: true},
		{name: "400 of a disk change", do: answer(400, "WKS.0407"), read: events.KindRefused, retried: true},
		{name: "429", do: answer(429, "APIGW.0308"), read: events.KindThrottled, retried: true},
		unavailable("500", answer(500, "WKS.00000003"), false),
		unavailable("502", answer(502, ""), false),
		unavailable("503", answer(503, "WKS.00050902"), false),
		unavailable("504", answer(504, "APIG.0203"), false),
		bad("302", answer(http.StatusFound, "")),
		bad("200 with an empty body", emulator.Do{Status: 200}),
		unavailable("network lost before the effect", emulator.Do{Drop: "before"}, false),
		unavailable("network lost after the effect", emulator.Do{Drop: "after"}, true),
	}
}

// Refusal is the data of a command, and the kind and the text of the failure in which it ends.
type Refusal = struct{ Data, Kind, Text string }

// Refuses tests that a function refuses commands of a type without a call of the service.
func Refuses(t *testing.T, typ string, function func(*Rig) queue.Function, refusals map[string]Refusal) {
	t.Helper()
	for name, c := range refusals {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := New(t, 1)
			e := Only(t, r.Process(function(r), r.Command(typ, "c1", c.Data)))
			failed := Data[events.CommandFailed](t, e)
			require.Equal(t, c.Kind, failed.Error.Kind)
			require.Contains(t, failed.Error.ErrorMsg, c.Text)
			require.Empty(t, r.Emulator.Requests(0, 0))
		})
	}
}

// ReadStatuses tests every status code and a network loss on a function whose call changes nothing.
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
			failed := OnlyData[events.CommandFailed](t, r.Follow(function(r), command(r)))
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
				require.NotEqual(t, events.TypeCommandFailed, e.Type, "got %s", e.Data)
			})
		}
	}
}

// WriteStatuses tests every status code and a network loss on a function whose call the service may accept only once.
// The command must be about one desktop. A refused call ends the command or is retried; a call that may have been
// accepted is searched for, and the service accepts one call however its answer was lost.
func WriteStatuses(t *testing.T, call string, function func(*Rig) queue.Function, command func(*Rig) queue.Delivery) {
	t.Helper()
	for _, s := range statuses() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			r := New(t, 3)
			r.Faults(emulator.Fault{Call: call, Times: 1, Do: s.do})
			f, c := function(r), command(r)
			if s.stops || s.retried {
				first := r.Process(f, c)
				require.Empty(t, first.Events)
				require.Equal(t, s.stops, first.Stop != nil)
				require.NotNil(t, first.Delay, "the message is kept")
				e := Only(t, r.Follow(f, r.Later(first.Delay)))
				require.Equal(t, events.TypeJobAccepted, e.Type, "nothing was done, so the call is retried; got %s", e.Data)
				requests, accepted := r.Calls(call)
				require.Equal(t, [2]int{2, 1}, [2]int{requests, accepted})
				return
			}
			if s.lost {
				lost(t, r, f, c, call, s)
				return
			}
			first := Only(t, r.Follow(f, c)) // after a search: the answer may belong to a second delivery of the call
			failed := Data[events.CommandFailed](t, first)
			require.Equal(t, s.write, failed.Error.Kind)
			require.Equal(t, s.effect, failed.Effect)
			require.NotEmpty(t, failed.DesktopIDs)
			require.Equal(t, s.do.Status, failed.Error.HTTPStatus)
			require.Equal(t, s.do.ErrorCode, failed.Error.ErrorCode)
			repeated := Only(t, r.Process(f, c))
			require.Equal(t, first, repeated, "a second delivery returns the same event")
			requests, accepted := r.Calls(call)
			require.Equal(t, [2]int{1, 0}, [2]int{requests, accepted})
		})
	}
}

// lost follows a call whose answer was lost.
func lost(t *testing.T, r *Rig, f queue.Function, c queue.Delivery, call string, s status) {
	t.Helper()
	begin := r.Clock.Now()
	first := r.Process(f, c)
	Unclear(t, first)
	accepted := OnlyData[events.JobAccepted](t, r.Follow(f, r.Later(first.Delay)))
	jobs := r.Emulator.State().Jobs
	require.Len(t, jobs, 1, "the service accepted one call")
	require.Equal(t, jobs[0].ID, accepted.JobID)
	requests, jobCount := r.Calls(call)
	took := r.Clock.Now().Sub(begin)
	if s.taken {
		require.Equal(t, [2]int{1, 1}, [2]int{requests, jobCount}, "found and adopted")
		require.Less(t, took, 5*time.Minute)
		return
	}
	require.Equal(t, [2]int{2, 1}, [2]int{requests, jobCount}, "proved absent and repeated")
	require.Greater(t, took, 16*time.Minute)
}
