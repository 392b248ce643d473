package queue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

// rebuildsOf is a rebuild of these desktops, with the id of command().
func rebuildsOf(ids ...string) events.Envelope {
	e := command()
	data, err := json.Marshal(events.Rebuild{DesktopIDs: ids, ImageType: "gold", ImageID: "i-1"})
	if err != nil {
		panic(err)
	}
	e.Data = data
	return e
}

// However a command fails, its command.failed names it with the digest of its data, where that can be decoded, and the
// desktops, where they can be read.
func TestCommandFailedNamesDataAndDesktops(t *testing.T) {
	t.Parallel()
	decodes := func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, queue.Failed(events.KindConflict, "no")
	}
	fails := func(err error) func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return func(context.Context, queue.Command) ([]queue.Outcome, error) { return nil, err }
	}
	strict := func(_ context.Context, c queue.Command) ([]queue.Outcome, error) {
		_, err := events.DecodeRebuild(c.Envelope.Data)
		return nil, queue.Invalid(err)
	}
	with := func(change func(*events.Envelope)) queue.Delivery {
		e := command()
		change(&e)
		return delivery(t, e)
	}
	data := func(text string) queue.Delivery {
		return with(func(e *events.Envelope) { e.Data = json.RawMessage(text) })
	}
	bare := func(text string, noID bool) queue.Delivery {
		d := delivery(t, command())
		d.Headers, d.Body, d.Bare.NoID = nil, []byte(text), noID
		return d
	}
	last := func(d queue.Delivery) queue.Delivery {
		d.Deliveries = 99
		return d
	}
	one := []string{"d-1"}
	for name, c := range map[string]struct {
		d        queue.Delivery
		change   func(*queue.Function)
		kind     string
		digest   string
		desktops []string
	}{
		"a failure":               {delivery(t, command()), func(f *queue.Function) { f.Handle = decodes }, events.KindConflict, rebuildDigest, one},
		"the project":             {delivery(t, command()), func(f *queue.Function) { f.Handle = fails(queue.CheckProject("other", "own")) }, events.KindNotAllowed, rebuildDigest, one},
		"an unknown field":        {data(`{"desktop_ids":["d-1","d-2"],"image_type":"gold","imageId":"i-1"}`), func(f *queue.Function) { f.Handle = strict }, events.KindInvalid, "", []string{"d-1", "d-2"}},
		"a wrong field":           {data(`{"desktop_ids":["d-1"],"image_type":"gold","image_id":"i-1","delay_time":-1}`), func(f *queue.Function) { f.Handle = strict }, events.KindInvalid, "", one},
		"some ids that are none":  {data(`{"desktop_ids":["d-1","../x"],"image_type":"gold","image_id":"i-1"}`), func(f *queue.Function) { f.Handle = strict }, events.KindInvalid, "", one},
		"no JSON":                 {bare(`{"desktop_ids":["d-1"]`, false), nil, events.KindInvalid, "", nil},
		"a limit of the worker's": {delivery(t, command()), func(f *queue.Function) { f.Handle = fails(queue.Failed(events.KindInvalid, "delay_time")) }, events.KindInvalid, rebuildDigest, one},
		"an invalid envelope":     {bare(`{"specversion":"1.0","id":"i","source":"s","type":"`+events.TypeRebuild+`","expirytime":"later","data":`+rebuildData+`}`, false), nil, events.KindInvalid, rebuildDigest, one},
		"a later version":         {with(func(e *events.Envelope) { e.Type = "recompose.command.rebuild.v2" }), nil, events.KindInvalid, "", one},
		"the type of another function": {with(func(e *events.Envelope) {
			e.Type, e.Data = events.TypeGetDesktop, json.RawMessage(`{"desktop_id":"d-1"}`)
		}), nil, events.KindInvalid, events.Digest(events.GetDesktop{DesktopID: "d-1"}), one},
		"bare, without an id":            {bare(rebuildData, true), nil, events.KindInvalid, rebuildDigest, one},
		"oversize":                       {data(`{"desktop_ids":["d-1"],"image_type":"gold","image_id":"i-1","x":"` + strings.Repeat("x", events.MaxMessage) + `"}`), nil, events.KindInvalid, "", one},
		"permanent":                      {delivery(t, command()), func(f *queue.Function) { f.Handle = fails(queue.Permanent(errService)) }, events.KindInternal, rebuildDigest, one},
		"permanent because of a failure": {delivery(t, command()), func(f *queue.Function) { f.Handle = fails(queue.Permanent(queue.Failed(events.KindRefused, "no"))) }, events.KindRefused, rebuildDigest, one},
		"used up":                        {last(delivery(t, command())), nil, events.KindAttemptsUsedUp, rebuildDigest, one},
		"used up, undecodable":           {last(data(`{"desktop_ids":["d-1"]}`)), nil, events.KindAttemptsUsedUp, "", one},
		"used up, and giving up fails": {last(delivery(t, command())), func(f *queue.Function) {
			f.GiveUp = func(context.Context, queue.Command, string) ([]queue.Outcome, error) { panic("boom") }
		}, events.KindAttemptsUsedUp, rebuildDigest, one},
		"used up, by the function": {last(delivery(t, command())), func(f *queue.Function) {
			f.GiveUp = func(_ context.Context, c queue.Command, reason string) ([]queue.Outcome, error) {
				return []queue.Outcome{queue.Failed(events.KindUnknownOutcome, "%s", reason).Outcome(c)}, nil
			}
		}, events.KindUnknownOutcome, rebuildDigest, one},
		"a reaction": {delivery(t, made()), func(f *queue.Function) { f.Handle = decodes }, events.KindConflict, made2Digest, one},
		"a reaction that cannot be made": {delivery(t, acceptedOf("d-1")), func(f *queue.Function) {
			f.Reacts = []string{events.TypeJobAccepted}
			f.React = func(events.Envelope) (events.Envelope, bool, error) { return events.Envelope{}, false, errService }
		}, events.KindInternal, "", one},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			if c.change != nil {
				c.change(&r.Function)
			}
			got := r.process(t, c.d)
			e, published := failure(t, got)
			require.Equal(t, c.kind, published.Error.Kind, published.Error.ErrorMsg)
			require.Equal(t, c.digest, published.Command.Digest)
			require.Equal(t, c.desktops, published.DesktopIDs)
			require.Equal(t, got, r.process(t, c.d), "the same once more")
			requireReadable(t, e)
		})
	}
}

