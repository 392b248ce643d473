//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/testkit/awstest"
)

// fleet is what a test of reused ids works on: the functions on a transport, and their service.
type fleet struct {
	url       string // of the emulator
	image     emulator.Image
	ids       []string
	cli       func(args ...string) ran
	published func() []events.Envelope
	sources   map[string]string // door → source of what comes in by it
	// put puts a command in by a door, and reports whether the transport dropped it as a duplicate.
	put func(door, id, data string) (duplicate bool)
}

// doors are the ways in beside recompose send.
var doors = []string{"bare", "structured", "binary"}

// message is a command as it comes in by a door.
func message(t *testing.T, door, id, data string) (headers map[string]string, body string) {
	t.Helper()
	switch door {
	case "structured":
		e := events.Envelope{ID: id, Source: sendSource, Type: events.TypeRebuild, Data: json.RawMessage(data)}
		return map[string]string{"Content-Type": events.ContentType}, string(mustJSON(t, e))
	case "binary":
		return map[string]string{
			"ce-specversion": "1.0", "ce-id": id, "ce-source": sendSource, "ce-type": events.TypeRebuild, "Content-Type": "application/json",
		}, data
	}
	return map[string]string{}, data
}

// rebuild is a rebuild of these desktops, also where they run the image already.
func (f *fleet) rebuild(ids ...string) events.Rebuild {
	return events.Rebuild{
		DesktopIDs: ids, ImageID: f.image.ID, ImageType: f.image.ImageType, RebuildOptions: events.RebuildOptions{RebuildCurrent: true},
	}
}

// send is the command line of the same rebuild.
func (f *fleet) send(id string, r events.Rebuild, more ...string) ran {
	args := []string{"send", "rebuild", "--id", id, "--desktop-ids", strings.Join(r.DesktopIDs, ","),
		"--image-id", r.ImageID, "--image-type", r.ImageType, "--rebuild-current"}
	return f.cli(append(args, more...)...)
}

// end waits until the command with this data has ended, and returns the events of its chain.
func (f *fleet) end(t *testing.T, door, id string, data events.Rebuild) []events.Envelope {
	t.Helper()
	root := events.Root{ID: id, Source: f.sources[door], Digest: events.Digest(data)}
	eventually(t, func() bool { return len(events.Open(root, f.published())) == 0 }, "%s does not end by the door %s", id, door)
	return events.Chain(root, f.published())
}

func requireReused(t *testing.T, published []events.Envelope, data events.Rebuild) {
	t.Helper()
	require.Len(t, published, 1)
	var failed events.CommandFailed
	require.NoError(t, json.Unmarshal(published[0].Data, &failed))
	require.Equal(t, events.KindIDReused, failed.Error.Kind)
	require.Equal(t, events.Digest(data), failed.Command.Digest)
	require.Equal(t, data.DesktopIDs, failed.DesktopIDs)
}

func newFleet(t *testing.T, url string) *fleet {
	t.Helper()
	f := &fleet{url: url, ids: slices.Sorted(maps.Keys(rebuilds(t, url)))}
	f.sources = map[string]string{"structured": sendSource, "binary": sendSource}
	var state emulator.State
	getJSON(t, url+"/_emulator/state", &state)
	f.image = state.Images[0]
	return f
}

// fleetOnNATS is `recompose up` and a plain client of its NATS server.
func fleetOnNATS(t *testing.T, desktops int) (*fleet, jetstream.JetStream) {
	t.Helper()
	natsAt, emulatorAt := freePort(t), freePort(t)
	p := start(t, nil, binary(t, "recompose"), "up", "--data", t.TempDir(), "--nats-listen", natsAt, "--emulator-listen", emulatorAt,
		"--desktops", fmt.Sprint(desktops), "--speed", "1000")
	p.prints(t, "Ctrl-C ends it")
	nc, err := nats.Connect("nats://" + natsAt)
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	q, err := natsqueue.New(nc, natsqueue.Options{})
	require.NoError(t, err)

	f := newFleet(t, "http://"+emulatorAt)
	f.sources["bare"] = "nats/RECOMPOSE_COMMANDS"
	f.cli = func(args ...string) ran { return finish(t, []string{"NATS_URL=nats://" + natsAt}, args...) }
	f.published = func() (published []events.Envelope) {
		require.NoError(t, q.Read(t.Context(), natsqueue.Since{}, false, func(e events.Envelope, _ time.Time, _ uint64) (bool, error) {
			published = append(published, e)
			return true, nil
		}))
		return published
	}
	f.put = func(door, id, data string) bool {
		headers, body := message(t, door, id, data)
		m := nats.NewMsg(events.TypeRebuild)
		m.Data = []byte(body)
		m.Header.Set("Nats-Msg-Id", id)
		for name, value := range headers {
			m.Header.Set(name, value)
		}
		ack, err := js.PublishMsg(t.Context(), m)
		require.NoError(t, err)
		return ack.Duplicate
	}
	return f, js
}

