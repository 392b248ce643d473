package workspace

import (
	"context"
	"time"

	"golang.org/x/time/rate"
)

// bucket holds calls to a rate a minute. The service throttles by user: 200 reads and 100 writes a minute by its
// documentation.
type bucket struct{ limiter *rate.Limiter }

// newBucket lets a tenth of the rate go at once and spreads the rest, so that no minute sees more than perMinute. A
// negative rate is unlimited.
func newBucket(perMinute float64) bucket {
	if perMinute < 0 {
		return bucket{rate.NewLimiter(rate.Inf, 1)}
	}
	burst := max(1, int(perMinute/10))
	refill := perMinute - float64(burst)
	if burst == 1 {
		refill = perMinute
	}
	return bucket{rate.NewLimiter(rate.Limit(refill/60), burst)}
}

// wait blocks until a call may go, or ctx ends, or it is clear that ctx would end first.
func (b bucket) wait(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return b.limiter.Wait(ctx)
}

// slow takes away what was saved up, after a 429.
func (b bucket) slow() {
	if b.limiter.Limit() == rate.Inf {
		return
	}
	now := time.Now()
	if saved := int(b.limiter.TokensAt(now)); saved > 0 {
		b.limiter.AllowN(now, saved)
	}
}
