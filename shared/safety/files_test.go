package safety_test

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
)

// list is a file with a text, which was written long ago.
func list(t *testing.T, name, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	rewrite(t, file, text)
	return file
}

func rewrite(t *testing.T, file, text string) {
	t.Helper()
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	require.NoError(t, os.Chtimes(file, time.Time{}, time.Unix(0, 0)))
}

func TestOneLineThatCannotBeReadStopsAllWrites(t *testing.T) {
	t.Parallel()
	for _, f := range []*safety.Files{
		{DenyDesktopsFile: list(t, "deny.txt", "a\n\"b\"\n")},
		{AllowDesktopsFile: list(t, "deny.txt", "a\n\"b\"\n")},
	} {
		variable := safety.DenyVariable
		if f.AllowDesktopsFile != "" {
			variable = safety.AllowVariable
		}
		_, err := f.Refused([]string{"a", "c"})
		require.ErrorContains(t, err, variable)
		require.ErrorContains(t, err, f.AllowDesktopsFile+f.DenyDesktopsFile+": line 2: ")
		_, err = f.Describe()
		require.ErrorContains(t, err, f.AllowDesktopsFile+f.DenyDesktopsFile+": line 2: ")
		require.Len(t, f.Problems(), 1)
		require.Equal(t, variable, f.Problems()[0].Variable)
		require.Equal(t, variable+": "+f.AllowDesktopsFile+f.DenyDesktopsFile+": line 2 cannot be read; recompose config shows why", f.Problems()[0].Redacted(), "it shows no id")
	}
}

func TestDescribeTheFiles(t *testing.T) {
	t.Parallel()
	two, none := list(t, "two", "a\nb\n"), list(t, "none", "# none\n")
	pipe := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(pipe, 0o600))
	for want, f := range map[string]*safety.Files{
		"every desktop of the project may be rebuilt":                                                                              {},
		"every desktop of the project may be rebuilt, except those of the deny list " + two + " (2)":                               {DenyDesktopsFile: two},
		"every desktop of the project may be rebuilt; the deny list " + none + " is empty":                                         {DenyDesktopsFile: none},
		"only the desktops of " + two + " may be rebuilt (2)":                                                                      {AllowDesktopsFile: two},
		"no desktop may be rebuilt: the allow list " + none + " is empty":                                                          {AllowDesktopsFile: none},
		"only the desktops of " + two + " may be rebuilt (2), except those of the deny list " + two + " (2)":                       {AllowDesktopsFile: two, DenyDesktopsFile: two},
		"every desktop of the project may be rebuilt, except those of the deny list " + pipe + ", which is read before each write": {DenyDesktopsFile: pipe},
		"the lists are read before each write: allow \"" + pipe + "\", deny \"\"":                                                  {AllowDesktopsFile: pipe},
	} {
		text, err := f.Describe()
		require.NoError(t, err)
		require.Equal(t, want, text)
		require.Empty(t, f.Problems())
	}
}

func TestADenyListThatBecomesEmptyIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, aDenyListBecomesEmpty)
}

func aDenyListBecomesEmpty(t *testing.T) {
	var log strings.Builder
	f := &safety.Files{DenyDesktopsFile: list(t, "deny", "a\nb\n"), Log: slog.New(slog.NewTextHandler(&log, nil))}
	refused := func(want ...string) {
		t.Helper()
		got, err := f.Refused([]string{"a", "c"})
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	emptied := func() {
		t.Helper()
		require.NoError(t, os.Truncate(f.DenyDesktopsFile, 0))
		_, err := f.Refused([]string{"a"})
		require.Error(t, err)
		<-time.After(5 * time.Second)
		refused()
	}
	refused("a")
	emptied()
	refused()
	require.Equal(t, 1, strings.Count(log.String(), "the deny list has become empty"), log.String())
	require.Contains(t, log.String(), "before=2")
	text, err := f.Describe()
	require.NoError(t, err)
	require.Contains(t, text, "is empty since ")
	require.Contains(t, text, "(before: 2)")

	require.NoError(t, os.WriteFile(f.DenyDesktopsFile, []byte("a\n"), 0o600))
	refused("a")
	text, err = f.Describe()
	require.NoError(t, err)
	require.NotContains(t, text, "empty")
	emptied()
	require.Equal(t, 2, strings.Count(log.String(), "the deny list has become empty"))
}

// A list that is written in place is read half-written. A deny list of which a part is missing, and an allow list with the
// beginning of an id, would allow desktops that they must not.
func TestAListThatAllowsMoreMustSettle(t *testing.T) {
	t.Parallel()
	for name, allow := range map[string]bool{"deny": false, "allow": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { aListSettles(t, allow) })
		})
	}
}

