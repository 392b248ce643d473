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
	now func() time.Time
	is  dynamoledger.Breaker
	err error
	bad int // so many reads run out of time

	probe time.Time // when the credentials of this name may be tried again
	name  string
}

func (f *fakeBreaker) Breaker(context.Context) (dynamoledger.Breaker, error) {
	if f.bad > 0 {
		f.bad--
		return dynamoledger.Breaker{}, context.DeadlineExceeded
	}
	return f.is, f.err
}

func (f *fakeBreaker) OpenBreaker(_ context.Context, b dynamoledger.Break) error {
	if f.is.Break == nil {
		f.is, f.probe, f.name = dynamoledger.Breaker{Break: &b}, b.Probe, b.Name
	}
	return nil
}

func (f *fakeBreaker) Probe(_ context.Context, name string, next time.Time) (bool, error) {
	if f.now().Before(f.probe) && f.name == name {
		return false, nil
	}
	f.probe, f.name, f.is.Trying = next, name, f.now()
	return true, nil
}

func (f *fakeBreaker) StillRefused(_ context.Context, name string, next time.Time) error {
	if f.name == name {
		f.probe, f.is.Trying = next, time.Time{}
	}
	return nil
}

func (f *fakeBreaker) CloseBreaker(_ context.Context, proved string) error {
	f.is = dynamoledger.Breaker{Proved: proved}
	return nil
}

// fakeSecrets has one secret.
type fakeSecrets struct {
	text, version string
	err           error
}

func (f *fakeSecrets) value(context.Context, string) (secretValue, error) {
	return secretValue{text: f.text, version: f.version}, f.err
}

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
		auth: &rotating{current: r.auth.current}, by: "sandbox", log: slog.New(slog.DiscardHandler), now: func() time.Time { return r.now },
		probe: func(context.Context) error { r.asked++; return r.answer },
	}
}

var errRefused = &workspace.Error{Operation: "list-images", Class: workspace.Unauthorized, Status: 401}

func TestABrakeStopsAllSandboxesUntilAProbeSucceeds(t *testing.T) {
	t.Parallel()
	r := newRig()
	one, two := r.brake(), r.brake()
	require.NoError(t, one.Check(t.Context()))
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 1, r.asked, "one shows that the service takes the key")

	r.answer = errRefused
	one.Pull(t.Context(), errRefused)
	require.Error(t, one.Check(t.Context()))
	require.ErrorContains(t, two.Check(t.Context()), "401")
	require.Equal(t, 1, r.asked, "not before a minute has passed")

	r.now = r.now.Add(probeEvery)
	require.ErrorIs(t, two.Check(t.Context()), errRefused)
	require.Error(t, one.Check(t.Context()))
	require.Equal(t, 2, r.asked, "one of them asks, once")

	r.now, r.answer = r.now.Add(probeEvery), nil
	require.NoError(t, one.Check(t.Context()))
	require.Equal(t, 3, r.asked)
	require.Nil(t, r.store.is.Break)
	require.NoError(t, two.Check(t.Context()), "it was refused by a probe, and asks for itself")
	require.Equal(t, 4, r.asked)
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 4, r.asked)
}

func TestManySandboxesThatStartWithAWrongKeyAreRefusedOnce(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.answer = errRefused
	var all []*brake
	for range 20 {
		all = append(all, r.brake())
		require.Error(t, all[len(all)-1].Check(t.Context()))
	}
	require.Equal(t, 1, r.asked)
	require.NotNil(t, r.store.is.Break, "a refused probe opens the breaker")

	r.secrets.text, r.answer = `{"AK":"key","SK":"new"}`, nil
	r.now = r.now.Add(probeEvery)
	for _, b := range all {
		require.NoError(t, b.Check(t.Context()))
		require.Equal(t, workspace.AKSK{AccessKey: "key", SecretKey: "new"}, b.auth.get(), "nobody goes on with the key that was refused")
	}
	require.Equal(t, 2, r.asked, "one finds out for all")
}

// A key that stays wrong is tried less and less often: five refusals in a row would lock it for everybody. Another key in
// the secret is tried at once.
func TestAKeyThatStaysWrongIsTriedLessAndLessOften(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.answer = errRefused
	all := []*brake{r.brake(), r.brake(), r.brake()}
	begun := r.now
	check := func() (err error) {
		for _, b := range all {
			err = b.Check(t.Context())
		}
		return err
	}
	var at []int
	for r.now.Sub(begun) < 2*time.Hour {
		before := r.asked
		require.Error(t, check())
		require.LessOrEqual(t, r.asked, before+1, "one at a time")
		if r.asked > before {
			at = append(at, int(r.now.Sub(begun).Minutes()))
		}
		r.now = r.now.Add(20 * time.Second)
	}
	require.Equal(t, []int{0, 1, 2}, at[:3], "a refusal may have been a mistake")
	require.Greater(t, at[5], 20, "the sixth in a row would lock it")
	require.Less(t, len(at), 14)

	r.secrets.text, r.answer = `{"AK":"key","SK":"new"}`, nil
	r.now = r.now.Add(probeEvery)
	before := r.asked
	require.NoError(t, check())
	require.Nil(t, r.store.is.Break)
	require.LessOrEqual(t, r.asked, before+len(all))
}

// Who cannot read the secret does not know whether it has another key by now: the old one is not tried again.
func TestARefusedKeyIsNotTriedWhileTheSecretCannotBeRead(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.answer = errRefused
	one, two := r.brake(), r.brake()
	require.Error(t, one.Check(t.Context()))
	r.now = r.now.Add(probeEvery)
	r.secrets.err = errors.New("no answer")
	require.ErrorContains(t, two.Check(t.Context()), "no answer")
	require.ErrorContains(t, one.Check(t.Context()), "no answer")
	require.Equal(t, 1, r.asked)
	r.secrets.err, r.answer = nil, nil
	require.NoError(t, two.Check(t.Context()))
	require.Equal(t, 2, r.asked)
}

