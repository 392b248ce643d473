package main

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"recompose/shared/emulator"
	"recompose/shared/safety"
)

// TestWritesWaitWhileAListCannotBeRead starts a worker whose deny list has a line that is no id, and mends the list.
func TestWritesWaitWhileAListCannotBeRead(t *testing.T) {
	t.Parallel()
	env, url := cluster(t, 3)
	ids := slices.Sorted(maps.Keys(rebuilds(t, url)))
	deny := filepath.Join(t.TempDir(), "deny.txt")
	write := func(text string) { require.NoError(t, os.WriteFile(deny, []byte(text), 0o600)) }
	write("# executives\n\"" + ids[0] + "\"\n")
	env = append(env, safety.DenyVariable+"="+deny)
	at := freePort(t)
	w := start(t, append(env, "RECOMPOSE_HTTP_LISTEN="+at), binary(t, "recompose"), "run")
	w.prints(t, "working on")
	require.True(t, strings.HasPrefix(w.out.String(), "EMULATOR\nno desktop may be rebuilt until this list can be read: "), w.out.String())
	status, text := page(t, "http://"+at+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, deny+": line 2 cannot be read")
	require.NotContains(t, text, ids[0], "no page has an id")

	var state emulator.State
	getJSON(t, url+"/_emulator/state", &state)
	send := []string{"send", "rebuild", "--desktop-ids", ids[1], "--image-id", state.Images[0].ID, "--image-type", state.Images[0].ImageType, "--rebuild-current", "--wait"}
	s := start(t, env, binary(t, "recompose"), send...)
	eventually(t, func() bool { return w.err.has("no write begins while what could stop it cannot be read") }, "the write does not wait")
	require.Empty(t, acceptedWrites(t, url), "also a desktop that is on no list waits")
	const unread = "begins no write, because it cannot read a list of desktops: "
	eventually(t, func() bool { return s.out.has(unread + safety.DenyVariable + ": " + deny + ": line 2 cannot be read") }, "the reason is not shown")
	require.NotContains(t, s.out.String(), ids[0], "what stands in the list is not shown")

	write("# executives\n" + ids[0] + "\n")
	require.Equal(t, exitDone, s.wait(t), s.out.String()+s.err.String())
	require.Len(t, acceptedWrites(t, url), 1)
	status, text = page(t, "http://"+at+"/readyz")
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "every desktop of the project may be rebuilt, except those of the deny list "+deny+" (1)")

	write("")
	status, text = page(t, "http://"+at+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.Contains(t, text, "it allows more desktops than before, and may be half written")
	eventually(t, func() bool { _, text = page(t, "http://"+at+"/readyz"); return strings.Contains(text, "(before: 1)") }, "it is not used")
	eventually(t, func() bool { return w.err.has("the deny list has become empty") }, "it is not reported")
}

func TestConfigReadsTheLists(t *testing.T) {
	t.Parallel()
	env := []string{
		"NATS_URL=nats://n:4222", "RECOMPOSE_WORKSPACE_ENDPOINT=https://workspace.example.com", "HUAWEICLOUD_SDK_PROJECT_ID=p1",
		"HUAWEICLOUD_SDK_AK=ak", "HUAWEICLOUD_SDK_SK=sk",
	}
	r := finish(t, env, "config")
	require.Equal(t, exitDone, r.code, r.out)
	require.Contains(t, r.out, "Desktops: every desktop of the project may be rebuilt\n")

	for name, content := range map[string]string{"quotes": "a\n\"b\"\n", "UTF-16 without a mark": "a\x00\n\x00b\x00\n\x00", "commas": "a,b\n"} {
		for _, variable := range []string{safety.AllowVariable, safety.DenyVariable} {
			file := filepath.Join(t.TempDir(), "list.txt")
			require.NoError(t, os.WriteFile(file, []byte(content), 0o600))
			r := finish(t, append(env, variable+"="+file), "config")
			require.Equal(t, exitUsage, r.code, name)
			require.Contains(t, r.out, variable+": "+file+": line ", name)
			require.NotContains(t, r.out, "may be rebuilt", name)
		}
	}
	r = finish(t, append(env, safety.DenyVariable+"=/nonexistent/deny"), "config")
	require.Equal(t, exitUsage, r.code)
	require.Equal(t, 1, strings.Count(r.out, "no such file"), "one fault is reported once: %s", r.out)
}

// TestALineEndInAListFlagEndsNoList looks at every flag with several values.
func TestALineEndInAListFlagEndsNoList(t *testing.T) {
	t.Parallel()
	found := map[string]bool{}
	var visit func(cmd *cobra.Command)
	visit = func(cmd *cobra.Command) {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			require.NotContains(t, f.Value.Type(), "Slice", "--%s of %s ends at a line end", f.Name, cmd.Name())
			l, ok := f.Value.(listFlag)
			if !ok {
				return
			}
			found[f.Name] = true
			for _, value := range []string{"a,b\nc", "a\r\nb\r\n\r\nc\n", " a ,b, c", "a\rb\rc"} {
				*l.items = nil
				require.NoError(t, l.Set(value))
				require.Equal(t, []string{"a", "b", "c"}, *l.items, "%q", value)
			}
			require.NoError(t, l.Set("d"))
			require.Equal(t, []string{"a", "b", "c", "d"}, *l.items, "repeated")
		})
		for _, sub := range cmd.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
	require.Equal(t, map[string]bool{"desktop-ids": true, "fields": true, "host": true, "type": true, "window-days": true}, found)
}
