package once

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

// A lost call is looked for after its signing date. With the service's window of 15 minutes the looks are:
//
//	after 30 s, 2 min, 5 min   most accepted calls show their job by then
//	after 16 min               past the fence: the service would refuse a call that is still on its way
//	then 10 times, each 1 min  until the search ends
//
// A command whose first look was late still gets fewestLooks looks.
const (
	looksPastFence = 10
	fewestLooks    = 3
)

// margin is how much later the fence is than the window: a minute, or less with a short window, but at least a second,
// because the Date of an answer has whole seconds.
func (e *Engine) margin() time.Duration { return max(e.Config.SignatureWindow/15, time.Second) }

// fence is the age of a signature past which the service accepts no call signed with it.
func (e *Engine) fence() time.Duration { return e.Config.SignatureWindow + e.margin() }

// nextLook is how long from now the next look waits, by the age of the signature.
func (e *Engine) nextLook(signedAt time.Time) time.Duration {
	age := e.api.ServiceNow().Sub(signedAt)
	for _, at := range []time.Duration{e.Config.SignatureWindow / 30, e.Config.SignatureWindow * 2 / 15, e.Config.SignatureWindow / 3, e.fence() + time.Second} {
		if at > age {
			return at - age
		}
	}
	return e.margin()
}

// left is how long it is until then by the service's clock. No wait is longer than the fence, or than the wait for a disk. If
// more is left, the Date of one answer had set the clock wrong when the wait began: then the wait is over.
func (e *Engine) left(next time.Time) time.Duration {
	left := next.Sub(e.api.ServiceNow())
	if left > max(e.fence(), e.Paced(diskWait))+e.margin() {
		return 0
	}
	return left
}

// look looks once for the job of a lost call, if it is time to.
func (w *write) look(ctx context.Context) error {
	if left := w.left(w.record.Unclear.Next); left > 0 {
		return w.searching(left)
	}
	d, signedAt := w.record.Detail, w.record.SignedAt // of the last call; the job may belong to the call before it
	past := w.api.ServiceNow().Sub(signedAt) > w.fence()
	from, until := signedAt, signedAt.Add(w.fence())
	if !w.record.Earlier.IsZero() {
		from = w.record.Earlier
	}
	found, err := w.findJobs(ctx, from, until)
	why := cmp.Or(found.Incomplete, found.Foreign)
	switch whole := found.whole(d.DesktopIDs); {
	case err != nil:
	case len(whole) == 1:
		adopted, err := w.adopt(ctx, whole[0], found, from)
		if adopted || err != nil {
			return err
		}
	case len(found.Jobs) > 0 && !past:
		why = "not every desktop is seen in a job yet"
	case len(found.Jobs) > 0:
		var parts *queue.Outcome
		parts, why, err = w.divideByJobs(ctx, found)
		switch {
		case errors.Is(err, store.ErrConflict): // another worker divides it at the same time
			return err
		case parts != nil:
			return w.end(ctx, foundInParts, *parts)
		}
	case past && why == "":
		var unchanged bool
		unchanged, why, err = w.op.Unchanged(ctx, d, AnyTask)
		switch {
		case err != nil || !unchanged || found.Date.Sub(signedAt) <= w.fence():
		case w.mayArrive():
			why = "by the clock of this worker, the service may still accept its signature"
		default:
			return w.callOnceMore(ctx)
		}
	}
	if workspace.IsUnauthorized(err) {
		return queue.Stop(err)
	}
	return w.lookLater(ctx, why, err)
}

// mayArrive reports whether a lost call may still take effect by the clock of the workers. The Date of a look, and the one by
// which the call was signed, are those of one machine of the service, whose clock may be wrong; another one may check the
// signature of the call.
func (w *write) mayArrive() bool {
	signed := w.record.SignedAt
	if sent := w.record.Sent; sent.After(signed) {
		signed = sent
	}
	return w.wall().Sub(signed) <= w.Config.SignatureWindow
}

// callOnceMore repeats a lost call that was proved absent, if the settings and credentials allow it.
func (w *write) callOnceMore(ctx context.Context) error {
	if !w.Config.MayResend() || !w.api.SignaturesExpire() || w.record.Undated {
		return w.endUnknown(ctx, fmt.Errorf("no trace of it was found (%s). It is not repeated: "+
			"RECOMPOSE_RESEND forbids it, or the call was made with a token, which does not expire", w.record.Unclear.Reason))
	}
	w.Log.WarnContext(ctx, "a call of unknown outcome is proved absent and is made once more", "signed_at", w.record.SignedAt)
	w.OnRecovery("resent")
	return w.call(ctx, proofOfNone, w.record.Detail)
}

