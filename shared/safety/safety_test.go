package safety_test

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

func TestNothingSetAllowsEverything(t *testing.T) {
	t.Parallel()
	empty := &safety.Operators{Store: memstore.New()}
	for _, o := range []safety.Options{{}, {Files: &safety.Files{}}, {Operators: empty}} {
		s := safety.New(o)
		require.NoError(t, s.Check(t.Context(), []string{"a", "b"}))
		require.NoError(t, s.Check(t.Context(), nil))
		f, err := s.Frozen(t.Context())
		require.NoError(t, err)
		require.Nil(t, f)
		text, err := s.Describe(t.Context())
		require.NoError(t, err)
		require.Equal(t, safety.AllAllowed, text)
	}
}

func TestADesktopThatAnyListRefusesIsRefused(t *testing.T) {
	t.Parallel()
	ids := []string{"d", "a", "b", "c", "A"}
	for name, c := range map[string]struct {
		allow, deny, allowFile, denyFile string // "-": none
		refused                          []string
		text                             string
	}{
		"none": {"-", "-", "-", "-", nil, safety.AllAllowed},
		"deny": {"-", "a", "-", "-", []string{"a", "A"}, "none of its deny list (1) may be rebuilt"},
		"allow": {"a b", "-", "-", "-", []string{"d", "c", "A"},
			"only those of the deployment's allow list (2) may be rebuilt"},
		"both": {"a b", "b", "-", "-", []string{"d", "b", "c", "A"},
			"only those of the deployment's allow list (2), none of its deny list (1) may be rebuilt"},
		"empty": {"", "", "-", "-", ids,
			"only those of the deployment's allow list (0), none of its deny list (0) may be rebuilt"},
		"files": {"-", "-", "a b", "b", []string{"d", "b", "c", "A"},
			"only the desktops of FILE may be rebuilt (2), except those of the deny list FILE (1)"},
		"an empty file": {"-", "-", "", "-", ids, "no desktop may be rebuilt: the allow list FILE is empty"},
		"all": {"a b c", "a", "b c d", "c", []string{"d", "a", "c", "A"},
			"only the desktops of FILE may be rebuilt (3), except those of the deny list FILE (1); and " +
				"only those of the deployment's allow list (3), none of its deny list (1)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := &safety.Operators{Store: memstore.New()}
			for list, text := range map[safety.ListName]string{safety.AllowList: c.allow, safety.DenyList: c.deny} {
				if text != "-" {
					set(t, o, list, strings.Fields(text)...)
				}
			}
			var named []string
			file := func(text string) string {
				if text == "-" {
					return ""
				}
				path := list(t, "ids", strings.ReplaceAll(text, " ", "\n"))
				named = append(named, path, "FILE")
				return path
			}
			files := &safety.Files{AllowDesktopsFile: file(c.allowFile), DenyDesktopsFile: file(c.denyFile)}

			s := safety.New(safety.Options{Operators: o, Files: files})
			err := s.Check(t.Context(), ids)
			text, described := s.Describe(t.Context())
			require.NoError(t, described)
			require.Equal(t, c.text, strings.NewReplacer(named...).Replace(text))
			if c.refused == nil {
				require.NoError(t, err)
				return
			}
			refused := new(safety.NotAllowed)
			require.ErrorAs(t, err, &refused)
			require.Equal(t, c.refused, refused.Desktops, "in the given order")
			require.ErrorContains(t, err, strings.Join(c.refused, ", "))
		})
	}
}

func TestTheListsAreReadWhileWritesAreStopped(t *testing.T) {
	t.Parallel()
	values := memstore.New()
	o := &safety.Operators{Store: values}
	set(t, o, safety.DenyList, "c", "b")
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm"}))
	s := safety.New(safety.Options{Operators: o, Files: &safety.Files{DenyDesktopsFile: list(t, "deny", "d\n")}})
	requireStop(t, s.Check(t.Context(), []string{"b"}), safety.Frozen)
	refused, err := s.Refused(t.Context(), []string{"a", "b", "c", "d"})
	require.NoError(t, err)
	require.Equal(t, []string{"b", "c", "d"}, refused)

	overwrite(t, values, safety.OperatorsKey, "{")
	_, err = s.Refused(t.Context(), []string{"a"})
	requireStop(t, err, safety.Unreadable, "read the lists of desktops")
	_, err = safety.New(safety.Options{Files: &safety.Files{DenyDesktopsFile: "none"}}).Refused(t.Context(), []string{"a"})
	requireStop(t, err, safety.Unreadable)
}

