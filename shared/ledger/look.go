package ledger

import (
	"context"
	"fmt"
	"time"
)

// A call of unknown outcome is looked for soon after its signing date, when most of those that the service took show
// their job, and past the fence, when the service would refuse what is still on its way. With the service's window of
// 15 minutes that is after 30 s, 2 min, 5 min and 16 min, and then once a minute for ten more.
// A command that nobody looked at for long is looked for a few times all the same.
const (
	looksPastFence = 10
	fewestLooks    = 3
)

// margin is what the fence is later than the window: a minute, or less with a short window. The Date of an answer is
// cut to the second.
func (w Writer) margin() time.Duration { return max(w.window()/15, time.Second) }

// fence is the age of a signature past which no call signed so can be taken any more.
func (w Writer) fence() time.Duration { return w.window() + w.margin() }

// nextLook is how long from now the next look waits, by the age of the signature.
func (w Writer) nextLook(signedAt time.Time) time.Duration {
	age := w.ServiceNow().Sub(signedAt)
	for _, at := range []time.Duration{w.window() / 30, w.window() * 2 / 15, w.window() / 3, w.fence() + time.Second} {
		if at > age {
			return at - age
		}
	}
	return w.margin()
}

// look looks once for what became of a call, if it is time to.
func (w Writer) look(ctx context.Context, c Call, r Record, rev Revision) (Record, error) {
	if c.Look == nil {
		return w.endUnknown(ctx, c, r, rev, nil)
	}
	if left := r.Unclear.Next.Sub(wall(w.Now())); left > 0 {
		return r, &WaitError{For: left, Why: "the outcome of the call is not known and is looked for: " + r.Unclear.Reason}
	}
	age := w.ServiceNow().Sub(r.SignedAt)
	found, err := c.Look(ctx, r, r.SignedAt, age > w.fence())
	switch {
	case err != nil:
		w.log().WarnContext(ctx, "cannot look for a call of unknown outcome", "error", err)
	case found.Job != nil:
		ours, claim := w.ClaimJob(ctx, found.Job.JobID, c.Key)
		if claim != nil {
			return r, fmt.Errorf("claim job %s: %w", found.Job.JobID, claim)
		}
		if ours {
			r.adopt(*found.Job)
			if _, err := w.store(ctx, c.Key, r, rev); err != nil {
				return r, err
			}
			w.log().InfoContext(ctx, "a call of unknown outcome was found and its job adopted", "job_id", r.JobID)
			w.saw("adopted")
			return r, nil
		}
	case found.End != nil:
		r.End = found.End
		_, err = w.store(ctx, c.Key, r, rev)
		return r, err
	case found.Absent && found.Date.Sub(r.SignedAt) > w.fence():
		if !w.Resend {
			return w.endUnknown(ctx, c, r, rev, fmt.Errorf("no trace of it was found, and sending it again is turned off or cannot be made safe: %s", r.Unclear.Reason))
		}
		w.log().WarnContext(ctx, "a call of unknown outcome is proved absent and is made again", "signed_at", r.SignedAt)
		w.saw("resent")
		r.Resent, r.Unclear = r.SignedAt, nil
		return w.claimAndCall(ctx, c, r, rev)
	}
	if found.Why != "" {
		r.Unclear.Reason = found.Why
	}
	if age > w.fence()+looksPastFence*w.margin() && r.Unclear.Looks >= fewestLooks {
		if err == nil {
			err = fmt.Errorf("it was looked for %d times and neither found nor proved absent: %s", r.Unclear.Looks+1, r.Unclear.Reason)
		}
		return w.endUnknown(ctx, c, r, rev, err)
	}
	r.Unclear.Looks++
	wait := w.nextLook(r.SignedAt)
	r.Unclear.Next = wall(w.Now()).Add(wait)
	if _, put := w.store(ctx, c.Key, r, rev); put != nil {
		return r, put
	}
	return r, &WaitError{For: wait, Why: "the outcome of the call is not known and is looked for: " + r.Unclear.Reason}
}

func (w Writer) endUnknown(ctx context.Context, c Call, r Record, rev Revision, err error) (Record, error) {
	if err == nil && r.Unclear.Reason != "" {
		err = fmt.Errorf("%s", r.Unclear.Reason)
	}
	end := c.Unknown(err)
	r.End = &end
	_, err = w.store(ctx, c.Key, r, rev)
	return r, err
}