// lookLater records that a look found nothing, or ends the search.
func (w *write) lookLater(ctx context.Context, why string, err error) error {
	if err != nil {
		w.Log.WarnContext(ctx, "cannot look for a call of unknown outcome", "error", err)
	}
	next, u := w.record, *w.record.Unclear
	next.Unclear = &u
	if why != "" {
		u.Reason = why
	}
	if w.api.ServiceNow().Sub(next.SignedAt) > w.fence()+looksPastFence*w.margin() && u.Looks >= fewestLooks {
		if err == nil {
			err = fmt.Errorf("it was looked for %d times and neither found nor proved absent: %s", u.Looks+1, u.Reason)
		}
		return w.endUnknown(ctx, err)
	}
	wait := w.nextLook(next.SignedAt)
	u.Looks++
	u.Next = w.api.ServiceNow().Add(wait)
	if err := w.move(ctx, notFoundYet, next); err != nil {
		return err
	}
	return w.searching(wait)
}

func (w *write) searching(left time.Duration) error {
	return queue.RetryAfter(left, fmt.Errorf("the outcome of the call is not known and is looked for: %s", w.record.Unclear.Reason))
}

// endUnknown ends a command if the outcome of its call cannot be found out.
func (w *write) endUnknown(ctx context.Context, why error) error {
	failed := queue.Failed(events.KindUnknownOutcome,
		"it is not known whether the service accepted the call; check the desktops before you repeat it: %v", why)
	failed.Effect = events.EffectUnknown
	return w.end(ctx, neverKnown, w.failed(failed))
}

// findJobs looks for the job of a call, and removes the jobs that other commands have claimed.
func (w *write) findJobs(ctx context.Context, from, until time.Time) (Found, error) {
	found, err := w.op.FindJob(ctx, w.record.Detail, from, until)
	if err != nil {
		return found, err
	}
	for _, job := range found.ids() {
		others, err := w.isOthers(ctx, job)
		if err != nil {
			return found, err
		}
		if others {
			found.Foreign = fmt.Sprintf("job %s of another command has the desktops", job)
			delete(found.Jobs, job)
		}
	}
	return found, nil
}

// adopt claims a found job and records it as the command's job; false if another command claimed it meanwhile.
func (w *write) adopt(ctx context.Context, job string, found Found, signedAt time.Time) (bool, error) {
	ours, err := w.claimJob(ctx, job)
	if !ours || err != nil {
		return false, err
	}
	at, d := w.acceptance(job, found, signedAt, w.record.Detail)
	if err := w.move(ctx, jobFound, withJob(w.record, job, at, d)); err != nil {
		return false, err
	}
	w.Log.InfoContext(ctx, "a call of unknown outcome was found and its job adopted", "job_id", job)
	w.OnRecovery("adopted")
	return true, nil
}

// acceptance returns when a found job was accepted, and the detail with the deadline that follows.
func (w *write) acceptance(job string, found Found, signedAt time.Time, d ledger.Detail) (time.Time, ledger.Detail) {
	at := signedAt
	if begun, ok := found.Begun[job]; ok {
		at = begun
	}
	d.Deadline = at.Add(w.c.Watch)
	return at, d
}