func TestARefusalOfManyDesktopsNamesFive(t *testing.T) {
	t.Parallel()
	o := &safety.Operators{Store: memstore.New()}
	set(t, o, safety.AllowList)
	err := safety.New(safety.Options{Operators: o}).Check(t.Context(), []string{"a", "b", "c", "d", "e", "f", "g"})
	require.EqualError(t, err, "the lists of desktops do not allow a, b, c, d, e and 2 more")
}

// TestAFileThatCannotBeReadStopsWrites even if the deployment's lists already refuse the write: a refused write ends,
// although the content of the file is unknown.
func TestAFileThatCannotBeReadStopsWrites(t *testing.T) {
	t.Parallel()
	o := &safety.Operators{Store: memstore.New()}
	set(t, o, safety.DenyList, "a")
	for _, files := range []*safety.Files{{DenyDesktopsFile: "none"}, {AllowDesktopsFile: "none"}} {
		for _, options := range []safety.Options{{Files: files}, {Files: files, Operators: o}} {
			s := safety.New(options)
			err := s.Check(t.Context(), []string{"a"})
			requireStop(t, err, safety.Unreadable, "none: ")
			require.ErrorIs(t, err, fs.ErrNotExist)
			_, err = s.Describe(t.Context())
			problem := new(safety.FileError)
			require.ErrorAs(t, err, &problem)
		}
	}
}

func TestTheFilesAreReadEachTime(t *testing.T) {
	t.Parallel()
	files := &safety.Files{DenyDesktopsFile: list(t, "deny", "a\n")}
	s := safety.New(safety.Options{Files: files})
	for _, denied := range []string{"a", "b", "c"} {
		files.DenyDesktopsFile = list(t, "deny", denied+"\n")
		refused := new(safety.NotAllowed)
		require.ErrorAs(t, s.Check(t.Context(), []string{"a", "b", "c"}), &refused)
		require.Equal(t, []string{denied}, refused.Desktops)
	}
}

// TestWhatStopsAWriteFirst shows the order: a reason to wait is reported before a refusal, because a list may be
// changed during the wait.
func TestWhatStopsAWriteFirst(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	o := &safety.Operators{Store: s}
	write := safety.New(safety.Options{
		Operators: o, Files: &safety.Files{}, Service: own,
		Key: safety.NewKey(safety.KeyOptions{Store: s, Now: clock}),
	})
	set(t, o, safety.DenyList, "a")
	err := write.Check(t.Context(), []string{"a"})
	refused := new(safety.NotAllowed)
	require.ErrorAs(t, err, &refused)
	edit(t, s, safety.OperatorsKey, true, "lists", "deny", "lost")
	requireStop(t, write.Check(t.Context(), []string{"a"}), safety.Unreadable, "the deny list")
	require.NoError(t, o.SetService(t.Context(), other))
	requireStop(t, write.Check(t.Context(), []string{"a"}), safety.OtherService)
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
	requireStop(t, write.Check(t.Context(), []string{"a"}), safety.Frozen)
	overwrite(t, s, safety.KeyKey, `{"reason":"401","at":"2026-01-15T08:00:00Z"}`)
	err = write.Check(t.Context(), []string{"a"})
	requireStop(t, err, safety.KeyRefused, "refuses the credentials since 2026-01-15T08:00:00Z: 401")
	refusal := new(safety.Refusal)
	require.ErrorAs(t, err, &refusal)
	overwrite(t, s, safety.KeyKey, `{`)
	err = write.Check(t.Context(), []string{"a"})
	requireStop(t, err, safety.Unreadable, "whether the service refuses the key")
	require.ErrorIs(t, err, store.ErrDamaged)
}