// shorten makes the time short in which the entrance drops duplicates.
func shorten(t *testing.T, js jetstream.JetStream) {
	t.Helper()
	s, err := js.Stream(t.Context(), "RECOMPOSE_COMMANDS")
	require.NoError(t, err)
	c := s.CachedInfo().Config
	c.Duplicates = 100 * time.Millisecond
	_, err = js.UpdateStream(t.Context(), c)
	require.NoError(t, err)
}

func fleetOnAWS(t *testing.T, desktops int) *fleet {
	t.Helper()
	s := deploy(t, desktops, nil)
	f := newFleet(t, s.url)
	f.sources["bare"] = "sqs/" + events.FnRebuild
	f.cli = func(args ...string) ran { return s.run(t, append(args, "--aws", "recompose")...) }
	f.published = func() (published []events.Envelope) {
		for _, m := range s.Published() {
			var e events.Envelope
			if json.Unmarshal([]byte(m.Body), &e) == nil && events.IsEvent(e.Type) {
				published = append(published, e)
			}
		}
		return published
	}
	f.put = func(door, id, data string) bool {
		attributes, body := message(t, door, id, data)
		if door == "bare" {
			attributes["id"] = id
		}
		require.NoError(t, s.Send(events.FnRebuild, body, attributes))
		return false
	}
	return f
}

// `send --id nightly` for one desktop, and later for 300 others: the first chain's success is not theirs.
func TestAReusedIDIsNoSuccess(t *testing.T) {
	t.Parallel()
	f, js := fleetOnNATS(t, 301)
	one, others := f.rebuild(f.ids[0]), f.rebuild(f.ids[1:]...)
	r := f.send("nightly", one, "--wait")
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "1 rebuilt, 1 verified, 0 failed")

	failedTo := filepath.Join(t.TempDir(), "failed.txt")
	reused := func(r ran) {
		t.Helper()
		require.Equal(t, exitFailed, r.code, r.out+r.errOut)
		require.Contains(t, r.out, "rebuild failed (id_reused)")
		require.NotContains(t, r.out, "1 rebuilt", "nothing of the other data")
		require.Contains(t, r.out, "  FAILED  300 desktops: id reused, ")
	}
	done := func(r ran) {
		t.Helper()
		require.Equal(t, exitDone, r.code, r.out+r.errOut)
		require.Contains(t, r.out, "1 rebuilt, 1 verified, 0 failed, 0 skipped\nsucceeded\n")
	}
	for _, window := range []string{"inside", "outside"} {
		reused(f.send("nightly", others, "--wait", "--failed-to", failedTo))
		done(f.send("nightly", one, "--wait"))

		// Without --wait it is sent; what it prints to follow it ends the same way.
		r := f.send("nightly", others)
		require.Equal(t, exitDone, r.code, r.errOut)
		_, hint, _ := strings.Cut(r.out, " wait ")
		require.Equal(t, "nightly --digest "+events.Digest(others)+" --for-ever", strings.TrimSpace(hint))
		reused(f.cli(append([]string{"wait"}, strings.Fields(hint)...)...))
		done(f.cli("wait", "nightly", "--digest", events.Digest(one)))

		r = f.cli("wait", "nightly")
		require.Equal(t, exitFailed, r.code, "whichever data: not all of it was done")
		require.Contains(t, r.out, "1 rebuilt")
		require.Contains(t, r.out, "(id_reused)")
		r = f.cli("wait", "nightly", "--digest", events.Digest(f.rebuild("never-sent")), "--timeout", "300ms")
		require.Equal(t, exitUnknown, r.code, r.out)
		require.Empty(t, r.out)

		if window == "inside" {
			shorten(t, js)
			for _, data := range []events.Rebuild{one, others} {
				eventually(t, func() bool {
					var sent struct {
						Digest    string
						Duplicate bool
					}
					require.NoError(t, json.Unmarshal([]byte(f.send("nightly", data, "--json").out), &sent))
					require.Equal(t, events.Digest(data), sent.Digest)
					return !sent.Duplicate
				}, "the time of duplicates does not pass")
			}
		}
	}
	require.Len(t, acceptedWrites(t, f.url), 1)
	for id, n := range rebuilds(t, f.url) {
		require.Equal(t, id == f.ids[0], n == 1, id)
	}
}

