package lambdaboot

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/workspace"
)

// fakeBreaker is the breaker of one table, in memory.
type fakeBreaker struct {
	now    func() time.Time
	broken *dynamoledger.Break
	err    error
}

func (f *fakeBreaker) Broken(context.Context) (*dynamoledger.Break, error) { return f.broken, f.err }

func (f *fakeBreaker) OpenBreaker(_ context.Context, b dynamoledger.Break) error {
	if f.broken == nil {
		f.broken = &b
	}
	return nil
}

func (f *fakeBreaker) Probe(_ context.Context, next time.Time) (bool, error) {
	if f.now().Before(f.broken.Probe) {
		return false, nil
	}
	f.broken.Probe = next
	return true, nil
}

func (f *fakeBreaker) CloseBreaker(context.Context) error {
	f.broken = nil
	return nil
}

// fakeSecrets has one secret.
type fakeSecrets struct {
	text string
	err  error
}

func (f *fakeSecrets) value(context.Context, string) (string, error) { return f.text, f.err }

type rig struct {
	now     time.Time
	store   *fakeBreaker
	secrets *fakeSecrets
	auth    *rotating
	asked   int
	answer  error
}

func newRig() *rig {
	r := &rig{now: time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC), secrets: &fakeSecrets{text: `{"AK":"key","SK":"old"}`}}
	r.store = &fakeBreaker{now: func() time.Time { return r.now }}
	r.auth = &rotating{current: workspace.AKSK{AccessKey: "key", SecretKey: "old"}}
	return r
}

func (r *rig) brake() *brake {
	return &brake{
		store: r.store, keys: &secret{arn: "arn", value: r.secrets.value, settings: func(flags map[string]string) (*config.Config, error) {
			return &config.Config{AccessKey: flags["HUAWEICLOUD_SDK_AK"], SecretKey: config.Secret(flags["HUAWEICLOUD_SDK_SK"])}, nil
		}},
		auth: r.auth, by: "sandbox", log: slog.New(slog.DiscardHandler), now: func() time.Time { return r.now },
		probe: func(context.Context) error { r.asked++; return r.answer },
	}
}

var errRefused = errors.New("401")

func TestABrakeStopsAllSandboxesUntilAProbeSucceeds(t *testing.T) {
	t.Parallel()
	r := newRig()
	one, two := r.brake(), r.brake()
	require.NoError(t, one.Check(t.Context()))
	require.NoError(t, two.Check(t.Context()))

	r.answer = errRefused
	one.Pull(t.Context(), errRefused)
	require.Error(t, one.Check(t.Context()))
	require.ErrorContains(t, two.Check(t.Context()), "401")
	require.Zero(t, r.asked, "not before a minute has passed")

	r.now = r.now.Add(probeEvery)
	require.ErrorIs(t, two.Check(t.Context()), errRefused)
	require.Error(t, one.Check(t.Context()))
	require.Equal(t, 1, r.asked, "one of them asks, once")

	r.now, r.answer = r.now.Add(probeEvery), nil
	require.NoError(t, one.Check(t.Context()))
	require.Equal(t, 2, r.asked)
	require.Nil(t, r.store.broken)
	require.NoError(t, two.Check(t.Context()), "it was refused by a probe, and asks for itself")
	require.Equal(t, 3, r.asked)
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 3, r.asked)
}

func TestNewCredentialsStopOneSandboxOnly(t *testing.T) {
	t.Parallel()
	r := newRig()
	one, two := r.brake(), r.brake()
	r.secrets.text = `{"AK":"key","SK":"new"}`
	one.Pull(t.Context(), errRefused)
	require.Equal(t, workspace.AKSK{AccessKey: "key", SecretKey: "new"}, r.auth.get())
	require.Nil(t, r.store.broken)
	require.NoError(t, two.Check(t.Context()))
	require.ErrorIs(t, one.Check(t.Context()), errRefused, "the client holds calls back for a minute")
	r.now = r.now.Add(probeEvery)
	require.NoError(t, one.Check(t.Context()))
	require.Equal(t, 1, r.asked)
}

// frozenToo is a breaker with a freeze.
type frozenToo struct {
	*fakeBreaker
	freeze *ledger.Freeze
}

func (f frozenToo) Frozen(context.Context) (*ledger.Freeze, error) { return f.freeze, nil }

func TestAWriteStopsAtTheFreezeAndAtTheBreaker(t *testing.T) {
	t.Parallel()
	b := &fakeBreaker{}
	g := gate{frozenToo{fakeBreaker: b}}
	freeze, err := g.Frozen(t.Context())
	require.NoError(t, err)
	require.Nil(t, freeze)
	b.broken = &dynamoledger.Break{Reason: "401"}
	_, err = g.Frozen(t.Context())
	require.ErrorContains(t, err, "refuses the credentials")
	b.broken, b.err = nil, errors.New("no table")
	_, err = g.Frozen(t.Context())
	require.ErrorContains(t, err, "no table")
	freeze, err = gate{frozenToo{&fakeBreaker{}, &ledger.Freeze{Reason: "storm"}}}.Frozen(t.Context())
	require.NoError(t, err)
	require.Equal(t, "storm", freeze.Reason)
}

func TestWhatCannotBeReadStops(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.store.err = errors.New("no table")
	require.ErrorContains(t, r.brake().Check(t.Context()), "no table")
}

func TestCredentialsOfAnotherKindAreNotTaken(t *testing.T) {
	t.Parallel()
	r := newRig()
	require.ErrorContains(t, r.auth.replace(workspace.Token("token")), "another kind")
	require.ErrorIs(t, r.auth.replace(workspace.AKSK{AccessKey: "key", SecretKey: "old"}), errUnchanged)
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text, wrong string
		flags       map[string]string
	}{
		"short names": {text: `{"AK":"a","sk":"s\n","PROJECT_ID":"p"}`, flags: map[string]string{
			"HUAWEICLOUD_SDK_AK": "a", "HUAWEICLOUD_SDK_SK": "s", "HUAWEICLOUD_SDK_PROJECT_ID": "p"}},
		"variables": {text: `{"HUAWEICLOUD_SDK_AK":"a","RECOMPOSE_AUTH_TOKEN":"t"}`, flags: map[string]string{
			"HUAWEICLOUD_SDK_AK": "a", "RECOMPOSE_AUTH_TOKEN": "t"}},
		"no JSON":      {text: `hidden`, wrong: "JSON object"},
		"unknown":      {text: `{"AKK":"hidden"}`, wrong: "AKK"},
		"not a string": {text: `{"AK":{"x":"hidden"}}`, wrong: "AK"},
		"twice":        {text: `{"AK":"hidden","HUAWEICLOUD_SDK_AK":"hidden"}`, wrong: "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &secret{arn: "arn", value: (&fakeSecrets{text: c.text}).value}
			flags, err := s.read(t.Context())
			if c.wrong == "" {
				require.NoError(t, err)
				require.Equal(t, c.flags, flags)
				return
			}
			require.ErrorContains(t, err, c.wrong)
			require.NotContains(t, err.Error(), "hidden")
		})
	}
}
