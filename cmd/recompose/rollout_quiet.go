package main

import (
	"context"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/chain/reasons"
	"recompose/shared/rollout"
)

// held finds out why what a rollout waits for does not come: the calls of its plan, or its batches. It is nil if the
// rollout has only begun to wait, or waits for something else, which its own records explain.
func (s *rolloutSession) held(ctx context.Context, v *rollout.View) []string {
	w := v.Waiting
	if w == nil || w.Reason != "plan" && w.Reason != "batch" || time.Since(w.Since) < quietFor {
		return nil
	}
	return s.why(ctx, reasons.Work{Correlation: v.Start.Correlation, Whole: true, Write: mayWrite(v)})
}

// mayWrite reports whether a batch was sent and the service has not accepted its job.
func mayWrite(v *rollout.View) bool {
	return slices.ContainsFunc(v.Batches, func(b *rollout.Batch) bool {
		if b == nil || b.State != rollout.Sent {
			return false
		}
		for _, part := range b.Parts {
			if part.JobID != "" {
				return false
			}
		}
		return true
	})
}

func (s *rolloutSession) why(ctx context.Context, work reasons.Work) []string {
	if s.finder == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, reasons.Timeout)
	defer cancel()
	return s.finder.Why(ctx, work)
}

// explainSilence prints why a verb has no answer yet, until ctx ends. number is that of its command in the stream.
func (s *rolloutSession) explainSilence(ctx context.Context, e events.Envelope, number uint64) {
	tick := time.NewTicker(whyEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if why := s.silence(ctx, e, number); ctx.Err() == nil {
				printReasons(s.people(), s.reasons.New(why))
			}
		}
	}
}

// silence finds out why a verb has no answer.
func (s *rolloutSession) silence(ctx context.Context, e events.Envelope, number uint64) (why []string) {
	h, err := rollout.ReadHead(ctx, s.store, rolloutOf(e))
	switch {
	case err == nil && h.Queued != nil && h.Queued.ID == e.ID:
		return []string{h.Reason}
	case err == nil && h.Start.ID == e.ID && h.Phase == rollout.Planning:
		if h.Reading != nil && h.Reading.Why != "" {
			return []string{h.Reading.Why}
		}
		if why = s.held(ctx, &rollout.View{Head: h}); len(why) == 0 {
			why = []string{"the plan is made, which takes a while for a large fleet"}
		}
		return why
	}
	why = s.why(ctx, reasons.Work{
		Correlation: e.Correlation, First: rootOf(e), Functions: []string{events.FnRollout}, Number: number,
		Open: []string{e.ID}, Unanswered: true,
	})
	if len(why) == 0 {
		why = []string{"no answer yet: is a worker with the function rollout running?"}
	}
	return why
}
