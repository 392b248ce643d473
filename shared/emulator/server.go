package emulator

import (
	"fmt"
	"net/http"
	"sync"
	"time"
)

// Server is the emulator. It is safe for use by several goroutines.
type Server struct {
	cfg  Options
	done chan struct{}

	mu       sync.Mutex
	closed   bool
	seed     seed
	world    *world
	faults   []Fault
	counts   []int // matches, one number for each fault
	journal  journal
	tokens   map[string]time.Time
	key      keyState
	user     keyState                // of the IAM user
	keys     map[string]temporaryKey // issued by the metadata, by access key
	throttle throttle
	store    *store // nil: memory
}

// New makes a server. With a DataDir it loads the stored state. It returns an error for a folder that another version
// wrote, that is damaged or that another process uses.
func New(cfg Options) (*Server, error) {
	if err := cfg.complete(); err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	s := &Server{
		cfg: cfg, done: make(chan struct{}), tokens: map[string]time.Time{}, keys: map[string]temporaryKey{},
		seed: seed{Desktops: cfg.Desktops, State: cfg.Seed}, journal: journal{size: cfg.JournalSize},
	}
	var err error
	if s.world, err = s.seed.world(); err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	if cfg.DataDir == "" {
		return s, nil
	}
	if err := s.open(cfg.DataDir); err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	return s, nil
}

// Close ends waiting answers and releases the data folder. Later requests are answered with 503.
func (s *Server) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	close(s.done)
	if s.store == nil {
		return nil
	}
	return s.store.close()
}

// DesktopIDs returns the ids of all desktops, in order.
func (s *Server) DesktopIDs() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return listOf(s.world.desktops, func(d *desktop) string { return d.DesktopID })
}

// State returns what GET /_emulator/state returns.
func (s *Server) State() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.world.advance(now)
	return s.world.public(now)
}

// Requests returns what GET /_emulator/requests returns: the entries after the one numbered after, oldest first, at
// most limit if that is positive.
func (s *Server) Requests(after int64, limit int) []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.journal.list(after, limit)
}

// SetFaults replaces all faults and resets their counts. If one of them could never apply, the error names it and
// nothing changes.
func (s *Server) SetFaults(faults []Fault) error {
	for i, f := range faults {
		if err := f.check(); err != nil {
			return fmt.Errorf("faults[%d]: %w", i, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := append([]Fault{}, faults...)
	return s.commit(record{Faults: &kept})
}

// Faults returns the current faults.
func (s *Server) Faults() []Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Fault{}, s.faults...)
}

// Reset restores the seed: desktops, images and jobs as at first, no faults, no issued tokens and keys, no locked
// user, an empty journal.
func (s *Server) Reset() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commit(record{Reset: true})
}

// ServeHTTP answers one request of the API or of the control calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := randomHex()
	w.Header().Set("X-Request-Id", id)
	if bad := s.refuseHost(r); bad != nil {
		s.setDate(w)
		_ = bad.answer(id).write(w) // the client may have gone
		return
	}
	if isControl(r.URL.Path) {
		s.setDate(w)
		s.control(w, r)
		return
	}
	req := receive(r, id)
	ans, do := s.handle(req)
	if do.Delay > 0 {
		timer := time.NewTimer(do.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		case <-s.done:
		}
	}
	if do.Drop != "" {
		drop(w)
		return
	}
	s.setDate(w)
	if err := ans.write(w); err != nil {
		s.cfg.Log.DebugContext(r.Context(), "answer not written", "request_id", id, "error", err)
	}
}

// now returns the clock without its monotonic part, so that stored times compare equal to those in memory.
func (s *Server) now() time.Time { return s.cfg.Now().Round(0).Add(s.cfg.ClockSkew).UTC() }

func (s *Server) setDate(w http.ResponseWriter) {
	w.Header().Set("Date", s.now().Format(http.TimeFormat))
}

// handle decides a request and makes its effect and its journal entry durable. The caller then writes the answer
// according to do.
func (s *Server) handle(req *request) (*answer, Do) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return refuse(http.StatusServiceUnavailable, codeUnavailable, "The emulator is closed.").answer(req.id), Do{}
	}
	now := s.now()
	s.world.advance(now)
	var rec record
	ids := namedDesktops(req)
	ans, inj := s.decide(req, ids, now, &rec)
	drop := inj.do.Drop
	twice := ans.job != nil && inj.quirks.has(quirkDeliverTwice)
	if twice { // the gateway loses the first answer but keeps the caller's connection
		drop = DropAfter
	}
	ans, stored := s.record(req, ids, now, rec, ans, drop)
	if !stored {
		return ans, Do{}
	}
	if twice {
		if ans, stored = s.record(req, ids, now, record{}, s.execute(req, inj, now), inj.do.Drop); !stored {
			return ans, Do{}
		}
	}
	return ans, inj.do
}

