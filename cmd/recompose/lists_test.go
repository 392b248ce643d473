//go:build unix

package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/safety"
	"recompose/shared/testkit/awstest"
)

func TestListsOnAWS(t *testing.T) {
	t.Parallel()
	s := deploy(t, 4, nil)
	ids := s.world.DesktopIDs()
	lists := func(args ...string) ran {
		t.Helper()
		r := s.run(t, append([]string{"lists"}, args...)...)
		require.Equal(t, exitDone, r.code, r.out+r.errOut)
		return r
	}
	capture := func(id string) ran {
		return s.run(t, "send", "desktoptoimage", "--aws", "recompose", "--id", id, "--desktop-id", ids[0], "--image-name", "golden-"+id,
			"--execute-sysprep=true", "--wait", "--timeout", "80s")
	}
	r := lists("show", "--aws", "recompose")
	require.Equal(t, "in        stack recompose in us-east-1\ndeny      not set\nallow     not set: every desktop that is not on the deny list may be written to\n", r.out)

	r = lists("set", "--aws", "recompose", "--allow", fileOf(t, ids[1:]))
	require.Regexp(t, `^in             stack recompose in us-east-1
allow before   not set: every desktop that is not on the deny list may be written to
allow now      3 desktops, set \d{4}-\S+ \S+ by \S+@\S+
allow added    3: \S+, \S+, \S+
It applies from the next write on\. .*\n$`, r.out)
	r = capture("one")
	require.Equal(t, exitFailed, r.code, r.out+r.errOut)
	require.Contains(t, r.out, events.KindNotAllowed)
	require.Empty(t, acceptedWrites(t, s.url))

	r = lists("set", "--aws", "recompose", "--allow", fileOf(t, ids[:1]), "--allow", fileOf(t, ids[1:2]))
	require.Contains(t, r.out, "allow before   3 desktops, set ")
	require.Contains(t, r.out, "allow now      2 desktops, set ")
	require.Contains(t, r.out, "allow added    1: "+ids[0]+"\n")
	require.Regexp(t, `allow removed  2: (`+ids[2]+`, `+ids[3]+`|`+ids[3]+`, `+ids[2]+`)\n`, r.out, "a list that shrinks is reported")
	require.Equal(t, exitDone, capture("two").code)
	require.Len(t, acceptedWrites(t, s.url), 1)

	require.Equal(t, exitDone, s.run(t, "lists", "set", "--aws", "recompose", "--deny", fileOf(t, []string{"# the lab", strings.ToUpper(ids[0]) + " # in any case"})).code)
	r = capture("three")
	require.Equal(t, exitFailed, r.code, r.out)
	require.Contains(t, r.out, events.KindNotAllowed)

	r = lists("show", "--aws", "recompose", "--allow", "--ids")
	kept := filepath.Join(t.TempDir(), "kept")
	require.NoError(t, os.WriteFile(kept, []byte(r.out), 0o600))
	var changes map[string]changedJSON
	require.NoError(t, json.Unmarshal([]byte(lists("set", "--aws", "recompose", "--allow", kept, "--json").out), &changes))
	require.Equal(t, 2, changes["allow"].Now.Count, "what show prints can be set")
	require.Equal(t, [2]int{}, [2]int{changes["allow"].Added, changes["allow"].Removed})

	r = lists("clear", "--aws", "recompose", "--deny", "--allow")
	require.Regexp(t, `(?s)deny now       not set\ndeny removed   1: .*allow now      not set: every desktop`, r.out)
	require.JSONEq(t, `{"allow":null,"deny":null}`, lists("show", "--aws", "recompose", "--json").out)
	require.Equal(t, exitDone, capture("four").code)
}

