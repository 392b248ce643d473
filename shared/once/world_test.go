package once_test

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

// world is a model of everything around the engine: a service with two desktops, the requests on their way to it, the
// commands, and two workers. A worker stops before and after every store and every call until the test resumes it, so
// that the test decides who acts when, and who dies where. Time is that of the synctest bubble.
type world struct {
	store    *memledger.Store
	desktops map[string]*modelDesktop
	jobs     []*modelJob
	network  []*request // sent and not yet handled by the service
	commands []*command
	workers  [2]*worker
	fault    string // the first broken promise; "" if none
	usedKept int    // how often a preparation used what an earlier one read
}

type modelDesktop struct {
	disk     string   // the volume, which is another one after each rebuild
	image    string   // that it runs
	made     []string // images that it was rebuilt with, one after the other; also before the commands
	busy     bool
	sent     int // requests of our commands that named it
	accepted int // writes that the service accepted for it from our commands
}

// Images of the model. Our commands want the desktops rebuilt with wantedImage.
const (
	firstImage  = "first"
	wantedImage = "wanted"
	otherImage  = "other"
)

type modelJob struct {
	id    string
	ids   []string
	image string
	ours  bool // begun by a call of our commands
	begun time.Time
	ended bool
	gone  bool // from the list of jobs
	// kept jobs stay in the list; hidden ones are never in it. One of both is a job whose acceptance was answered with
	// a refusal: a list that shows it and later does not would prove that it is not there.
	kept, hidden bool
}

// hides reports whether a job that is never listed has a desktop. Only its disk shows that job, and what other people do
// to the disk would remove that trace. The documentation states this limit.
func (w *world) hides(desktop string) bool {
	return slices.ContainsFunc(w.jobs, func(j *modelJob) bool { return j.hidden && slices.Contains(j.ids, desktop) })
}

// request is a call on its way. The service handles each however late; a gateway may deliver one twice.
type request struct {
	ids      []string
	signedAt time.Time
	answer   *answerOf // set when the service has handled it
}

type answerOf struct {
	accepted workspace.Accepted
	err      error
}

// command is a root command or a part of it, and what was published of it.
type command struct {
	id    string
	ids   []string
	ended *queue.Outcome
	job   *events.JobAccepted
	// failures are how many of its deliveries failed before.
	failures int
}

const modelSkew = 7 * time.Minute // the service's clock is ahead

func newWorld() *world {
	w := &world{store: memledger.New(), desktops: map[string]*modelDesktop{
		"d-1": {disk: "first", image: firstImage}, "d-2": {disk: "first", image: firstImage},
	}}
	w.commands = []*command{{id: "root", ids: []string{"d-1", "d-2"}}}
	for i := range w.workers {
		w.workers[i] = &worker{name: fmt.Sprint("w", i), world: w}
	}
	return w
}

func (w *world) broken(format string, args ...any) {
	if w.fault == "" {
		w.fault = fmt.Sprintf(format, args...)
	}
}

func serviceNow() time.Time { return time.Now().Add(modelSkew) }

// handle lets the service handle a request: it is refused if its signature is too old or a desktop is busy, and else
// becomes a job of its desktops, or of the first of them only.
func (w *world) handle(r *request, part bool) {
	w.network = slices.DeleteFunc(w.network, func(o *request) bool { return o == r })
	w.receive(r, part)
}

// handleTwice lets a gateway that loses the first answer deliver a request a second time. If the first was taken, the
// second answer is a refusal that the first delivery caused, in one of the ways in which a service refuses. The service
// may hide its job.
func (w *world) handleTwice(r *request, how int, hidden bool) {
	w.handle(r, false)
	if r.answer.err == nil {
		job := w.jobs[len(w.jobs)-1]
		job.kept, job.hidden = true, hidden
		r.answer = &answerOf{err: []*workspace.Error{
			{Class: workspace.Conflict, Status: 409}, {Class: workspace.DiskBusy, Status: 400}, {Class: workspace.Refused, Status: 400},
			{Class: workspace.BadAnswer, Status: 200, Code: "WKS.1"}, {Class: workspace.BadAnswer, Status: 200, Code: workspace.CodeBusy},
			{Class: workspace.Throttled, Status: 429}, {Class: workspace.Unavailable, Status: 503}, {Class: workspace.Conflict, Status: 409},
		}[how%8]}
	}
}

