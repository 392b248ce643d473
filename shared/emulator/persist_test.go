package emulator

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/shared/testkit/testclock"
)

// killed returns the data folder as a kill of the process leaves it: a copy made while the server runs.
func killed(t require.TestingT, dir, into string) string {
	require.NoError(t, os.MkdirAll(into, 0o700))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		require.NoError(t, err)
		require.NoError(t, os.WriteFile(filepath.Join(into, e.Name()), data, 0o600))
	}
	return into
}

func logOf(t *testing.T, dir string) string {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(dir, "log-*.jsonl"))
	require.NoError(t, err)
	require.Len(t, logs, 1)
	return logs[0]
}

func TestEverythingSurvivesAKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir, Desktops: 5})
	require.NoError(t, b.SetFaults([]Fault{
		{Call: CallRebuild, Times: 1, Do: Do{Drop: DropAfter}},
		{Call: CallRebuild, DesktopID: b.ids[1], Do: Do{Job: JobFail}},
		{Call: CallGetDesktop, Times: 2, Do: Do{Status: 500, Delay: time.Nanosecond, RetryAfter: "1"}},
	}))
	doDropped(t, b.sign(t, b.request(t, "POST", "desktops/rebuild", string(encode(t, rebuildOf(b.ids[:2]...))))))
	b.startImage(t, "captured", b.ids[2])
	require.Equal(t, 500, b.get(t, "desktops/"+b.ids[0]).status)
	login := do(t, b.request(t, "POST", "/v3/auth/tokens", strings.Replace(loginBody, "%PW", DefaultIAMPassword, 1)))
	for range 6 {
		require.Equal(t, 401, do(t, signWith(t, b.request(t, "GET", "images", ""), DefaultAccessKey, "wrong", b.clock.Now())).status)
	}
	b.clock.Add(7 * time.Minute) // the failure has settled, the other results have not

	next := serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Now: b.clock.Now, Desktops: 99}, b.clock)
	require.JSONEq(t, string(encode(t, b.State())), string(encode(t, next.State())))
	require.Equal(t, b.Requests(0, 0), next.Requests(0, 0))
	require.Equal(t, b.Faults(), next.Faults())
	require.Equal(t, 500, next.get(t, "desktops/"+b.ids[0]).status, "the second match of two")
	require.Equal(t, 200, next.get(t, "desktops/"+b.ids[0]).status)
	r := next.request(t, "GET", "images", "")
	r.Header.Set("X-Auth-Token", login.header.Get("X-Subject-Token"))
	require.Equal(t, 200, do(t, r).status)
	b.clock.Add(20 * time.Minute)
	require.JSONEq(t, string(encode(t, b.State())), string(encode(t, next.State())))
	require.Len(t, next.privateImages(t), 1)
}

func TestALockedKeyStaysLocked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir})
	for range 6 {
		require.Equal(t, 401, do(t, signWith(t, b.request(t, "GET", "images", ""), DefaultAccessKey, "wrong", b.clock.Now())).status)
	}
	next := serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Now: b.clock.Now}, b.clock)
	require.Equal(t, 401, next.get(t, "images").status)
}

func TestAnIncompleteLastLineIsIgnored(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir})
	b.startRebuild(t, OtherGoldImageID, b.ids[0])
	b.startRebuild(t, OtherGoldImageID, b.ids[1])
	copied := killed(t, dir, t.TempDir())
	data, err := os.ReadFile(logOf(t, copied))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(logOf(t, copied), data[:len(data)-10], 0o600))
	next := serve(t, Options{DataDir: copied, Now: b.clock.Now}, b.clock)
	require.Len(t, next.State().Jobs, 1)
	require.Len(t, next.Requests(0, 0), 1)
	next.startRebuild(t, OtherGoldImageID, b.ids[1])
}

func TestDamagedAndForeignFolders(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir})
	b.startRebuild(t, OtherGoldImageID, b.ids[0])
	open := func(damage func(dir string)) error {
		copied := killed(t, dir, t.TempDir())
		damage(copied)
		s, err := New(Options{DataDir: copied, Now: b.clock.Now})
		if err == nil {
			require.NoError(t, s.Close())
		}
		return err
	}
	require.NoError(t, open(func(string) {}))
	err := open(func(dir string) {
		require.NoError(t, os.WriteFile(logOf(t, dir), []byte("{}\nnot json\n"), 0o600))
	})
	require.ErrorContains(t, err, "log-000001.jsonl is damaged: line 2")
	require.ErrorContains(t, err, "move it away to start with an empty one")
	for _, content := range []string{"", "{", `{"format": "recompose-emulator", "version": 1, "log": 7}`, `{"format": "recompose-emulator", "version": 1, "log": "x"}`} {
		err = open(func(dir string) {
			require.NoError(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte(content), 0o600))
		})
		require.ErrorContains(t, err, "state.json is damaged", content)
	}
	err = open(func(dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "state.json"), []byte(`{"format": "recompose-emulator", "version": 2}`), 0o600))
	})
	require.ErrorContains(t, err, `state.json: format "recompose-emulator", version 2; this program reads "recompose-emulator", version 1`)
	require.ErrorContains(t, err, "move the folder away")
	err = open(func(dir string) { require.NoError(t, os.Remove(logOf(t, dir))) })
	require.ErrorIs(t, err, os.ErrNotExist)
	_, err = New(Options{DataDir: dir})
	require.ErrorContains(t, err, "another emulator uses this data folder")
}