func TestWhatListsCannotDo(t *testing.T) {
	t.Parallel()
	s := deploy(t, 1, nil)
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, []byte("# nothing\n"), 0o600))
	bad := fileOf(t, []string{"a", "b c"})
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"nothing":              {nil, exitUsage, "missing command: show, set or clear"},
		"no server":            {[]string{"show", "--nats-url", "nats://127.0.0.1:1"}, exitUsage, "`recompose up` running"},
		"no such stack":        {[]string{"show", "--aws", "nosuch"}, exitUsage, `there is no stack "nosuch"`},
		"a topic":              {[]string{"show", "--aws", awstest.TopicARN}, exitUsage, "the name of the stack"},
		"ids of both":          {[]string{"show", "--aws", "recompose", "--ids"}, exitUsage, "give one of --allow and --deny"},
		"set no list":          {[]string{"set", "--aws", "recompose"}, exitUsage, "--allow FILE, --deny FILE or both"},
		"clear no list":        {[]string{"clear", "--aws", "recompose"}, exitUsage, "--allow, --deny or both"},
		"no such file":         {[]string{"set", "--aws", "recompose", "--allow", "/nonexistent/file"}, exitUsage, "--allow: open /nonexistent/file"},
		"a folder":             {[]string{"set", "--aws", "recompose", "--allow", "/"}, exitUsage, "--allow: read /: is a directory"},
		"no id":                {[]string{"set", "--aws", "recompose", "--allow", bad}, exitUsage, `--allow: ` + bad + `: line 2: "b c" is not a desktop id`},
		"a deny list of none":  {[]string{"set", "--aws", "recompose", "--deny", empty}, exitUsage, "recompose lists clear --deny"},
		"an argument too many": {[]string{"clear", "--deny", "x"}, exitUsage, `unexpected "x": clear takes no arguments`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := s.run(t, append([]string{"lists"}, test.args...)...)
			require.Equal(t, test.code, r.code, r.out+r.errOut)
			require.Contains(t, r.errOut, test.want)
		})
	}
}

func TestListsOnNATS(t *testing.T) {
	t.Parallel()
	r := newLossRig(t)
	do := func(want string, args ...string) string {
		t.Helper()
		ran := finish(t, r.env(), args...)
		require.Equal(t, exitDone, ran.code, ran.out+ran.errOut)
		require.Regexp(t, want, ran.out)
		return ran.out
	}
	do(`deny      not set\nallow     not set: every desktop that is not on the deny list may be written to`, "lists", "show")
	do(`deny now       2 desktops, set .* by \S+@\S+\n`, "lists", "set", "--deny", fileOf(t, r.desktops[:2]))
	r.send(t, 0, 3)
	eventually(t, func() bool { return r.ends(t) == 3 }, "the commands do not end")
	require.Equal(t, 1, r.writes(t), "two are denied")

	do(`now       frozen since`, "freeze", "--reason", "a test")
	do(`allow now      1 desktop, set`, "lists", "set", "--allow", fileOf(t, r.desktops[3:4]))
	do(`before    frozen since .*: a test\nnow       not frozen\n`, "thaw")
	r.send(t, 3, 5)
	eventually(t, func() bool { return r.ends(t) == 5 }, "the commands do not end")
	require.Equal(t, 2, r.writes(t), "one is not allowed, and the freeze lost no list")

	require.Equal(t, r.desktops[3]+"\n", lastLines(do(`.`, "lists", "show", "--allow", "--ids"), 1))
	do(`allow now      not set`, "lists", "clear", "--allow", "--deny")
	r.send(t, 5, 6)
	eventually(t, func() bool { return r.ends(t) == 6 }, "the command does not end")
	require.Equal(t, 3, r.writes(t))
}

