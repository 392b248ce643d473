package natsqueue

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// pool has the goroutines that handle the messages of one consumer, and a slot for each message that may be started.
type pool struct {
	w     *work
	r     route
	slots chan struct{} // one token for each free slot
	start chan job      // to a goroutine that is free

	mu      sync.Mutex
	started int // how many goroutines there are
}

// job is a message to be handled.
type job struct {
	m       *nats.Msg
	ackWait time.Duration
}

func newPool(w *work, r route) *pool {
	p := &pool{w: w, r: r, slots: make(chan struct{}, w.q.o.Concurrency), start: make(chan job, w.q.o.Concurrency)}
	for range w.q.o.Concurrency {
		p.slots <- struct{}{}
	}
	return p
}

// run takes messages until ctx ends. Two pullers share the slots: while one has all that it requested, and its next
// request is on the way, the request of the other one is with the server.
func (p *pool) run(ctx context.Context) {
	most := (cap(p.slots) + 1) / 2
	var pullers sync.WaitGroup
	for i := range min(2, cap(p.slots)) {
		pullers.Go(func() {
			(&puller{pool: p, most: most, task: fmt.Sprintf("%s/%s/%d", p.r.stream, p.r.durable, i+1)}).run(ctx)
		})
	}
	pullers.Wait()
	close(p.start)
}

// handle starts a message, on one of at most as many goroutines as there are slots. They live as long as the pool: a new
// one for each message would have to grow its stack each time.
func (p *pool) handle(j job) {
	p.w.handlers.Add(1)
	p.start <- j // a slot is held for each message in it, so it is never full
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.start) == 0 || p.started == cap(p.start) {
		return
	}
	p.started++
	go func() {
		for j := range p.start {
			p.handleOne(j)
		}
	}()
}

func (p *pool) handleOne(j job) {
	defer p.w.handlers.Done()
	defer p.release(1)
	p.w.handle(p.r, j.m, j.ackWait)
}

func (p *pool) release(n int) {
	for range n {
		p.slots <- struct{}{}
	}
}