func (w *world) receive(r *request, part bool) {
	r.answer = &answerOf{}
	if serviceNow().Sub(r.signedAt) > config.SignatureWindow {
		r.answer.err = &workspace.Error{Operation: "rebuild", Class: workspace.Unauthorized, Status: 401}
		return
	}
	for _, id := range r.ids {
		if w.desktops[id].busy {
			r.answer.err = &workspace.Error{Operation: "rebuild", Class: workspace.Conflict, Status: 409}
			return
		}
	}
	ids := r.ids
	if part {
		ids = ids[:1]
	}
	r.answer.accepted = workspace.Accepted{JobID: w.begin(ids, wantedImage), Date: serviceNow()}
	w.jobs[len(w.jobs)-1].ours = true
	for _, id := range ids {
		if w.desktops[id].accepted++; w.desktops[id].accepted > 1 {
			w.broken("desktop %s was rebuilt twice", id)
		}
	}
}

// begin begins a job.
func (w *world) begin(ids []string, image string) string {
	job := &modelJob{id: fmt.Sprint("job-", len(w.jobs)), ids: slices.Clone(ids), image: image, begun: serviceNow()}
	w.jobs = append(w.jobs, job)
	for _, id := range ids {
		w.desktops[id].busy = true
	}
	return job.id
}

// finish ends a job.
func (w *world) finish(job *modelJob) {
	job.ended = true
	for _, id := range job.ids {
		d := w.desktops[id]
		d.busy, d.disk, d.image, d.made = false, "made by "+job.id, job.image, append(d.made, job.image)
	}
}

// mayFinish reports whether a job may end now. A hidden one ends while no call is prepared or on its way: a call
// directly after its end would find its desktops idle, and nothing at the service shows that it is the second one.
func (w *world) mayFinish(job *modelJob) bool {
	return !job.ended && (!job.hidden || w.workers[0].at == "" && w.workers[1].at == "" && len(w.network) == 0)
}

// explained reports whether a job that is listed keeps a desktop busy.
func (w *world) explained(id string) bool {
	return slices.ContainsFunc(w.jobs, func(job *modelJob) bool { return !job.ended && job.listed() && slices.Contains(job.ids, id) })
}

// listed reports whether the list of jobs shows it: one that is kept shows late.
func (job *modelJob) listed() bool {
	return !job.gone && !job.hidden && (!job.kept || serviceNow().Sub(job.begun) >= time.Minute)
}

// worker runs one delivery at a time, from stop to stop.
type worker struct {
	name    string
	world   *world
	at      string // where it has stopped; "" if it is idle
	request *request
	resume  chan directive
	stopped chan string
}

// directive is what happens to a stopped worker.
type directive struct {
	die    bool
	err    error // of the store
	stored bool  // although the store returns err
	lost   bool  // the answer of the service
}

// start begins a delivery; done runs at its end, unless the worker dies.
func (w *worker) start(deliver func(*once.Engine) ([]queue.Outcome, error), done func([]queue.Outcome)) {
	w.resume, w.stopped = make(chan directive), make(chan string)
	go func() {
		defer func() { w.stopped <- "" }()
		engine := once.New(config.Default(), workerAPI{service(serviceNow), w}, once.Options{Store: workerStore{w}, Owner: w.name, Now: time.Now})
		outcomes, err := deliver(engine)
		if err == nil {
			done(outcomes)
		} else if !queue.IsVerdict(err) {
			w.world.broken("the delivery of %s ended in an unexpected error: %v", w.name, err)
		}
	}()
	w.at = <-w.stopped
}

// stop waits for the test.
func (w *worker) stop(at string) directive {
	w.stopped <- at
	d := <-w.resume
	if d.die {
		runtime.Goexit()
	}
	return d
}

// step resumes a worker until its next stop.
func (w *worker) step(d directive) {
	w.resume <- d
	w.at = <-w.stopped
}

// run resumes a worker to the end of its delivery, with a service that answers at once.
func (w *worker) run() {
	for w.at != "" {
		if w.at == atAnswer && w.request.answer == nil {
			w.world.handle(w.request, false)
		}
		w.step(directive{})
	}
}

const (
	atAnswer = "waiting for the answer"
	atPut    = "before a put"
	atImages = "after it has read the images"
	atTurn   = "before its turn"
)

// workerAPI is the client of a worker, whose rate limit may hold a call back.
type workerAPI struct {
	service
	w *worker
}

func (a workerAPI) AwaitTurn(context.Context) error {
	if a.w.stop(atTurn).err != nil {
		return errLimited
	}
	return nil
}

type workerStore struct{ w *worker }

func (s workerStore) Get(ctx context.Context, key string) (ledger.Record, store.Revision, error) {
	s.w.stop("before a get")
	return s.w.world.store.Get(context.WithoutCancel(ctx), key)
}

