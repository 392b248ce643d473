package rollout

import (
	"container/heap"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// world is a service that fails and lies, a broker that loses, doubles and delays, and workers that die at any point.
// The rollouts run in it with a clock of their own; the same seed gives the same run.
type world struct {
	t     testing.TB
	rng   *rand.Rand
	now   time.Time
	due   deliveries
	seq   int
	store map[string]versioned
	odds  odds

	desktops map[string]*machine
	ids      []string
	ledger   map[string]*call   // by identity
	listed   map[string][]Event // pages that answered a list, by its id
	frozen   bool

	took           time.Duration   // of a job; 0: 5 to 20 minutes
	queue, back    time.Duration   // until a list is read, and from then on until its answer comes, beyond the usual
	showsUpperCase bool            // the service shows the id of the new image so
	denied         map[string]bool // by the deny list
	vanish         bool            // desktops vanish before they are planned, too
	names          []string
	noWakeUp       bool

	published  map[string]map[string]bool // ids of events that answer, by what they answer
	verbs      map[string]Event
	reported   []Message // events, in order
	heads      map[string]decoded
	steps      int
	reads      int
	accepted   int
	most       int            // limit of unavailable desktops in force or before
	halts      map[string]int // by why
	onAccepted func(c *call)  // more checks
	// fails is whether the job of a desktop fails; refuse is how a call fails, "" if it does not.
	fails     func(id string, m Message) bool
	refuse    func(c *call) (kind, effect string)
	drop      func(e Event) bool         // whether the event is lost
	capture   func(name string, c *call) // what the function and the service make of a capture
	onStep    func(h *Head)              // more checks
	window    map[string]string          // of each rollout
	windowSet time.Time                  // when one was set
	lastPhase map[string]string
}

// odds are how likely faults are, in percent.
type odds struct {
	lose, double, late, crash, race, fail, unknown, unclear, split, busy, timeOut, lost, listFails, login, noCheck, clock int
}

func (w *world) chance(percent int) bool { return w.rng.IntN(100) < percent }

type versioned struct {
	value    []byte
	revision int
}

// decoded is a head, which is not changed.
type decoded struct {
	revision int
	head     *Head
}

// machine is a desktop of the service.
type machine struct {
	image, base, login, task string
	status                   string    // "" is ACTIVE
	jobs                     int       // that run on it
	read                     time.Time // when the service was read last
	gone                     bool
	noType                   bool           // the list shows no type of its image
	rebuilt                  map[string]int // accepted calls by plan, batch and attempt
}

// call is what the ledger knows of a command.
type call struct {
	message Message
	source  string
	state   string
	end     Event
	until   time.Time
	at      time.Time
	ids     []string
}

func newWorld(t testing.TB, seed uint64, desktops int, o odds) *world {
	w := &world{
		t: t, rng: rand.New(rand.NewPCG(seed, 1)), now: t0, store: map[string]versioned{}, odds: o, desktops: map[string]*machine{},
		ledger: map[string]*call{}, listed: map[string][]Event{}, published: map[string]map[string]bool{}, verbs: map[string]Event{},
		halts: map[string]int{}, heads: map[string]decoded{}, lastPhase: map[string]string{}, window: map[string]string{},
	}
	for i := range desktops {
		id := fmt.Sprintf("d-%05d", i)
		w.ids = append(w.ids, id)
		base := fmt.Sprintf("old-%d", i%3)
		w.desktops[id] = &machine{image: base, base: base, login: "REGISTERED", rebuilt: map[string]int{}}
	}
	w.after(time.Minute, w.wake)
	return w
}

func (w *world) after(d time.Duration, do func()) {
	w.seq++
	heap.Push(&w.due, delivery{at: w.now.Add(d), seq: w.seq, do: do})
}

func (w *world) deliver(name string, d time.Duration, e Event, retry bool) {
	w.seq++
	heap.Push(&w.due, delivery{at: w.now.Add(d), seq: w.seq, name: name, e: e, retry: retry})
}

// send delivers an event of a function as the broker does: late, twice or never.
func (w *world) send(name string, d time.Duration, e Event) {
	if w.chance(w.odds.lose) || w.drop != nil && w.drop(e) {
		return
	}
	if w.chance(w.odds.late) {
		d += time.Duration(w.rng.IntN(300)) * time.Second
	}
	w.deliver(name, d, e, false)
	if w.chance(w.odds.double) {
		w.deliver(name, d+time.Duration(w.rng.IntN(200))*time.Second, e, w.chance(50))
	}
}

// command is a verb of a person. Verbs are never lost.
func (w *world) command(d time.Duration, name, typ string, data events.RolloutCommand) string {
	id := fmt.Sprintf("verb-%d", len(w.verbs)+1)
	data.Name = name
	e := verb(id, typ, data)
	e.Verb.Time = w.now
	w.verbs[id] = e
	w.deliver(name, d, e, false)
	if w.chance(w.odds.double) {
		most := 10 * time.Minute
		if w.chance(50) {
			most = 5 * time.Hour
		}
		w.deliver(name, d+time.Duration(w.rng.Int64N(int64(most))), e, true)
	}
	return id
}

func (w *world) start(name string, more map[string]any, change func(*events.RolloutCommand)) string {
	data := events.RolloutCommand{Spec: spec(name, more)}
	if change != nil {
		change(&data)
	}
	if !slices.Contains(w.names, name) {
		w.names = append(w.names, name)
	}
	parsed, err := ParseSpec(data.Spec)
	require.NoError(w.t, err)
	w.most = max(w.most, parsed.Strategy.MaxUnavailable)
	return w.command(0, name, events.TypeRolloutStart, data)
}

// wake wakes rollouts whose tick was lost, as workers do.
func (w *world) wake() {
	w.after(time.Minute, w.wake)
	if w.noWakeUp {
		return
	}
	var live Live
	_ = json.Unmarshal(w.store[LiveKey].value, &live)
	for _, name := range live.Names {
		if h := w.head(name); h != nil && (h.Tick == nil || w.now.After(h.Tick.At.Add(2*time.Minute))) {
			w.deliver(name, 0, Event{}, false)
		}
	}
}

func (w *world) head(name string) *Head {
	record := w.store[HeadKey(name)]
	if record.value == nil {
		return nil
	}
	if d := w.heads[name]; d.revision == record.revision {
		return d.head
	}
	h := &Head{}
	require.NoError(w.t, json.Unmarshal(record.value, h))
	w.heads[name] = decoded{record.revision, h}
	return h
}

// run runs until stop, and at most for this time.
func (w *world) run(most time.Duration, stop func() bool) bool {
	end := w.now.Add(most)
	for len(w.due) > 0 && !w.due[0].at.After(end) {
		if stop != nil && stop() {
			return true
		}
		w.next()
	}
	w.now = end
	return stop != nil && stop()
}

func (w *world) next() {
	d := heap.Pop(&w.due).(delivery)
	if d.at.After(w.now) {
		w.now = d.at
	}
	if d.do != nil {
		d.do()
		return
	}
	w.work(d, 0)
}

// attempt is one step of a worker: it has read, and not yet stored.
type attempt struct {
	result    Result
	revisions map[string]int
}

// clock is the clock of a worker, which may be wrong.
func (w *world) clock() time.Time {
	if w.odds.clock == 0 || !w.chance(w.odds.clock) {
		return w.now
	}
	return w.now.Add(time.Duration(w.rng.IntN(2400)-1200) * time.Second)
}

func (w *world) facts(retry bool) Facts {
	f := Facts{Now: w.clock(), MaxAge: 6 * time.Hour, Republish: retry, Jobs: map[string]Job{}}
	if w.frozen {
		f.Stopped = "frozen"
	}
	return f
}

func (w *world) think(d delivery, retry bool, depth int) attempt {
	for range 100 {
		a := attempt{revisions: map[string]int{}}
		in := map[string][]byte{}
		read := func(key string) { in[key], a.revisions[key] = w.store[key].value, w.store[key].revision }
		read(HeadKey(d.name))
		f := w.facts(retry)
		for range 100 {
			r, err := Step(d.name, in, d.e, f)
			require.NoError(w.t, err)
			for _, identity := range r.Jobs {
				f.Jobs[identity] = w.job(identity)
			}
			if depth == 0 && len(r.Missing) > 0 && w.chance(w.odds.race) { // what it reads then may be newer than the head
				w.overtake(d)
			}
			for _, key := range r.Missing {
				_, known := in[key]
				require.False(w.t, known, "%s is missing twice", key)
				read(key)
			}
			a.result = r
			if len(r.Missing)+len(r.Jobs) == 0 {
				break
			}
		}
		w.reads += len(in)
		if !a.result.Stale {
			require.Empty(w.t, a.result.Missing)
			return a
		}
	}
	w.t.Fatal("a step is always stale")
	return attempt{}
}

// put stores a record; false if it has changed since it was read.
func (w *world) put(a attempt, p Put) bool {
	revision, read := a.revisions[p.Key]
	require.True(w.t, read, "%s is stored and was not read", p.Key)
	require.LessOrEqual(w.t, len(p.Value), 256<<10, p.Key)
	if w.store[p.Key].revision != revision {
		return false
	}
	w.store[p.Key] = versioned{p.Value, revision + 1}
	a.revisions[p.Key] = revision + 1
	return true
}

// work carries out a delivery: read, think, store record by record, publish. It can die, or be overtaken, anywhere.
func (w *world) work(d delivery, depth int) {
	retry := d.retry
	for range 50 {
		a := w.think(d, retry, depth)
		w.steps++
		puts := a.result.Puts
		crash, race := -1, -1
		if depth == 0 && w.chance(w.odds.crash) {
			crash = w.rng.IntN(len(puts) + 1)
		}
		if depth == 0 && w.chance(w.odds.race) {
			race = w.rng.IntN(len(puts) + 1)
		}
		conflict, stored := false, false
		for i := 0; i <= len(puts); i++ {
			if i == race {
				race = -1
				w.overtake(d)
			}
			if i == crash {
				w.deliver(d.name, time.Duration(20+w.rng.IntN(100))*time.Second, d.e, true)
				return
			}
			if i < len(puts) && !w.put(a, puts[i]) {
				conflict = true
				break
			}
			if i < len(puts) && puts[i].Key == HeadKey(d.name) {
				stored = true // its events are in the log, and not published
				w.check(d.name)
			}
		}
		if conflict {
			retry = retry || stored || w.chance(50)
			continue
		}
		for _, m := range a.result.Messages {
			w.pass(d.name, m)
		}
		return
	}
	w.t.Fatal("a worker never wins")
}

// overtake lets another worker carry out up to three deliveries that are due soon.
func (w *world) overtake(d delivery) {
	var later []delivery
	for n := 1 + w.rng.IntN(3); n > 0 && len(w.due) > 0 && w.due[0].at.Before(w.now.Add(40*time.Second)); {
		o := heap.Pop(&w.due).(delivery)
		if o.do != nil {
			later = append(later, o)
			continue
		}
		w.work(o, 1)
		n--
	}
	if w.chance(30) {
		w.work(d, 1) // the same delivery, at two workers at once
	}
	for _, o := range later {
		heap.Push(&w.due, o)
	}
}

// pass passes a message on.
func (w *world) pass(name string, m Message) {
	require.NotEmpty(w.t, m.ID)
	require.LessOrEqual(w.t, len(m.Data), 240<<10)
	switch {
	case m.Type == TypeTick:
		var t TickData
		require.NoError(w.t, json.Unmarshal(m.Data, &t))
		if !w.chance(w.odds.lose) {
			w.deliver(name, m.After, Event{Tick: t.Seq}, false)
		}
	case m.To == "":
		w.reported = append(w.reported, m)
		w.addsUp(m)
		if m.Causation != "" {
			if w.published[m.Causation] == nil {
				w.published[m.Causation] = map[string]bool{}
			}
			w.published[m.Causation][m.ID] = true
		}
	default:
		identity := events.Identity(events.Source(events.FnRollout), m.ID)
		if c, known := w.ledger[identity]; known {
			require.JSONEq(w.t, string(c.message.Data), string(m.Data), "a command is published twice with other data")
			require.Equal(w.t, c.message.Rollout, m.Rollout)
			if m.Type == events.TypeRebuild {
				return // exactly once
			}
		}
		c := &call{message: m, source: events.Source(events.FnRollout), state: JobUnderWay, at: w.now}
		w.ledger[identity] = c
		d := time.Duration(1+w.rng.IntN(8)) * time.Second
		if w.chance(w.odds.late) {
			d += time.Duration(w.rng.IntN(240)) * time.Second
		}
		if m.Type == events.TypeListDesktops {
			d += w.queue
		}
		w.after(d, func() { w.serve(name, c) })
	}
}

func (w *world) job(identity string) Job {
	c, known := w.ledger[identity]
	if !known {
		return Job{State: JobFree, Absent: true}
	}
	return Job{State: c.state, Deadline: c.until, Type: c.end.Type, Data: c.end.Data}
}
