package main

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// An id with events of other data only is as unknown as one without events.
func TestWaitForDataThatHasNoEvent(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	digest, other := events.Digest(events.CheckImages{DesktopIDs: []string{"d1"}}), events.Digest(events.CheckImages{DesktopIDs: []string{"d2"}})
	e := published(t, events.FnRebuild, events.TypeCommandFailed, "e", "nightly", events.CommandFailed{
		Command: events.CommandRef{Type: events.TypeRebuild, ID: "nightly", Digest: other}, Error: events.Failure{Kind: events.KindIDReused},
	})
	e.Correlation = "nightly"
	_, err := w.nc.Request(e.Type, mustJSON(t, e), within)
	require.NoError(t, err)
	require.Equal(t, exitFailed, w.run(t, "wait", "nightly", "--digest", other).code)
	r := w.run(t, "wait", "nightly", "--digest", digest)
	require.Equal(t, exitUnknown, r.code)
	require.NotContains(t, r.out, "id_reused")
	require.Contains(t, r.errOut, "how chain nightly ended is not known: no event of it within 5s")
	require.Contains(t, r.errOut, " wait nightly --digest "+digest+" --for-ever --nats-url ", "the hint keeps the data")
	require.Contains(t, r.errOut, "\nThe chain has events, but none of this command with this data")
	require.NotContains(t, r.errOut, "older than 30 days")
	require.Contains(t, pasted(t, r.errOut, "To see them: ").out, "(id_reused)")
}

// A chain whose correlation id its sender chose has not ended while another command of it waits without an event.
func TestWaitForACommandThatHasNoEventYet(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	e := published(t, events.FnCheckImages, events.TypeImagesChecked, "checked", "c1", events.ImagesChecked{
		Command: events.CommandRef{Type: events.TypeCheckImages, ID: "c1", Source: sendSource},
	})
	e.Correlation = "batch"
	_, err := w.nc.Request(e.Type, mustJSON(t, e), within)
	require.NoError(t, err)
	require.Equal(t, exitDone, w.run(t, "wait", "batch").code)
	require.Equal(t, exitDone, w.run(t, "send", "getdesktop", "--desktop-id", "d1", "--id", "c2", "--correlation", "batch").code)
	r := w.run(t, "wait", "batch")
	require.Equal(t, exitUnknown, r.code, r.out)
	require.Contains(t, r.errOut, "how chain batch ended is not known: a command of it has no event yet")
	require.Contains(t, r.errOut, "Still open: getdesktop command c2")
	require.Equal(t, exitDone, w.run(t, "wait", "batch", "--command", "c1").code)
}

// A bare message under the id of a command with a digest, which cannot be decoded, is not that command: wait ends as the
// command did, and does not end while it has not.
func TestWaitWithADigestPassesOverUndecodableData(t *testing.T) {
	t.Parallel()
	w := deserted(t)
	data := events.CheckImages{DesktopIDs: []string{"d1"}}
	publish := func(e events.Envelope) {
		t.Helper()
		e.Correlation = "nightly"
		_, err := w.nc.Request(e.Type, mustJSON(t, e), within)
		require.NoError(t, err)
	}
	publish(published(t, events.FnCheckImages, events.TypeCommandFailed, "invalid", "nightly", events.CommandFailed{
		Command: events.CommandRef{Type: events.TypeCheckImages, ID: "nightly", Source: "nats/RECOMPOSE_COMMANDS"},
		Error:   events.Failure{Kind: events.KindInvalid, ErrorMsg: "nonsense: is not a field here"},
	}))
	r := w.run(t, "wait", "nightly", "--digest", events.Digest(data))
	require.Equal(t, exitUnknown, r.code, r.out)
	require.NotContains(t, r.out, "FAILED")
	require.Contains(t, r.errOut, "a command nightly of nats/RECOMPOSE_COMMANDS was refused as invalid, and its data has no digest, so it may be another command")
	require.Equal(t, exitFailed, w.run(t, "wait", "nightly").code, "whichever data")

	publish(published(t, events.FnCheckImages, events.TypeImagesChecked, "checked", "nightly", events.ImagesChecked{
		Command: events.CommandRef{Type: events.TypeCheckImages, ID: "nightly", Source: sendSource, Digest: events.Digest(data)},
	}))
	r = w.run(t, "wait", "nightly", "--digest", events.Digest(data))
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.NotContains(t, r.out, "invalid")
}