func TestARequestThatCannotBeStoredHasNoEffect(t *testing.T) {
	t.Parallel()
	b := setup(t, Options{DataDir: t.TempDir()})
	good := b.store.log
	closed, err := os.CreateTemp(t.TempDir(), "closed")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	b.store.log = closed
	require.Equal(t, 500, b.post(t, "desktops/rebuild", rebuildOf(b.ids[0])).status)
	require.ErrorIs(t, b.SetFaults(nil), errStore)
	require.Empty(t, b.State().Jobs)
	require.Empty(t, b.Requests(0, 0))
	b.store.log = good
	b.startRebuild(t, OtherGoldImageID, b.ids[0])
}

func TestLongLogIsCompacted(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir})
	first := logOf(t, dir)
	b.startRebuild(t, OtherGoldImageID, b.ids[0])
	require.NoError(t, b.store.log.Truncate(longLog+1))
	b.store.size = longLog + 1
	require.Equal(t, 200, b.get(t, "images").status)
	require.NotEqual(t, first, logOf(t, dir))
	b.startRebuild(t, OtherGoldImageID, b.ids[1])
	next := serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Now: b.clock.Now}, b.clock)
	require.Equal(t, b.Requests(0, 0), next.Requests(0, 0))
	require.JSONEq(t, string(encode(t, b.State())), string(encode(t, next.State())))
}

func TestResetGoesBackToTheSeedOfTheFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := setup(t, Options{DataDir: dir, Desktops: 3})
	start := b.State()
	b.startRebuild(t, OtherGoldImageID, b.ids[0])
	require.NoError(t, b.SetFaults([]Fault{{Call: CallAny, Do: Do{Status: 500}}}))
	next := serve(t, Options{DataDir: killed(t, dir, t.TempDir()), Now: b.clock.Now}, b.clock)
	require.Equal(t, 200, do(t, next.request(t, "POST", "/_emulator/reset", "")).status)
	require.JSONEq(t, string(encode(t, start)), string(encode(t, next.State())))
	require.Empty(t, next.Requests(0, 0))
	require.Empty(t, next.Faults())
	require.Equal(t, 200, next.get(t, "images").status)
	require.Equal(t, int64(2), next.Requests(0, 0)[0].N, "numbers continue")
}

// A server that loads the folder is equal to the server before, after any changes in any order and any number of kills
// in between.
func TestRestartsChangeNothing(t *testing.T) {
	t.Parallel()
	base := t.TempDir()
	round := 0
	rapid.Check(t, func(rt *rapid.T) {
		round++
		c := testclock.New()
		dir := filepath.Join(base, time.Duration(round).String())
		s, err := New(Options{DataDir: dir, Desktops: 3, Now: c.Now, JournalSize: 7})
		require.NoError(rt, err)
		defer func() { _ = s.Close() }()
		ids := s.DesktopIDs()
		call := func(name string, body any) {
			data, err := json.Marshal(body)
			require.NoError(rt, err)
			s.mu.Lock()
			defer s.mu.Unlock()
			req := &request{call: name, body: data, project: DefaultProjectID, header: nil}
			now := s.now()
			s.world.advance(now)
			inj := inject(s.faults, s.counts, name, namedDesktops(req))
			ans, bad := s.call(req, inj, now)
			rec := record{Hits: inj.hits, Request: &Request{N: s.journal.last + 1, Time: now, Call: name}}
			if bad == nil {
				rec.Job = ans.job
			}
			require.NoError(rt, s.commit(rec))
		}
		image := func() Image { return rapid.SampledFrom(s.State().Images).Draw(rt, "image") }
		restart := 0
		actions := map[string]func(*rapid.T){
			"wait": func(rt *rapid.T) { c.Add(time.Duration(rapid.IntRange(0, 900).Draw(rt, "s")) * time.Second) },
			"image": func(rt *rapid.T) {
				call(CallDesktopToImage, object{"desktop_id": rapid.SampledFrom(ids).Draw(rt, "id"), "image_name": "n"})
			},
			"rebuild": func(rt *rapid.T) {
				img := image()
				call(CallRebuild, object{"desktop_ids": rapid.SliceOfNDistinct(rapid.SampledFrom(ids), 1, 3, rapid.ID[string]).Draw(rt, "ids"),
					"image_id": img.ID, "image_type": img.ImageType, "delay_time": rapid.IntRange(0, 3).Draw(rt, "delay")})
			},
			"faults": func(rt *rapid.T) {
				require.NoError(rt, s.SetFaults([]Fault{{Call: CallAny, DesktopID: rapid.SampledFrom(ids).Draw(rt, "id"),
					Skip: rapid.IntRange(0, 2).Draw(rt, "skip"), Times: 2, Do: Do{Job: JobFail, Quirk: rapid.SampledFrom([]string{"", quirkLateFailure}).Draw(rt, "late")}}}))
			},
			"reset": func(*rapid.T) { require.NoError(rt, s.Reset()) },
			"kill": func(rt *rapid.T) {
				restart++
				dir = killed(rt, dir, filepath.Join(base, time.Duration(round).String()+"-"+time.Duration(restart).String()))
				next, err := New(Options{DataDir: dir, Now: c.Now, JournalSize: 7})
				require.NoError(rt, err)
				require.Equal(rt, encodeState(rt, s), encodeState(rt, next))
				require.Equal(rt, s.Requests(0, 0), next.Requests(0, 0))
				require.Equal(rt, s.Faults(), next.Faults())
				require.Equal(rt, s.counts, next.counts)
				require.NoError(rt, s.Close())
				s = next
			},
		}
		steps := rapid.SliceOfN(rapid.SampledFrom(slices.Sorted(maps.Keys(actions))), 4, 12).Draw(rt, "steps")
		for _, step := range append(steps, "kill") {
			actions[step](rt)
		}
	})
}

func encodeState(rt *rapid.T, s *Server) string {
	data, err := json.Marshal(s.State())
	require.NoError(rt, err)
	return string(data)
}