func (s workerStore) Put(ctx context.Context, key string, r ledger.Record, old store.Revision) (store.Revision, error) {
	d := s.w.stop(atPut)
	if d.err != nil && !d.stored {
		return 0, d.err
	}
	rev, err := s.w.world.store.Put(context.WithoutCancel(ctx), key, r, old)
	if err == nil {
		err = d.err
	}
	s.w.stop("after a put")
	return rev, err
}

// The model's ledger loses nothing.
func (s workerStore) Fit(context.Context, string) error             { return nil }
func (s workerStore) Missing(context.Context, string, string) error { return nil }

// deliver delivers a command to an idle worker.
func (w *world) deliver(to *worker, c *command, giveUp bool) {
	to.start(func(e *once.Engine) ([]queue.Outcome, error) {
		if giveUp {
			return e.GiveUp(context.Background(), modelOperation{to, c}, "5 deliveries ended in a crash")
		}
		return e.Do(context.Background(), modelOperation{to, c})
	}, func(outcomes []queue.Outcome) { w.publish(c, outcomes) })
}

// watch delivers an accepted job to a worker, which may see another state of it than other workers.
func (w *world) watch(by *worker, c *command) {
	about := modelOperation{by, c}.About()
	done := events.JobCompleted{JobID: c.job.JobID, Outcome: events.TimedOut, Error: &events.Failure{ErrorMsg: fmt.Sprint(by.name, " saw it at ", time.Now())}}
	var rebuilt []string
	for _, job := range w.jobs {
		if job.id == c.job.JobID && job.ended {
			rebuilt = job.ids
		}
	}
	if len(rebuilt) == len(c.job.DesktopIDs) {
		done.Outcome = events.Succeeded
	}
	for _, id := range c.job.DesktopIDs {
		outcome := events.Missing
		if slices.Contains(rebuilt, id) {
			outcome = events.Succeeded
		}
		done.Desktops = append(done.Desktops, events.DesktopResult{DesktopID: id, Outcome: outcome})
	}
	for _, id := range c.job.Skipped {
		done.Desktops = append(done.Desktops, events.DesktopResult{DesktopID: id, Outcome: events.Skipped})
	}
	by.start(func(e *once.Engine) ([]queue.Outcome, error) {
		end, err := e.EndJob(context.Background(), about.Ref(), queue.Outcome{
			ID: "end-of-" + c.id, Type: events.TypeJobCompleted, Causation: once.AcceptedID(about.Identity()), Data: done,
		})
		return []queue.Outcome{end}, err
	}, func(outcomes []queue.Outcome) { w.publish(c, outcomes) })
}

// publish compares what is published with what was published before.
func (w *world) publish(c *command, outcomes []queue.Outcome) {
	for _, o := range outcomes {
		switch {
		case o.To != "":
			ids := o.Data.([]string)
			if !slices.ContainsFunc(w.commands, func(c *command) bool { return c.id == o.ID }) {
				w.commands = append(w.commands, &command{id: o.ID, ids: ids})
			}
		case o.Type == events.TypeJobAccepted:
			job := o.Data.(events.JobAccepted)
			if c.job != nil && c.job.JobID != job.JobID {
				w.broken("command %s was accepted as %s and as %s", c.id, c.job.JobID, job.JobID)
			}
			c.job = &job
		default:
			if c.ended != nil && (c.ended.ID != o.ID || c.ended.Type != o.Type || string(c.ended.Data.(json.RawMessage)) != string(o.Data.(json.RawMessage))) {
				w.broken("command %s has two ends: %s %s and %s %s", c.id, c.ended.Type, c.ended.Data, o.Type, o.Data)
			}
			c.ended = &o
		}
	}
}

// settle brings everything to its end: nothing dies any more, and what is on its way arrives.
func (w *world) settle() {
	for _, wk := range w.workers {
		if wk.at != "" {
			wk.step(directive{die: true})
		}
	}
	for _, r := range slices.Clone(w.network) {
		w.handle(r, false)
	}
	for range 200 {
		open := 0
		for i := 0; i < len(w.commands); i++ { // a split adds to them
			if c := w.commands[i]; c.ended == nil {
				open++
				c.failures++
				w.deliver(w.workers[0], c, false)
				w.workers[0].run()
				if c.job != nil && c.ended == nil {
					w.watch(w.workers[1], c)
					w.workers[1].run()
				}
			}
		}
		if open == 0 {
			break
		}
		<-time.After(20 * time.Second)
		for _, job := range w.jobs {
			if w.mayFinish(job) {
				w.finish(job)
			}
		}
	}
	for _, c := range w.commands {
		w.check(c)
	}
}