// record makes the effect of an answer and its journal entry durable. On failure it returns the answer for the
// failure.
func (s *Server) record(req *request, ids []string, now time.Time, rec record, ans *answer, drop string) (*answer, bool) {
	rec.Job, rec.Token, rec.User, rec.Issued = ans.job, ans.token, ans.user, ans.key
	rec.Request = &Request{
		N: s.journal.last + 1, Time: now, Method: req.method, Path: req.path, Query: req.rawQuery, Call: req.call,
		DesktopIDs: ids, Status: ans.status, ErrorCode: ans.code, Dropped: drop,
	}
	if drop != "" {
		rec.Request.Status = 0
	}
	if ans.job != nil {
		rec.Request.JobID, rec.Request.Effect = ans.job.ID, EffectJob
	}
	if err := s.commit(rec); err != nil {
		s.cfg.Log.Error("request not stored", "request_id", req.id, "error", err)
		return refuse(http.StatusInternalServerError, codeInternal, "The emulator cannot store: %v", err).answer(req.id), false
	}
	return ans, true
}

// decide makes the checks in the order of the service.
func (s *Server) decide(req *request, ids []string, now time.Time, rec *record) (*answer, injection) {
	if req.call == "" || isMetadata(req.call) && !s.cfg.Agency {
		return noRoute().answer(req.id), injection{}
	}
	if req.bodyErr != nil {
		return req.bodyErr.answer(req.id), injection{}
	}
	if req.call != CallToken && !isMetadata(req.call) {
		key, bad := s.authenticate(req, now)
		rec.Key = key
		if bad != nil {
			return bad.answer(req.id), injection{}
		}
	}
	inj := inject(s.faults, s.counts, req.call, ids)
	rec.Hits = inj.hits
	if inj.quirks.has(quirkDropAfter) {
		inj.do.Drop = DropAfter
	}
	switch do := inj.do; {
	case do.Drop == DropBefore:
		return &answer{}, inj
	case do.Status != 0:
		r := faultRefusal(do)
		if r.code == "" {
			return &answer{status: r.status, header: r.header, body: map[string]any{}}, inj
		}
		return r.answer(req.id), inj
	}
	if ans := inj.quirks.instead(req, inj.do); ans != nil {
		return ans, inj
	}
	return s.execute(req, inj, now), inj
}

// execute performs the call as the service does, with the changes by the quirks.
func (s *Server) execute(req *request, inj injection, now time.Time) *answer {
	ans, bad := s.call(req, inj, now)
	if bad != nil {
		return bad.answer(req.id)
	}
	if err := inj.quirks.bend(req, inj.do, ans); err != nil {
		s.cfg.Log.Error("quirk not applied", "request_id", req.id, "error", err)
	}
	return ans
}

// call performs the requested operation.
func (s *Server) call(req *request, inj injection, now time.Time) (*answer, *refusal) {
	switch req.call {
	case CallToken:
		return s.login(req, now), nil
	case CallMetadataToken:
		return s.metadataToken(req, now), nil
	case CallSecurityKey:
		return s.securityKey(req, now), nil
	}
	if bad := s.throttle.take(isWrite(req.call), s.cfg, now); bad != nil {
		return nil, bad
	}
	if req.project != s.cfg.ProjectID {
		return nil, refuse(http.StatusForbidden, codeForbidden, "The project %s is not the caller's.", req.project)
	}
	switch req.call {
	case CallCheckImages:
		return s.checkImages(req, now)
	case CallDesktopToImage:
		return s.desktopToImage(req, inj, now)
	case CallRebuild:
		return s.rebuild(req, inj, now)
	case CallGetDesktop:
		return s.getDesktop(req, now)
	case CallListDesktops:
		return s.listDesktops(req, inj.quirks, now)
	case CallSysprep:
		return s.sysprep(req, inj)
	case CallListSubJobs:
		return s.listSubJobs(req, now)
	case CallShowJob:
		return s.showJob(req, now)
	case CallListImages:
		return s.listImages(req)
	}
	return nil, noRoute()
}

func noRoute() *refusal {
	return refuse(http.StatusNotFound, codeNoAPI, "The API does not exist or has not been published in the environment")
}
