package workspace

import (
	"context"
	"net/http"
	"sync"
)

// turns are those of writes that have passed the rate limit and still wait for their callers' own checks.
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

// AwaitTurn waits for the rate limit and for credentials, before the caller's last checks: a change during a wait after
// those checks would go unnoticed. The next write uses the turn; DropTurn discards an unused one. The error is an
// [*Error], of class [NotSent] if the turn is more than 15 seconds off, and more than the time between two turns.
func (c *Client) AwaitTurn(ctx context.Context) error {
	k := call{operation: "write", method: http.MethodPost, write: true}
	generation, err := c.posts.wait(ctx, c.posts.atLeastATurn(writeWait))
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
	if err := c.posts.check(c.posts.atLeastATurn(writeWait)); err != nil {
		return limited(call{operation: "write"}, err)
	}
	return nil
}

// DropTurn discards a turn that AwaitTurn has waited for and no write has used.
func (c *Client) DropTurn() { c.turns.take() }