func TestWhoTriesTheKeyMayDieOfIt(t *testing.T) {
	t.Parallel()
	r := newRig()
	may, err := r.store.Probe(t.Context(), r.brake().auth.name(), r.now.Add(tryWithin)) // by a sandbox that is killed
	require.NoError(t, err)
	require.True(t, may)
	b := r.brake()
	require.ErrorIs(t, b.Check(t.Context()), errUnderWay)
	require.Zero(t, r.asked)
	r.now = r.now.Add(tryWithin)
	require.NoError(t, b.Check(t.Context()))
}

func TestAServiceThatDoesNotAnswerHasRefusedNothing(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.answer = &workspace.Error{Class: workspace.Unavailable, Status: 503}
	b := r.brake()
	require.ErrorIs(t, b.Check(t.Context()), r.answer)
	require.Nil(t, r.store.is.Break)
	r.now, r.answer = r.now.Add(tryWithin), nil
	require.NoError(t, b.Check(t.Context()))
}

func TestAReplacedKeyIsTakenWithoutARefusal(t *testing.T) {
	t.Parallel()
	r := newRig()
	old := r.brake()
	require.NoError(t, old.Check(t.Context()))
	r.secrets.text = "\ufeff" + `{"AK":"key","SK":"new"}` // from a file of Windows
	started := r.brake()
	require.NoError(t, started.auth.replace(workspace.AKSK{AccessKey: "key", SecretKey: "new"}, "2"))
	require.NoError(t, started.Check(t.Context()))
	require.Equal(t, 2, r.asked, "nobody knew the new one")
	require.NoError(t, old.Check(t.Context()))
	require.Equal(t, started.auth.get(), old.auth.get())
	require.Equal(t, 2, r.asked)
}

func TestASandboxThatCannotReadTheNewKeyStopsNobodyElse(t *testing.T) {
	t.Parallel()
	r := newRig()
	old := r.brake()
	require.NoError(t, old.Check(t.Context()))
	require.NoError(t, r.store.CloseBreaker(t.Context(), "another")) // that others have
	r.secrets.err, r.answer = errors.New("no answer"), errRefused
	require.ErrorIs(t, old.Check(t.Context()), r.secrets.err)
	require.Equal(t, 1, r.asked, "nothing is asked with a key that is old")
	require.Nil(t, r.store.is.Break)
}

func TestNewCredentialsStopOneSandboxOnly(t *testing.T) {
	t.Parallel()
	r := newRig()
	one, two := r.brake(), r.brake()
	require.NoError(t, two.Check(t.Context()))
	r.secrets.text = `{"AK":"key","SK":"new"}`
	one.Pull(t.Context(), errRefused)
	require.Equal(t, workspace.AKSK{AccessKey: "key", SecretKey: "new"}, one.auth.get())
	require.Nil(t, r.store.is.Break)
	require.NoError(t, two.Check(t.Context()))
	require.ErrorIs(t, one.Check(t.Context()), errRefused, "the client holds calls back for a minute")
	r.now = r.now.Add(probeEvery)
	require.NoError(t, one.Check(t.Context()))
	require.Equal(t, 2, r.asked)
}

func TestAReadThatRanOutOfTimeIsMadeAgain(t *testing.T) {
	t.Parallel()
	r := newRig()
	r.store.bad = 1 // the sandbox was frozen meanwhile
	require.NoError(t, r.brake().Check(t.Context()))
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
	b.is.Break = &dynamoledger.Break{Reason: "401"}
	_, err = g.Frozen(t.Context())
	require.ErrorContains(t, err, "refuses the credentials")
	b.is.Break, b.err = nil, errors.New("no table")
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
	require.ErrorContains(t, r.auth.replace(workspace.Token("token"), ""), "another kind")
	require.ErrorIs(t, r.auth.replace(workspace.AKSK{AccessKey: "key", SecretKey: "old"}, "2"), errUnchanged)
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
		"a login": {text: `{"IAM_USER":"u 1","iam_password":"p w\n","IAM_DOMAIN":"d","RECOMPOSE_IAM_ENDPOINT":"https://iam.example.org"}`, flags: map[string]string{
			"RECOMPOSE_IAM_USER": "u 1", "RECOMPOSE_IAM_PASSWORD": "p w", "RECOMPOSE_IAM_DOMAIN": "d", "RECOMPOSE_IAM_ENDPOINT": "https://iam.example.org"}},
		"a password in quotes": {text: `{"IAM_PASSWORD":"'hidden'"}`, wrong: `"IAM_PASSWORD" has quotes`},
		"no JSON":              {text: `hidden`, wrong: "JSON object"},
		"double quotes":        {text: `{"AK":"a","SK":"\"hidden\""}`, wrong: `"SK" has quotes`},
		"single quotes":        {text: `{"AUTH_TOKEN":"'hidden'\n"}`, wrong: `"AUTH_TOKEN" has quotes`},
		"a variable's":         {text: `{"HUAWEICLOUD_SDK_AK":"\"hidden\""}`, wrong: `"HUAWEICLOUD_SDK_AK" has quotes`},
		"its token":            {text: `{"security_token":"\"hidden\""}`, wrong: `"security_token" has quotes`},
		"unknown":              {text: `{"AKK":"hidden"}`, wrong: "AKK"},
		"not a string":         {text: `{"AK":{"x":"hidden"}}`, wrong: "AK"},
		"twice":                {text: `{"AK":"hidden","HUAWEICLOUD_SDK_AK":"hidden"}`, wrong: "twice"},
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
