//go:build unix

package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
)

// The ids of dead letters are as docs/dead-letters.md describes them, and the same on NATS and on AWS: what list prints, what
// --json prints and what command.failed names are all taken by show, redrive and drop.
func TestIDsOfDeadLettersAreAsDocumented(t *testing.T) {
	t.Parallel()
	const data = `{"desktop_id":"d1"}`
	for name, give := range map[string]func(t *testing.T) func(args ...string) ran{
		"NATS": func(t *testing.T) func(args ...string) ran {
			w := newWard(t, onEmulator)
			for i, id := range []string{"first", "second"} {
				body, err := json.Marshal(events.Envelope{ID: id, Source: sendSource, Type: events.TypeGetDesktop, Data: json.RawMessage(data)})
				require.NoError(t, err)
				w.publish(t, i+1, events.TypeGetDesktop, id, string(body))
			}
			return func(args ...string) ran { return w.run(t, args...) }
		},
		"AWS": func(t *testing.T) func(args ...string) ran {
			s := deploy(t, 1, func(f *queue.Function) {
				f.Handle = func(context.Context, queue.Command) ([]queue.Outcome, error) {
					return nil, queue.Permanent(errors.New("ill"))
				}
			})
			run := func(args ...string) ran { return s.run(t, append(args, "--aws", "recompose")...) }
			for _, id := range []string{"first", "second"} {
				require.Equal(t, exitDone, run("send", "getdesktop", "--desktop-id", "d1", "--id", id).code)
			}
			eventually(t, func() bool { return len(s.Messages("getdesktop-dead")) == 2 }, "both are given up")
			return run
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run := give(t)
			printed := strings.Split(run("dead", "list").out, "\n")
			listed := lines[deadJSON](t, run("dead", "list", "--json").out)
			require.Len(t, listed, 2)
			for i, l := range listed {
				require.Regexp(t, `^[a-z2-7]{52}$`, l.ID)
				require.Equal(t, queue.DeadLetterID(events.Identity(sendSource, l.Command.ID), l.Function, l.Class), l.ID)
				short, _, _ := strings.Cut(printed[i], " ")
				require.Equal(t, l.ID[:12], short)
				for _, id := range []string{l.ID, short} {
					r := run("dead", "show", id)
					require.Equal(t, exitDone, r.code, r.errOut)
					require.Contains(t, r.out, "dead letter  "+l.ID+"\n")
					r = run("dead", "redrive", id, "--dry-run")
					require.Equal(t, exitDone, r.code, r.errOut)
					require.Contains(t, r.out, "1 dead letter, nothing was done\n")
				}
			}
			r := run("dead", "show", "0nosuch")
			require.Equal(t, exitFailed, r.code)
			require.Contains(t, r.errOut, `"0nosuch": no such dead letter`)
			r = run("dead", "drop", listed[0].ID[:12])
			require.Equal(t, exitDone, r.code, r.errOut)
			left := lines[deadJSON](t, run("dead", "list", "--json").out)
			require.Len(t, left, 1)
			require.Equal(t, listed[1].ID, left[0].ID)
		})
	}
	for _, page := range []string{"dead-letters", "aws"} {
		content, err := os.ReadFile("../../docs/" + page + ".md")
		require.NoError(t, err)
		ids := regexp.MustCompile(`recompose dead \w+ ([0-9a-z]\S+)`).FindAllStringSubmatch(string(content), -1)
		require.NotEmpty(t, ids, page)
		for _, id := range ids {
			require.Regexp(t, `^[a-z2-7]{12}$`, id[1], page)
		}
	}
}

// A beginning of several ids is refused with the ids; a letter that recompose did not make has its number.
func TestIDsOfDeadLettersThatAreNotUnique(t *testing.T) {
	t.Parallel()
	w := newWard(t, onEmulator)
	for i := range 2 {
		_, err := w.nc.RequestMsg(&nats.Msg{Subject: "recompose.dead.getdesktop", Data: []byte("x")}, within)
		require.NoError(t, err)
		w.letters(t, i+1)
	}
	r := w.run(t, "dead", "show", "unnamed")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, `"unnamed": several ids begin with it: unnamed-1, unnamed-2; give a longer prefix`)
	require.NotContains(t, r.errOut, "--help", "the use is right")
	require.Equal(t, exitDone, w.run(t, "dead", "show", "unnamed-2").code)
}