// An id that is used for other data ends as id_reused, whichever way the command comes in: never as the first one did.
func TestReusedIDsThroughEveryDoor(t *testing.T) {
	t.Parallel()
	t.Run("NATS", func(t *testing.T) {
		t.Parallel()
		f, js := fleetOnNATS(t, 6)
		for i, door := range doors { // within the time of duplicates
			id, first, second := "inside-"+door, f.rebuild(f.ids[i]), f.rebuild(f.ids[5])
			require.False(t, f.put(door, id, string(mustJSON(t, first))))
			f.end(t, door, id, first)
			require.True(t, f.put(door, id, string(mustJSON(t, second))), "its sender sees that it was dropped")
			r := f.cli("wait", id, "--digest", events.Digest(second), "--timeout", "300ms")
			require.Equal(t, exitUnknown, r.code, r.out)
			require.Zero(t, rebuilds(t, f.url)[f.ids[5]])
		}
		shorten(t, js)
		throughEveryDoor(t, f)
		for _, door := range doors {
			id := "outside-" + door
			require.Equal(t, exitFailed, f.cli("wait", id, "--digest", events.Digest(f.rebuild(f.ids[3]))).code)
			require.Equal(t, exitFailed, f.cli("wait", id).code)
		}
	})
	t.Run("AWS", func(t *testing.T) {
		t.Parallel()
		throughEveryDoor(t, fleetOnAWS(t, 6))
	})
}

func throughEveryDoor(t *testing.T, f *fleet) {
	t.Helper()
	before := rebuilds(t, f.url)
	for i, door := range doors {
		id, first, second := "outside-"+door, f.rebuild(f.ids[i]), f.rebuild(f.ids[3])
		require.False(t, f.put(door, id, string(mustJSON(t, first))))
		chain := f.end(t, door, id, first)
		require.Equal(t, events.TypeJobAccepted, chain[0].Type)

		eventually(t, func() bool { return !f.put(door, id, string(mustJSON(t, second))) }, "the time of duplicates does not pass")
		requireReused(t, f.end(t, door, id, second), second)
		require.Len(t, f.end(t, door, id, first), len(chain), "the first one ends as before")

		// The command line after it. An id belongs to its source: that of a bare message is another.
		r := f.send(id, second, "--wait", "--timeout", "80s")
		if door == "bare" {
			require.Equal(t, exitDone, r.code, r.out+r.errOut)
			require.Contains(t, r.out, "1 rebuilt, 1 verified")
			r = f.send(id, f.rebuild(f.ids[4]), "--wait", "--timeout", "80s")
		}
		require.Equal(t, exitFailed, r.code, r.out+r.errOut)
		require.Contains(t, r.out, "(id_reused)")
		require.NotRegexp(t, `[1-9]\d* rebuilt,`, r.out)
	}
	after := rebuilds(t, f.url)
	for i, id := range f.ids {
		require.Equal(t, i < 4, after[id] == before[id]+1, "desktop %d: %d, then %d", i, before[id], after[id])
	}
}

// On AWS nothing keeps events: an end is republished for each command that is delivered once more.
func TestAReusedIDOnAWS(t *testing.T) {
	t.Parallel()
	f := fleetOnAWS(t, 4)
	one, others := f.rebuild(f.ids[0]), f.rebuild(f.ids[1:]...)
	r := f.send("nightly", one, "--wait", "--timeout", "80s")
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	for range 2 {
		r = f.send("nightly", others, "--wait", "--timeout", "80s")
		require.Equal(t, exitFailed, r.code, r.out+r.errOut)
		require.Contains(t, r.out, "(id_reused)")
		require.Equal(t, 3, strings.Count(r.out, "  FAILED  "))
		r = f.send("nightly", one, "--wait", "--timeout", "80s")
		require.Equal(t, exitDone, r.code, r.out+r.errOut)
		require.Contains(t, r.out, "1 rebuilt, 1 verified")

		r = f.send("nightly", others, "--json")
		require.Equal(t, exitDone, r.code, r.errOut)
		require.JSONEq(t, `{"id":"nightly","correlationid":"nightly","topic":"`+awstest.TopicARN+`","digest":"`+events.Digest(others)+`"}`, r.out)
	}
	require.Len(t, acceptedWrites(t, f.url), 1)
}
