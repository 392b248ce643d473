package lambdaboot

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/emulator"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/awstest"
	"recompose/shared/testkit/testclock"
	"recompose/shared/workspace"
)

// loginRig is one table, one secret with an IAM user, and the service. Each sandbox has a client of its own.
type loginRig struct {
	t       *testing.T
	clock   *testclock.Clock
	store   store.Store
	secrets *fakeSecrets
	world   *emulator.Server
	at      string
}

func newLoginRig(t *testing.T) *loginRig {
	t.Helper()
	r := &loginRig{t: t, clock: testclock.New(), store: memstore.New(), secrets: &fakeSecrets{}}
	var err error
	r.world, err = emulator.New(emulator.Options{Now: r.clock.Now})
	require.NoError(t, err)
	site := httptest.NewServer(r.world)
	t.Cleanup(func() { site.Close(); require.NoError(t, r.world.Close()) })
	r.at = site.URL
	r.put(emulator.DefaultIAMPassword, "1")
	return r
}

// put puts the secret anew.
func (r *loginRig) put(password, version string) {
	r.secrets.text = fmt.Sprintf(`{"IAM_USER": %q, "IAM_PASSWORD": %q, "IAM_DOMAIN": %q}`, emulator.DefaultIAMUser, password, emulator.DefaultIAMDomain)
	r.secrets.version = version
}

// sandbox is one sandbox.
type sandbox struct {
	*safety.Key
	auth *rotating
	api  *workspace.Client
}

// sandbox starts one.
func (r *loginRig) sandbox() sandbox {
	r.t.Helper()
	keys := &secret{arn: "arn", manager: r.secrets, settings: func(flags map[string]string) (*config.Config, error) {
		return &config.Config{
			IAMUser: flags["RECOMPOSE_IAM_USER"], IAMPassword: config.Secret(flags["RECOMPOSE_IAM_PASSWORD"]), IAMDomain: flags["RECOMPOSE_IAM_DOMAIN"],
			IAMEndpoint: config.URLs(r.at), ProjectID: emulator.DefaultProjectID,
		}, nil
	}}
	c, err := keys.load(r.t.Context())
	require.NoError(r.t, err)
	current, err := credentials.Of(c, nil)
	require.NoError(r.t, err)
	auth := &rotating{current: current, version: keys.version}
	api, err := workspace.New(workspace.Options{
		Endpoint: r.at, ProjectID: emulator.DefaultProjectID, Auth: auth, ReadsPerMinute: -1, WritesPerMinute: -1,
		SignatureWindow: config.SignatureWindow, Now: r.clock.Now,
	})
	require.NoError(r.t, err)
	return sandbox{safety.NewKey(safety.KeyOptions{
		Store: r.store, Credentials: &sandboxCredentials{keys, auth}, Probe: api.Probe, By: "sandbox",
		Log: slog.New(slog.DiscardHandler), Now: r.clock.Now,
	}), auth, api}
}

// logins are the statuses of all logins.
func (r *loginRig) logins() []int {
	statuses := []int{}
	for _, q := range r.world.Requests(0, 0) {
		if q.Call == emulator.CallToken {
			statuses = append(statuses, q.Status)
		}
	}
	return statuses
}

// A wrong password locks the user after a few logins: all sandboxes together, old and new ones, make one.
func TestAWrongPasswordIsSentOnceByAllSandboxes(t *testing.T) {
	t.Parallel()
	r := newLoginRig(t)
	r.put("wrong-password", "1")
	all := []sandbox{r.sandbox(), r.sandbox(), r.sandbox()}
	for range 30 {
		for _, b := range all {
			require.Error(t, b.Check(t.Context()))
		}
		r.clock.Add(20 * time.Minute)
	}
	all = append(all, r.sandbox())
	require.ErrorContains(t, all[3].Check(t.Context()), "refuses the credentials")
	require.Equal(t, []int{http.StatusUnauthorized}, r.logins())
	refusal, err := safety.ReadRefusal(t.Context(), r.store)
	require.NoError(t, err)
	require.Contains(t, refusal.Reason, "IAM refuses the login")

	r.put(emulator.DefaultIAMPassword, "2")
	r.clock.Add(time.Minute)
	for _, b := range all {
		require.NoError(t, b.Check(t.Context()))
	}
	refusal, err = safety.ReadRefusal(t.Context(), r.store)
	require.NoError(t, err)
	require.Nil(t, refusal)
	require.Equal(t, http.StatusUnauthorized, r.logins()[0])
	require.NotContains(t, r.logins()[1:], http.StatusUnauthorized)
}