// TestAWriteReadsTheStoreInOneRoundTrip checks a second time, when the pages of the lists have been read.
func TestAWriteReadsTheStoreInOneRoundTrip(t *testing.T) {
	t.Parallel()
	for _, older := range []bool{false, true} {
		for _, lists := range []func(store.Store){
			func(store.Store) {},
			func(s store.Store) { set(t, &safety.Operators{Store: s, Older: older}, safety.DenyList, "a") },
			func(s store.Store) { putOlder(t, s, safety.DenyList, "a") },
		} {
			w := &watched{Store: memstore.New()}
			lists(w.Store)
			write := safety.New(safety.Options{
				Operators: &safety.Operators{Store: w, Older: older}, Files: &safety.Files{}, Service: own,
				Key: safety.NewKey(safety.KeyOptions{Store: w, Now: clock}),
			})
			require.NoError(t, write.Check(t.Context(), []string{"b"}))
			before := w.trips
			require.NoError(t, write.Check(t.Context(), []string{"b"}))
			require.Equal(t, 1, w.trips-before)
		}
	}
}

// TestStoppedReadsNoList checks whether a write must wait, for a worker whose lists cannot be read.
func TestStoppedReadsNoList(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	w := &watched{Store: s}
	o := &safety.Operators{Store: w, Older: true}
	set(t, o, safety.DenyList, "a")
	edit(t, s, safety.OperatorsKey, true, "lists", "deny", "lost")
	write := safety.New(safety.Options{
		Operators: o, Files: &safety.Files{DenyDesktopsFile: "none"}, Service: own,
		Key: safety.NewKey(safety.KeyOptions{Store: w, Now: clock}),
	})
	before := len(w.since(0))
	require.NoError(t, write.Stopped(t.Context()))
	require.Equal(t, []string{"get breaker", "get freeze", "get allow", "get deny"}, w.since(before))
	require.NoError(t, o.SetService(t.Context(), other))
	requireStop(t, write.Stopped(t.Context()), safety.OtherService)
	require.NoError(t, o.SetFreeze(t.Context(), safety.Freeze{Reason: "storm", At: now}))
	requireStop(t, write.Stopped(t.Context()), safety.Frozen)
	overwrite(t, s, safety.OperatorsKey, "{")
	requireStop(t, write.Stopped(t.Context()), safety.Unreadable)
	overwrite(t, s, safety.KeyKey, `{"reason":"401","at":"2026-01-15T08:00:00Z"}`)
	requireStop(t, write.Stopped(t.Context()), safety.KeyRefused)
	require.NoError(t, safety.New(safety.Options{}).Stopped(t.Context()))
}

// TestWhatCannotBeReadIsNeverAllowed interrupts each read of a check.
func TestWhatCannotBeReadIsNeverAllowed(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, s store.Store, _ func(string)) {
		set(t, &safety.Operators{Store: s}, safety.AllowList, "a", "d")
		set(t, &safety.Operators{Store: s}, safety.DenyList, "d")
		checks := func(at cut) (*watched, error) {
			w, _ := cutAt(s, at)
			return w, safety.New(safety.Options{
				Operators: &safety.Operators{Store: w}, Key: safety.NewKey(safety.KeyOptions{Store: w, Now: clock}),
			}).Check(t.Context(), []string{"a"})
		}
		w, err := checks(cut{})
		require.NoError(t, err)
		reads := len(w.since(0))
		require.Equal(t, 4, reads, "the key, the item and two pages")
		for n := 1; n <= reads; n++ {
			for _, done := range []bool{false, true} {
				_, err := checks(cut{n: n, done: done})
				requireStop(t, err, safety.Unreadable)
				require.ErrorIs(t, err, errCut)
			}
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(errors.New("injected"))
		err = safety.New(safety.Options{Operators: &safety.Operators{Store: s}}).Check(ctx, []string{"a"})
		requireStop(t, err, safety.Unreadable)
	})
}