func aListSettles(t *testing.T, allow bool) {
	file := list(t, "list", "")
	f, write := &safety.Files{DenyDesktopsFile: file}, func(denied, allowed string) {
		t.Helper()
		rewrite(t, file, denied)
	}
	if allow {
		f, write = &safety.Files{AllowDesktopsFile: file}, func(denied, allowed string) {
			t.Helper()
			rewrite(t, file, allowed)
		}
	}
	ids := []string{"d-1", "d-2", "d-12"}
	refuses := func(want ...string) {
		t.Helper()
		refused, err := f.Refused(ids)
		require.NoError(t, err)
		require.Equal(t, want, refused)
	}
	holds := func() {
		t.Helper()
		_, err := f.Refused(ids)
		require.ErrorContains(t, err, file+": it allows more desktops than before, and may be half written: it is used once it has been unchanged for 5s")
		_, err = f.Describe()
		require.Error(t, err)
	}
	write("d-1\nd-2", "d-12")
	refuses("d-1", "d-2")
	write("d-1\nd-2\nd-12", "")
	refuses("d-1", "d-2", "d-12") // what allows less is used at once
	write("", "d-1\nd-2\nd-12")
	holds()
	<-time.After(4 * time.Second)
	write("d-1", "d-2\nd-12")
	holds()
	<-time.After(4 * time.Second)
	holds()
	write("D-1\nd-1\n", "# in another form\nd-12\nd-2\n")
	<-time.After(time.Second)
	refuses("d-1")
	write("d-1\nd-2", "d-12")
	refuses("d-1", "d-2")
	write("d-1", "d-12\nd-2")
	holds()
	write("d-1\nd-2", "d-12") // as it was before: it was half written
	refuses("d-1", "d-2")
}

// A worker may start while a list is being written.
func TestAListThatIsWrittenAtTheStartMustSettle(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		<-time.After(time.Hour)
		deny := list(t, "deny", "d-1\n")
		changed := func(ago time.Duration) { require.NoError(t, os.Chtimes(deny, time.Time{}, time.Now().Add(-ago))) }
		for name, ago := range map[string]time.Duration{"a moment ago": 4 * time.Second, "by a clock that is ahead": -time.Hour} {
			changed(ago)
			f := &safety.Files{DenyDesktopsFile: deny}
			text, err := f.Describe()
			require.NoError(t, err)
			require.Contains(t, text, "except those of the deny list", "what the file has can be shown")
			holds := func() {
				t.Helper()
				_, err := f.Refused([]string{"d-2"})
				require.ErrorContains(t, err, deny+": it was changed a moment ago, and may be half written: it is used once it has been unchanged for 5s", name)
			}
			holds()
			<-time.After(4 * time.Second)
			rewrite(t, deny, "d-1\nd-2\n")
			changed(ago)
			holds()
			<-time.After(4 * time.Second)
			if ago < 0 {
				holds()
				<-time.After(time.Second)
			} else {
				<-time.After(time.Second)
			}
			refused, err := f.Refused([]string{"d-2"})
			require.NoError(t, err)
			require.Equal(t, []string{"d-2"}, refused)
			rewrite(t, deny, "d-1\n")
		}
	})
}

// A list that can be read only once would deny no desktop from the second write on.
func TestAListThatCanBeReadOnceIsRefused(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	_, err = w.WriteString("d-1\n")
	require.NoError(t, err)
	for _, path := range []string{fmt.Sprintf("/dev/fd/%d", r.Fd()), "/dev/null", "/dev/zero"} {
		for _, f := range []*safety.Files{{DenyDesktopsFile: path}, {AllowDesktopsFile: path}} {
			_, err := f.Refused([]string{"d-1"})
			failed := new(safety.FileError)
			require.ErrorAs(t, err, &failed, path)
			require.ErrorContains(t, err, path+": must be a file that can be read before each write")
			require.Len(t, f.Problems(), 1)
			_, err = f.Describe()
			require.ErrorAs(t, err, &failed, path)
		}
	}
}