// made2Digest is the digest of the rebuild that made() implies.
var made2Digest = events.Digest(events.Rebuild{DesktopIDs: []string{"d-1"}, ImageType: "private", ImageID: "i-1"})

// acceptedOf is an event of a job with a desktop.
func acceptedOf(desktop string) events.Envelope {
	e := acceptedEvent()
	e.Data = json.RawMessage(fmt.Sprintf(`{"function":"rebuild","job_id":"j-1","desktop_ids":[%q]}`, desktop))
	return e
}

// Each data that is sent under one id has an end and delayed forms of its own; each spelling of it has the same.
func TestEachDataHasItsOwnEndAndForms(t *testing.T) {
	t.Parallel()
	first, second := rebuildsOf("d-1"), rebuildsOf("d-1", "d-2")
	spelled := first
	spelled.Data = json.RawMessage(` {"image_id":"i-1", "image_type":"gold", "desktop_ids":["d\u002d1"], "delay_time":0} `)
	for name, err := range map[string]error{
		"failed":    queue.Failed(events.KindNotAllowed, "no"),
		"permanent": queue.Permanent(errService),
		"retry":     queue.RetryAfter(time.Minute, nil),
		"stop":      queue.Stop(errService),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setup(t)
			r.handles(nil, err)
			named := func(e events.Envelope) string {
				got := r.process(t, delivery(t, e))
				if got.Delay != nil {
					return got.Delay.Identity
				}
				require.Len(t, got.Events, 1)
				require.Equal(t, e.Digest(), got.Events[0].Answered().Digest)
				return got.Events[0].ID
			}
			require.NotEqual(t, named(first), named(second))
			require.Equal(t, named(first), named(spelled))
		})
	}
	require.Equal(t, []string{"a", "b"}, queue.Command{}.AboutData("a", "b"))
	require.Equal(t, []string{"a", "d"}, queue.Command{Digest: "d"}.AboutData("a"))
}