// The user was locked and is unlocked: the same secret, stored once more, is tried.
func TestTheSameLoginIsTriedWhereTheSecretIsPutAnew(t *testing.T) {
	t.Parallel()
	r := newLoginRig(t)
	require.NoError(t, r.world.SetFaults([]emulator.Fault{{Call: emulator.CallToken, Do: emulator.Do{Status: 401, ErrorCode: "IAM.0011", ErrorMsg: "locked"}}}))
	one, two := r.sandbox(), r.sandbox()
	require.Error(t, one.Check(t.Context()))
	require.NoError(t, r.world.SetFaults(nil))
	r.clock.Add(time.Hour)
	require.Error(t, one.Check(t.Context()))
	require.Error(t, two.Check(t.Context()))
	require.Len(t, r.logins(), 1)
	r.put(emulator.DefaultIAMPassword, "2")
	r.clock.Add(time.Minute)
	require.NoError(t, two.Check(t.Context()))
	require.NoError(t, one.Check(t.Context()))
}

// The password is changed while sandboxes have tokens. One login is refused, and the others do not try the old
// password.
func TestAPasswordThatIsChangedUnderWay(t *testing.T) {
	t.Parallel()
	r := newLoginRig(t)
	one, two := r.sandbox(), r.sandbox()
	require.NoError(t, one.Check(t.Context()))
	require.NoError(t, two.Check(t.Context()))
	require.NoError(t, r.world.SetFaults([]emulator.Fault{{Call: emulator.CallToken, Do: emulator.Do{Status: 401, ErrorCode: "IAM.0011", ErrorMsg: "wrong"}}}))
	r.clock.Add(24 * time.Hour)
	why := one.api.Probe(t.Context())
	require.ErrorIs(t, why, workspace.ErrLoginRefused)
	one.Refuse(t.Context(), why)
	for range 5 {
		require.Error(t, two.Check(t.Context()))
		require.Error(t, one.Check(t.Context()))
		r.clock.Add(time.Hour)
	}
	require.Len(t, r.logins(), 2, "one that was taken, for the sandbox that tried, and one that was refused")
}

func TestARotatingLoginIsRenewedAsItself(t *testing.T) {
	t.Parallel()
	r := newLoginRig(t)
	b := r.sandbox()
	require.NoError(t, b.api.Probe(t.Context()))
	require.NoError(t, r.world.Reset()) // it knows no token any more
	require.NoError(t, b.api.Probe(t.Context()))
	require.Len(t, r.logins(), 1, "of the journal since")
	left, err := b.auth.Lasts(t.Context())
	require.NoError(t, err)
	require.Greater(t, left, 23*time.Hour)
	require.False(t, b.auth.Dated())
	require.NotContains(t, fmt.Sprintf("%v %+v %s", b.auth, b.auth, b.auth.name()), emulator.DefaultIAMPassword)

	fixed := &rotating{current: workspace.AKSK{AccessKey: "key", SecretKey: "old"}}
	fixed.Accepted(http.Header{})
	require.False(t, fixed.Refused(http.Header{}))
	left, err = fixed.Lasts(t.Context())
	require.NoError(t, err)
	require.Greater(t, left, 365*24*time.Hour)
}

