package main

import (
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
	"recompose/shared/safety"
	"recompose/shared/testkit/natstest"
)

func TestFreezeAndThaw(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	r := w.run(t, "thaw")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Equal(t, "before    not frozen\nnow       not frozen\n", r.out)

	r = w.run(t, "freeze", "--reason", " image \x1b[31m is wrong ")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `^before    not frozen\nnow       frozen since \d{4}-\S+ \S+ by \S+@\S+: image \\x1b\[31m is wrong\nNo further write`, r.out)
	require.Regexp(t, `^now       frozen since .*: image \\x1b\[31m is wrong\n$`, w.run(t, "freeze", "--status").out)
	require.Contains(t, w.run(t, "freeze", "--status", "--json").out, `"now":{"reason":"image \u001b[31m is wrong","by":"`)
	require.Equal(t, exitUsage, w.run(t, "freeze", "--status", "--reason", "r").code)
	first, err := w.operators().Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "image \x1b[31m is wrong", first.Reason)

	require.NoError(t, w.operators().SetFreeze(t.Context(), safety.Freeze{Reason: "another", By: "o@h", At: first.At}))
	r = w.run(t, "thaw")
	require.Regexp(t, `^before    frozen since .*: another\nnow       not frozen\n$`, r.out)
	require.JSONEq(t, `{"before":null,"now":null}`, w.run(t, "thaw", "--json").out)

	js, err := jetstream.New(w.nc)
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "RECOMPOSE_LEDGER")
	require.NoError(t, err)
	_, err = kv.PutString(t.Context(), "freeze", "{")
	require.NoError(t, err)
	r = w.run(t, "thaw")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "damaged")
	require.Contains(t, r.out, "now       not frozen\n")
}

func TestFreezeWhereThereIsNothingToFreeze(t *testing.T) {
	t.Parallel()
	server := natstest.Start(t, embednats.Options{Listen: "127.0.0.1:0"}).Server
	r := program(t, "", "freeze", "--reason", "r", "--nats-url", server.ClientURL())
	require.Equal(t, exitUsage, r.code, "a freeze that no worker reads would be a lie")
	require.Contains(t, r.errOut, "run recompose setup")
}

// TestFrozenWritesContinueAfterThaw freezes a running `recompose up`.
func TestFrozenWritesContinueAfterThaw(t *testing.T) {
	t.Parallel()
	h := newHome(t, 2)
	require.Equal(t, exitDone, h.run(t, "freeze", "--reason", "look first").code)
	sent := make(chan ran, 1)
	go func() { sent <- h.rebuild(t) }()

	nc, err := nats.Connect(h.nats)
	require.NoError(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	waits := func(times uint64) func() bool {
		return func() bool {
			s, err := js.Stream(t.Context(), "RECOMPOSE_NEXT")
			return err == nil && s.CachedInfo().State.LastSeq >= times
		}
	}
	eventually(t, waits(4), "the write is not stored as a delayed message")
	require.Empty(t, acceptedWrites(t, h.emulator))
	r := h.run(t, "send", "getdesktop", "--desktop-id", h.world.Desktops[1].DesktopID, "--wait")
	require.Equal(t, exitDone, r.code, "reads continue: "+r.errOut)

	require.Equal(t, exitDone, h.run(t, "thaw").code)
	r = <-sent
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.Len(t, acceptedWrites(t, h.emulator), 1)

	id := strings.Fields(r.field(t, "rebuild command"))[0]
	r = h.run(t, "trace", id)
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Regexp(t, `(?s)^rebuild command `+id+`\n└─ .* job \S+ accepted: 1 desktop .*\[POST check-images\]  \[POST rebuild, request \S+\]\n   └─ .*checkimages command .*open      nothing: it has ended\n$`, r.out)
}
