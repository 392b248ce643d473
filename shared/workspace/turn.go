package workspace

import (
	"context"
	"net/http"
	"sync"
)

// turns are those of writes that wait for nothing any more but their own checks.
type turns struct {
	mu          sync.Mutex
	generations []uint64 // of the rate limit, one for each turn
}

func (t *turns) keep(generation uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.generations = append(t.generations, generation)
}

func (t *turns) take() (generation uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.generations) == 0 {
		return 0, false
	}
	generation = t.generations[0]
	t.generations = t.generations[1:]
	return generation, true
}

// AwaitTurn blocks until a write may be sent at once: until the rate limit has a turn for it, and a proof of who calls is
// there. It is for a caller that checks directly before a write whether it may go: what passes while the write waits for its
// turn would be seen by no check. The next write takes the turn; GiveBack gives one back that is not used. The error is an
// [*Error], of class [NotSent] where the turn is more than 15 seconds off.
func (c *Client) AwaitTurn(ctx context.Context) error {
	k := call{operation: "write", method: http.MethodPost, write: true}
	generation, err := c.posts.wait(ctx, writeWait)
	if err != nil {
		return limited(k, err)
	}
	if r, ok := c.auth.(Renewer); ok {
		if _, err := r.Lasts(ctx); err != nil {
			return err
		}
	}
	c.turns.keep(generation)
	return nil
}

// CheckTurn returns at once the error that AwaitTurn would return because the turn of a write is too far off, and takes
// none. It is for a caller that prepares a write with calls of its own.
func (c *Client) CheckTurn() error {
	turn, _, _, err := c.posts.reserve(writeWait)
	if err != nil {
		return limited(call{operation: "write"}, err)
	}
	c.posts.cancel(turn)
	return nil
}

// GiveBack gives back a turn that AwaitTurn has waited for and no write has taken.
func (c *Client) GiveBack() { c.turns.take() }