// A token does not expire soon enough to be a fence, wherever it comes from; signatures do.
func TestOnlyWhatExpiresIsSentOnceMore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		set     func(*config.Config)
		resend  bool
		expires bool
	}{
		"key":        {func(c *config.Config) { c.AK, c.SK = "AK", "SK" }, true, true},
		"turned off": {func(c *config.Config) { c.AK, c.SK, c.Resend = "AK", "SK", config.ResendNever }, false, true},
		"token":      {func(c *config.Config) { c.AuthToken = "t" }, false, false},
		"login": {func(c *config.Config) {
			c.IAMUser, c.IAMPassword, c.IAMDomain, c.IAMEndpoint = "u", "p", "d", "https://iam.example.org"
		}, false, false},
		"agency": {func(c *config.Config) { c.Agency = config.AgencyMetadata }, true, true},
	} {
		c := config.Default()
		c.ProjectID = "p1"
		test.set(c)
		auth, err := credentials.Of(c, nil)
		require.NoError(t, err)
		api, err := workspace.New(workspace.Options{
			Endpoint: "https://w.example.org", ProjectID: "p1", Auth: &rotating{current: auth},
			ReadsPerMinute: -1, WritesPerMinute: -1, SignatureWindow: c.SignatureWindow,
		})
		require.NoError(t, err)
		require.Equal(t, test.resend, c.MayResend(), name)
		require.Equal(t, test.expires, api.SignaturesExpire(), name)
	}
}

func (s *setup) login(password string) {
	s.SetSecret(secretARN, fmt.Sprintf(`{"IAM_USER": %q, "IAM_PASSWORD": %q, "IAM_DOMAIN": %q, "IAM_ENDPOINT": %q, "PROJECT_ID": %q}`,
		emulator.DefaultIAMUser, password, emulator.DefaultIAMDomain, s.at, emulator.DefaultProjectID))
}

func TestABootstrapLogsInWithItsSecret(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.login(emulator.DefaultIAMPassword)
	b := s.start()
	for _, id := range []string{"a", "b"} {
		answer, err := b.Invoke(t.Context(), awstest.Event(record(id, "call")), time.Minute)
		require.NoError(t, err)
		require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
	}
	require.Len(t, s.Published(), 2)
	var statuses []int
	for _, q := range s.world.Requests(0, 0) {
		if q.Call == emulator.CallToken {
			statuses = append(statuses, q.Status)
		}
	}
	require.Equal(t, []int{http.StatusCreated}, statuses)
	require.NotContains(t, b.Log(), emulator.DefaultIAMPassword)
}

func TestBootstrapsWithAWrongPasswordLogInOnce(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.login("hunter2hunter2")
	for _, id := range []string{"a", "b", "c"} {
		b := s.start()
		answer, err := b.Invoke(t.Context(), awstest.Event(record(id, "call")), time.Minute)
		require.NoError(t, err)
		require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer), "the message is kept, and costs no receive")
		require.NotContains(t, b.Log(), "hunter2")
	}
	require.Len(t, s.world.Requests(0, 0), 1)
	require.Len(t, s.Messages("getdesktop"), 3)
	require.Empty(t, s.Published())
}

func TestABootstrapWithTheKeysOfAnAgency(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	world, err := emulator.New(emulator.Options{Agency: true})
	require.NoError(t, err)
	site := httptest.NewServer(world)
	t.Cleanup(func() { site.Close(); require.NoError(t, world.Close()) })
	s.at = site.URL
	s.SetSecret(secretARN, fmt.Sprintf(`{"PROJECT_ID": %q}`, emulator.DefaultProjectID))
	b := s.startWith(map[string]string{"RECOMPOSE_AGENCY": "metadata", "RECOMPOSE_METADATA_ENDPOINT": site.URL})
	answer, err := b.Invoke(t.Context(), awstest.Event(record("a", "call")), time.Minute)
	require.NoError(t, err)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
	require.Len(t, s.Published(), 1)
}
