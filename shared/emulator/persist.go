package emulator

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// The data folder has a snapshot and a log. The snapshot holds the whole state at one moment and names its log; the
// log has one line for each change since. A change is written to the log before it is made and before the answer is
// written. At start, and when the log is long, a new snapshot with an empty log replaces the old pair.

const (
	snapshotName    = "state.json"
	snapshotFormat  = "recompose-emulator"
	snapshotVersion = 1
	longLog         = 32 << 20
)

// errStore is in the chain of every error of the data folder.
var errStore = errors.New("data folder")

// seed is the state that a reset restores.
type seed struct {
	Desktops int             `json:"desktops"`
	State    json.RawMessage `json:"state,omitempty"`
}

func (s seed) world() (*world, error) {
	if len(s.State) == 0 {
		return newWorld(generate(s.Desktops), false)
	}
	st, err := parseSeed(s.State)
	if err != nil {
		return nil, err
	}
	w, err := newWorld(st, true)
	if err != nil {
		return nil, fmt.Errorf("read seed: %w", err)
	}
	return w, nil
}

// record is one change: a request with all its effects, or a control call.
type record struct {
	Request *Request      `json:"request,omitempty"`
	Job     *Job          `json:"job,omitempty"`
	Key     *keyState     `json:"key,omitempty"`
	Token   *issuedToken  `json:"token,omitempty"`
	User    *keyState     `json:"user,omitempty"`
	Issued  *temporaryKey `json:"issued,omitempty"`
	Hits    []int         `json:"hits,omitempty"`
	Faults  *[]Fault      `json:"faults,omitempty"`
	Logins  *[]login      `json:"logins,omitempty"`
	Reset   bool          `json:"reset,omitempty"`
}

// lasting reports whether the record must also survive a power cut; the others survive only the end of the process.
func (r record) lasting() bool {
	return r.Job != nil || r.Faults != nil || r.Logins != nil || r.Reset || r.Token != nil || r.Issued != nil
}

// snapshot is the whole state at one moment.
type snapshot struct {
	Format   string                  `json:"format"`
	Version  int                     `json:"version"`
	Log      string                  `json:"log"`
	Seed     seed                    `json:"seed"`
	State    State                   `json:"state"`
	Faults   []Fault                 `json:"faults"`
	Logins   []login                 `json:"logins,omitempty"`
	Counts   []int                   `json:"counts"`
	Requests []Request               `json:"requests"`
	Last     int64                   `json:"last"`
	Tokens   map[string]time.Time    `json:"tokens"`
	Key      keyState                `json:"key"`
	User     keyState                `json:"user,omitzero"`
	Keys     map[string]temporaryKey `json:"keys,omitempty"`
}

// commit stores a change, then makes it.
func (s *Server) commit(rec record) error {
	if s.store != nil {
		if err := s.store.append(rec); err != nil {
			return fmt.Errorf("%w: %w", errStore, err)
		}
	}
	if err := s.apply(rec); err != nil {
		return err
	}
	if s.store != nil && s.store.size > longLog {
		if err := s.compact(); err != nil {
			s.cfg.Log.Error("data folder not compacted", "error", err)
		}
	}
	return nil
}

// apply makes a change. Besides the passing of time, only apply changes the server, now or when the log is replayed.
func (s *Server) apply(rec record) error {
	if rec.Reset {
		w, err := s.seed.world()
		if err != nil {
			return err
		}
		s.world, s.faults, s.counts = w, nil, nil
		s.journal.ring, s.tokens, s.key, s.throttle = nil, map[string]time.Time{}, keyState{}, throttle{}
		s.user, s.keys = keyState{}, map[string]temporaryKey{}
	}
	if rec.Faults != nil {
		s.faults, s.counts = *rec.Faults, make([]int, len(*rec.Faults))
	}
	if rec.Logins != nil {
		s.world.logins = slices.Clone(*rec.Logins)
	}
	for _, i := range rec.Hits {
		if i < len(s.counts) {
			s.counts[i]++
		}
	}
	if rec.Job != nil {
		s.world.accept(rec.Job)
	}
	if rec.Key != nil {
		s.setKey(*rec.Key)
	}
	if rec.User != nil {
		s.user = *rec.User
	}
	if rec.Issued != nil {
		s.keys[rec.Issued.Access] = *rec.Issued
	}
	if rec.Token != nil {
		s.tokens[rec.Token.Token] = rec.Token.Expires
	}
	if rec.Request != nil {
		s.journal.add(*rec.Request)
		if rec.Request.Status == http.StatusOK {
			s.world.called(rec.Request.Call, rec.Request.DesktopIDs, rec.Request.Time)
		}
	}
	return nil
}

// setKey keeps the state of a key.
func (s *Server) setKey(state keyState) {
	if state.Access == "" {
		s.key = state
		return
	}
	if k, ok := s.keys[state.Access]; ok {
		k.State = state
		s.keys[state.Access] = k
	}
}

// store is the open data folder.
type store struct {
	dir    string
	lock   *flock.Flock
	log    *os.File
	number int
	size   int64
}

