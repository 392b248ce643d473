package once_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// A refusal may be the answer to a second delivery of a call that was taken. Where no job of it is listed, it ends
// without effect only if the desktops are as they were.
func TestARefusalClaimsNoEffectThatIsNotProved(t *testing.T) {
	t.Parallel()
	coded := &workspace.Error{Class: workspace.BadAnswer, Status: 200, Code: "WKS.1", Msg: "odd"}
	forbidden := &workspace.Error{Class: workspace.Forbidden, Status: 403, Code: "WKS.00010099", Msg: "no"}
	page := &workspace.Error{Class: workspace.Forbidden, Status: 403, Err: errors.New("a page of a proxy")}
	backend := &workspace.Error{Class: workspace.Endpoint, Status: 404, Code: "APIGW.0103", Msg: "backend missing"}
	conflict := &workspace.Error{Class: workspace.Conflict, Status: 409, Msg: "busy"}
	unchanged := func() (bool, string, error) { return true, "", nil }
	changed := func() (bool, string, error) { return false, "d-1 runs another image", nil }
	unread := func() (bool, string, error) { return false, "", errors.New("status 503") }
	for name, c := range map[string]struct {
		refusal   *workspace.Error
		unchanged func() (bool, string, error)
		part      bool // a job with some of the desktops is listed
		failed    *queue.FailedError
		kind      string
		effect    string
		detail    string
	}{
		"a code, unchanged":                 {refusal: coded, unchanged: unchanged, kind: events.KindBadAnswer, effect: events.EffectNone},
		"a code, changed":                   {refusal: coded, unchanged: changed, kind: events.KindBadAnswer, effect: events.EffectUnknown, detail: "d-1 runs another image"},
		"a code, cannot be read":            {refusal: coded, unchanged: unread, kind: events.KindBadAnswer, effect: events.EffectUnknown, detail: "status 503"},
		"a code, a job of some":             {refusal: coded, unchanged: unchanged, part: true, kind: events.KindBadAnswer, effect: events.EffectUnknown, detail: "jobs job-7 have some"},
		"no right, which no effect causes":  {refusal: forbidden, unchanged: unread, kind: events.KindForbidden, effect: events.EffectNone},
		"a page of a proxy, changed":        {refusal: page, unchanged: changed, kind: events.KindForbidden, effect: events.EffectUnknown, detail: "another image"},
		"the gateway lost its backend":      {refusal: backend, unchanged: changed, kind: events.KindEndpoint, effect: events.EffectUnknown, detail: "another image"},
		"busy for too long, unchanged":      {refusal: conflict, unchanged: unchanged, kind: events.KindConflict, effect: events.EffectNone},
		"busy for too long, changed":        {refusal: conflict, unchanged: changed, kind: events.KindConflict, effect: events.EffectUnknown, detail: "another image"},
		"expired after a refusal":           {refusal: conflict, unchanged: unchanged, failed: queue.Failed(events.KindExpired, "late"), kind: events.KindExpired, effect: events.EffectNone},
		"expired after a refusal, changed":  {refusal: conflict, unchanged: changed, failed: queue.Failed(events.KindExpired, "late"), kind: events.KindExpired, effect: events.EffectUnknown},
		"an effect that is claimed already": {refusal: conflict, unchanged: unchanged, failed: &queue.FailedError{Effect: events.EffectUnknown, Failure: events.Failure{Kind: events.KindConflict}}, kind: events.KindConflict, effect: events.EffectUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t)
			f := b.call(func(context.Context) error { return c.refusal })
			f.c.DesktopIDs = []string{"d-1", "d-2"}
			f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
				if b.sends.Load() > 0 && c.failed != nil {
					return ledger.Detail{}, nil, c.failed
				}
				return ledger.Detail{DesktopIDs: []string{"d-1", "d-2"}}, nil, nil
			}
			f.unchanged = c.unchanged
			f.divide = func(bool) (*queue.Outcome, error) { return nil, nil }
			if c.part {
				f.find = func(time.Time) (once.Found, error) { return b.job("job-7"), nil }
			}
			r, _ := b.follow(t, f)
			failed := failure(t, r)
			require.Equal(t, c.kind, failed.Error.Kind)
			require.Equal(t, c.effect, failed.Effect)
			require.Contains(t, failed.Error.ErrorDetail, c.detail)
		})
	}
}

// A command that was refused until its deadline does not fail if a further preparation finds the work done.
func TestWhatWasDoneMeanwhileIsNoConflict(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.Config.ConflictDeadline = time.Minute
	f := b.call(func(context.Context) error { return errConflict })
	f.prepare = func(context.Context) (ledger.Detail, *queue.Outcome, error) {
		if b.sends.Load() > 0 {
			return ledger.Detail{}, &queue.Outcome{Type: events.TypeJobCompleted, Data: events.JobCompleted{}}, nil
		}
		return ledger.Detail{DesktopIDs: []string{"d-1"}}, nil, nil
	}
	r, _ := b.follow(t, f)
	require.Equal(t, events.TypeJobCompleted, r.End.Type)
	require.EqualValues(t, 1, b.sends.Load())
}