// divideByJobs divides a lost call if each found job has only some of its desktops: each job becomes a part. The other
// desktops become one more part, which is still being looked for. Parts are stored first and published after. why is the
// reason if the call is not divided.
func (w *write) divideByJobs(ctx context.Context, found Found) (split *queue.Outcome, why string, err error) {
	d, jobs := w.record.Detail, found.ids()
	if w.op.Part(d.DesktopIDs) == nil {
		return nil, fmt.Sprintf("jobs %v show a part of the call", jobs), nil
	}
	if all := slices.Concat(slices.Collect(maps.Values(found.Jobs))...); len(union(all, nil)) < len(all) {
		return nil, fmt.Sprintf("jobs %v have some of the desktops twice", jobs), nil
	}
	parts, err := w.storedParts(ctx)
	if err != nil {
		return nil, "", err
	}
	rest := without(d.DesktopIDs, slices.Concat(parts...))
	for _, job := range jobs {
		ids := found.Jobs[job]
		if len(without(ids, rest)) > 0 { // some are in a part already
			continue
		}
		if ours, err := w.claimJob(ctx, job); err != nil || !ours {
			return nil, fmt.Sprintf("job %s was claimed by another command", job), err
		}
		part := ledger.Record{JobID: job, Detail: only(d, ids)}
		part.Accepted, part.Detail = w.acceptance(job, found, w.record.SignedAt, part.Detail)
		if parts, err = w.storePart(ctx, parts, partFound, part); err != nil {
			return nil, "", err
		}
		rest = without(rest, ids)
	}
	if len(rest) > 0 {
		now := w.api.ServiceNow()
		unclear := &ledger.Unclear{
			Since: now, Next: now, Reason: "the jobs found have only other desktops of the call", Announce: 1,
		}
		if parts, err = w.storePart(ctx, parts, partUnclear, ledger.Record{Unclear: unclear, Detail: only(d, rest)}); err != nil {
			return nil, "", err
		}
	}
	return Split(w.op, parts), "", nil
}

// storedParts returns the parts that an earlier look stored but did not publish. They are final.
func (w *write) storedParts(ctx context.Context) ([][]string, error) {
	var parts [][]string
	for {
		part, rev, err := w.get(ctx, partKey(w.c, len(parts)))
		if err != nil || rev == 0 {
			return parts, err
		}
		parts = append(parts, slices.Concat(part.Detail.DesktopIDs, part.Detail.Skipped))
	}
}

// storePart stores the record of the next part, and adds its desktops to the parts.
func (w *write) storePart(ctx context.Context, parts [][]string, on Event, part ledger.Record) ([][]string, error) {
	part.Fence, part.Owner, part.Earlier, part.EarlierUntil = 1, w.record.Owner, w.record.Earlier, w.record.EarlierUntil
	if on != partInherits {
		part.SignedAt, part.Sent, part.Undated = w.record.SignedAt, w.record.Sent, w.record.Undated
	}
	if len(parts) == 0 { // the skipped desktops go with the first part
		part.Detail.Skipped = w.record.Detail.Skipped
	}
	ids := slices.Concat(part.Detail.DesktopIDs, part.Detail.Skipped)
	part.Digest = events.Digest(w.op.Part(ids))
	_, err := w.put(ctx, partKey(w.c, len(parts)), ledger.Record{}, on, part, 0)
	return append(parts, ids), err
}

func partKey(c Command, i int) string {
	return events.Identity(events.Source(c.Function), events.PartID(c.Identity(), i))
}

// storeSplit stores the records of the parts of a command that has an earlier call, each with that call, and returns
// the parts. Parts that an earlier delivery stored but did not publish are final; the others share the remaining
// desktops.
func (w *write) storeSplit(ctx context.Context, split events.CommandSplit) ([][]string, error) {
	parts, err := w.storedParts(ctx)
	if err != nil {
		return nil, err
	}
	stored := slices.Concat(parts...)
	for _, part := range split.Parts {
		ids := without(without(part.DesktopIDs, stored), w.record.Detail.Skipped)
		if len(ids) == 0 {
			continue
		}
		if parts, err = w.storePart(ctx, parts, partInherits, ledger.Record{Detail: only(w.record.Detail, ids)}); err != nil {
			return nil, err
		}
	}
	return parts, nil
}

// without returns the ids that are not among others.
func without(ids, others []string) []string {
	return slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return slices.Contains(others, id) })
}

// only returns the detail for some of the desktops in the call.
func only(d ledger.Detail, ids []string) ledger.Detail {
	some := ledger.Detail{DesktopIDs: ids, Known: d.Known, KnownAll: d.KnownAll, Busy: d.Busy, Batch: d.Batch}
	if len(some.Batch) == 0 {
		some.Batch = d.DesktopIDs
	}
	for _, p := range d.Previous {
		if slices.Contains(ids, p.DesktopID) {
			some.Previous = append(some.Previous, p)
		}
	}
	for id, volume := range d.Volumes {
		if slices.Contains(ids, id) {
			if some.Volumes == nil {
				some.Volumes = map[string]string{}
			}
			some.Volumes[id] = volume
		}
	}
	return some
}