// open loads the folder, or initializes an empty one.
func (s *Server) open(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make data folder: %w", err)
	}
	lock := flock.New(filepath.Join(dir, "lock"))
	if locked, err := lock.TryLock(); err != nil {
		return fmt.Errorf("lock data folder: %w", err)
	} else if !locked {
		return fmt.Errorf("%s: another emulator uses this data folder", lock.Path())
	}
	s.store = &store{dir: dir, lock: lock}
	if err := s.load(); err != nil {
		return errors.Join(err, s.store.close())
	}
	if err := s.compact(); err != nil {
		return errors.Join(err, s.store.close())
	}
	return nil
}

// load reads snapshot and log.
func (s *Server) load() error {
	path := filepath.Join(s.store.dir, snapshotName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read data folder: %w", err)
	}
	var head struct {
		Format  string `json:"format"`
		Version int    `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return damaged(path, err)
	}
	if head.Format != snapshotFormat || head.Version != snapshotVersion {
		return fmt.Errorf("%s: format %q, version %d; this program reads %q, version %d: use the program that wrote it, or move the folder away to start with an empty one",
			path, head.Format, head.Version, snapshotFormat, snapshotVersion)
	}
	var snap snapshot
	if err := json.Unmarshal(data, &snap); err != nil {
		return damaged(path, err)
	}
	w, err := newWorld(snap.State, false)
	if err != nil {
		return damaged(path, err)
	}
	if len(snap.Counts) != len(snap.Faults) {
		return damaged(path, errors.New("faults and counts differ in number"))
	}
	s.world, s.seed, s.faults, s.counts, s.key, s.user = w, snap.Seed, snap.Faults, snap.Counts, snap.Key, snap.User
	s.world.logins = snap.Logins
	if snap.Keys != nil {
		s.keys = snap.Keys
	}
	if snap.Tokens != nil {
		s.tokens = snap.Tokens
	}
	s.journal.ring, s.journal.last = snap.Requests, snap.Last
	if _, err := fmt.Sscanf(snap.Log, "log-%d.jsonl", &s.store.number); err != nil {
		return damaged(path, fmt.Errorf("log %q: %w", snap.Log, err))
	}
	return s.replay(s.store.logPath())
}

// replay makes the changes of a log. An incomplete last line is ignored: the process died while it wrote the line,
// before it answered.
func (s *Server) replay(path string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read data folder: %w", err)
	}
	for n := 1; ; n++ {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		if !whole {
			return nil
		}
		var rec record
		if err := json.Unmarshal(line, &rec); err != nil {
			return damaged(path, fmt.Errorf("line %d: %w", n, err))
		}
		if err := s.apply(rec); err != nil {
			return damaged(path, fmt.Errorf("line %d: %w", n, err))
		}
		data = rest
	}
}

func damaged(path string, err error) error {
	return fmt.Errorf("%s is damaged: %w; restore the folder from a copy, or move it away to start with an empty one", path, err)
}

// compact writes a new snapshot with an empty log and removes the old log.
func (s *Server) compact() error {
	st := s.store
	next := &store{dir: st.dir, number: st.number + 1}
	log, err := os.OpenFile(next.logPath(), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("start log: %w", err)
	}
	now := s.now()
	for token, expires := range s.tokens {
		if expires.Before(now) {
			delete(s.tokens, token)
		}
	}
	for access, k := range s.keys {
		if k.Expires.Before(now) {
			delete(s.keys, access)
		}
	}
	data, err := json.Marshal(snapshot{
		Format: snapshotFormat, Version: snapshotVersion, Log: filepath.Base(next.logPath()), Seed: s.seed,
		State: s.world.raw(), Logins: s.world.logins, Faults: s.faults, Counts: s.counts, Requests: s.journal.list(0, 0), Last: s.journal.last,
		Tokens: s.tokens, Key: s.key, User: s.user, Keys: s.keys,
	})
	if err == nil {
		err = replaceFile(filepath.Join(st.dir, snapshotName), data)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write snapshot: %w", err), log.Close(), os.Remove(next.logPath()))
	}
	old := st.log
	st.log, st.number, st.size = log, next.number, 0
	if old != nil {
		err = old.Close()
	}
	return errors.Join(err, st.sweep())
}

// sweep removes the logs of earlier snapshots, and the temporary files of a process that died while it wrote a
// snapshot.
func (st *store) sweep() error {
	entries, err := os.ReadDir(st.dir)
	if err != nil {
		return fmt.Errorf("read data folder: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		isLog, _ := filepath.Match("log-*.jsonl", name)
		isTemp, _ := filepath.Match(snapshotName+".*", name)
		if isTemp || isLog && name != filepath.Base(st.logPath()) {
			err = errors.Join(err, os.Remove(filepath.Join(st.dir, name)))
		}
	}
	return err
}

func (st *store) logPath() string {
	return filepath.Join(st.dir, fmt.Sprintf("log-%06d.jsonl", st.number))
}

// append writes a record. If that fails half-way, the partial line is removed.
func (st *store) append(rec record) error {
	line, err := json.Marshal(rec)
	if err != nil {
		return fmt.Errorf("encode record: %w", err)
	}
	line = append(line, '\n')
	if _, err = st.log.WriteAt(line, st.size); err == nil && rec.lasting() {
		err = st.log.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write log: %w", err), st.log.Truncate(st.size))
	}
	st.size += int64(len(line))
	return nil
}

func (st *store) close() error {
	var errs []error
	if st.log != nil {
		errs = append(errs, st.log.Sync(), st.log.Close())
	}
	return errors.Join(append(errs, st.lock.Close())...)
}

// replaceFile replaces the content of a file atomically.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // already renamed on success
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