// What a worker prints first and shows on its page are the lists that hold, not its files alone.
func TestAWorkerReportsTheListsOfTheDeployment(t *testing.T) {
	t.Parallel()
	env, url := cluster(t, 3)
	ids := slices.Sorted(maps.Keys(rebuilds(t, url)))
	require.Equal(t, exitDone, finish(t, env[:1], "setup").code)
	set := func(args ...string) {
		t.Helper()
		r := finish(t, env[:1], append([]string{"lists"}, args...)...)
		require.Equal(t, exitDone, r.code, r.errOut)
	}
	set("set", "--allow", fileOf(t, ids[:2]))
	at := freePort(t)
	w := start(t, append(env, "RECOMPOSE_HTTP_LISTEN="+at), binary(t, "recompose"), "run")
	w.prints(t, "working on")
	const only = "only those of the deployment's allow list (2)"
	require.True(t, strings.HasPrefix(w.out.String(), "EMULATOR\n"+only+" may be rebuilt\n"), w.out.String())
	shown := func(want string) {
		t.Helper()
		_, text := page(t, "http://"+at+"/readyz")
		require.Contains(t, text, want)
	}
	shown(only)
	set("set", "--deny", fileOf(t, ids[2:]))
	shown(only + ", none of its deny list (1)")
	set("clear", "--allow", "--deny")
	shown("every desktop of the project may be rebuilt")
	require.Equal(t, exitDone, w.interrupt(t))

	set("set", "--allow", fileOf(t, ids[:1]))
	w = start(t, append(env, safety.AllowVariable+"="+fileOf(t, ids)), binary(t, "recompose"), "run")
	w.prints(t, "working on")
	require.Contains(t, w.out.String(), "(3); and only those of the deployment's allow list (1)\n")
	require.Equal(t, exitDone, w.interrupt(t))
}

// lastLines are the last lines of a text.
func lastLines(text string, n int) string {
	lines := strings.SplitAfter(text, "\n")
	return strings.Join(lines[len(lines)-1-n:], "")
}

func TestATableDoesNotChooseTheLists(t *testing.T) {
	t.Parallel()
	env := []string{"RECOMPOSE_TABLE=" + ledgerTable, "NATS_URL=nats://127.0.0.1:1"}
	for _, args := range [][]string{{"show"}, {"set", "--allow", fileOf(t, []string{"a"})}, {"clear", "--deny"}} {
		r := finish(t, env, append([]string{"lists"}, args...)...)
		require.Equal(t, exitUsage, r.code, r.out+r.errOut)
		require.Contains(t, r.errOut, "RECOMPOSE_TABLE is "+ledgerTable)
		require.Contains(t, r.errOut, "--aws STACK")
		require.Contains(t, r.errOut, "--nats-url")
	}
	r := finish(t, env, "lists", "show", "--nats-url", "nats://127.0.0.1:1")
	require.Equal(t, exitUsage, r.code, "nothing was done")
	require.Contains(t, r.errOut, "`recompose up` running", "NATS is asked, as by freeze")
}

func TestListsThatCouldNotBeStored(t *testing.T) {
	t.Parallel()
	s := deploy(t, 1, nil)
	set := func(ids ...string) ran {
		return s.run(t, "lists", "set", "--aws", "recompose", "--allow", fileOf(t, ids))
	}
	require.Equal(t, exitDone, set("a").code)
	refused := new(safety.NotAllowed)
	require.ErrorAs(t, safety.New(safety.Options{Operators: s.operators()}).Check(t.Context(), []string{"a", "b"}), &refused)
	require.Equal(t, []string{"b"}, refused.Desktops)

	s.Fail(func(action string, _ int) int {
		if action == "PutItem" {
			return 500
		}
		return 0
	})
	r := set()
	require.Equal(t, exitUnknown, r.code, "of an empty list only the header is put")
	require.Contains(t, r.errOut, "it is unknown whether the change was stored")
	require.Equal(t, exitFailed, set("b").code, "the first page fails, and the list is as it was")
	s.Fail(nil)
	l, _, err := s.operators().ListIDs(t.Context(), safety.AllowList)
	require.NoError(t, err)
	require.Equal(t, 1, l.Count)
}

func TestAListFromStandardInput(t *testing.T) {
	t.Parallel()
	cmd := listsCommand()
	cmd.SetIn(strings.NewReader("a\n# b\nc"))
	ids, err := listFile(cmd, safety.DenyList, "-")
	require.NoError(t, err)
	require.Equal(t, []string{"a", "c"}, ids)
	r := program(t, "a\n", "lists", "set", "--allow", "-", "--deny", "-", "--nats-url", "nats://127.0.0.1:1")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "--allow: - is standard input, which is read once; put one of the two into a file")
	r = program(t, "# none\n", "lists", "set", "--deny", "-", "--nats-url", "nats://127.0.0.1:1")
	require.Contains(t, r.errOut, "--deny: standard input names no desktop")
}
