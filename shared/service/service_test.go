package service_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/service"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

var (
	lab  = events.Service{Kind: events.ServiceEmulator, Project: "p1"}
	real = events.Service{Kind: events.ServiceReal, Host: "w.example.org", Project: "p1"}
	noon = time.Date(2026, 1, 15, 12, 0, 0, 5, time.UTC)
)

func claim(s store.Store, of events.Service) service.Claim {
	return service.Claim{Store: s, Service: of, By: "w1", Now: func() time.Time { return noon }}
}

func TestTheFirstWorkerRecordsItsService(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	_, _, err := service.Read(t.Context(), s)
	require.ErrorIs(t, err, store.ErrNotFound)
	require.NoError(t, claim(s, real).Check(t.Context()))
	r, first, err := service.Read(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, service.Record{Service: real, By: "w1", At: noon.Truncate(time.Second)}, r)
	require.NoError(t, claim(s, real).Check(t.Context()))

	for _, other := range []events.Service{
		lab, {Kind: events.ServiceReal, Host: "w.example.org", Project: "p2"}, {Kind: events.ServiceReal, Host: "v.example.org", Project: "p1"},
	} {
		err = claim(s, other).Check(t.Context())
		differs := new(service.OtherError)
		require.ErrorAs(t, err, &differs)
		require.ErrorContains(t, err, real.Name())
		require.ErrorContains(t, err, other.Name())
		require.ErrorContains(t, err, "recompose setup --accept-service")
	}
	_, now, err := service.Read(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, first, now, "a worker changes nothing that is recorded")

	require.NoError(t, claim(memstore.New(), lab).Check(t.Context()))
	other := memstore.New()
	require.NoError(t, claim(other, lab).Check(t.Context()))
	require.Error(t, claim(other, events.Service{Kind: events.ServiceEmulator, Project: "p2"}).Check(t.Context()))
}

func TestOneOfConcurrentFirstWorkersRecords(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	var begins sync.WaitGroup
	var mu sync.Mutex
	began := map[events.Service]int{}
	for i := range 20 {
		own := []events.Service{lab, real}[i%2]
		begins.Go(func() {
			if claim(s, own).Check(context.Background()) == nil {
				mu.Lock()
				began[own]++
				mu.Unlock()
			}
		})
	}
	begins.Wait()
	r, _, err := service.Read(t.Context(), s)
	require.NoError(t, err)
	require.Equal(t, map[events.Service]int{r.Service: 10}, began, "all of one service and none of the other")
}

func TestAccept(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	require.NoError(t, claim(s, lab).Check(t.Context()))
	same, err := service.Accept(t.Context(), s, lab, "ada@host", noon)
	require.NoError(t, err)
	require.Nil(t, same.Accepted, "nothing was changed")

	changed, err := service.Accept(t.Context(), s, real, "ada@host", noon)
	require.NoError(t, err)
	repeated, err := service.Accept(t.Context(), s, real, "bob@host", noon.Add(time.Hour))
	require.NoError(t, err)
	first, err := changed.Event()
	require.NoError(t, err)
	second, err := repeated.Event()
	require.NoError(t, err)
	require.Equal(t, first, second, "one change has one event, also when it is repeated")
	require.Equal(t, events.TypeServiceAccepted, first.Type)
	require.Empty(t, first.Causation, "it does not end a command")
	require.JSONEq(t, `{"service":{"kind":"real","host":"w.example.org","project":"p1"},"before":{"kind":"emulator","project":"p1"},"by":"ada@host"}`, string(first.Data))
	require.NoError(t, claim(s, real).Check(t.Context()))
	require.Error(t, claim(s, lab).Check(t.Context()))
	back, err := service.Accept(t.Context(), s, lab, "ada@host", noon)
	require.NoError(t, err)
	third, err := back.Event()
	require.NoError(t, err)
	forth, err := service.Accept(t.Context(), s, real, "ada@host", noon)
	require.NoError(t, err)
	fourth, err := forth.Event()
	require.NoError(t, err)
	require.NotEqual(t, first.ID, third.ID)
	require.NotEqual(t, first.ID, fourth.ID, "the same change made later is another one")

	none := memstore.New()
	r, err := service.Accept(t.Context(), none, real, "ada@host", noon)
	require.NoError(t, err)
	require.Nil(t, r.Accepted.Before)
	e, err := r.Event()
	require.NoError(t, err)
	require.NotContains(t, string(e.Data), "before")
}

func TestADamagedRecordIsReported(t *testing.T) {
	t.Parallel()
	for _, value := range []string{
		`{`, `{}`, `null`, `[]`, `"emulator"`, `{"kind":"emulator"}`, `{"kind":"emulator","project":""}`, `{"kind":"other","project":"p1"}`,
		`{"kind":"emulator","host":"w.example.org","project":"p1"}`, `{"kind":"real","project":"p1"}`,
		`{"kind":"emulator","project":"p1","more":1}`, `{"kind":"emulator","project":"p1"} {}`,
	} {
		s := memstore.New()
		rev, err := s.Put(t.Context(), service.Key, []byte(value), 0)
		require.NoError(t, err)
		require.ErrorIs(t, claim(s, lab).Check(t.Context()), service.ErrDamaged, value)
		_, now, err := service.Read(t.Context(), s)
		require.ErrorIs(t, err, service.ErrDamaged)
		require.Equal(t, rev, now, "no worker replaces it")
		_, err = service.Accept(t.Context(), s, lab, "ada@host", noon)
		require.NoError(t, err)
		require.NoError(t, claim(s, lab).Check(t.Context()))
	}
}

// racing is a store in which another worker always stores first.
type racing struct {
	*memstore.Store
	err error
}

func (r racing) Put(context.Context, string, []byte, store.Revision) (store.Revision, error) {
	return 0, r.err
}

// fits is a ledger with or without lost records.
type fits struct{ err error }

func (f fits) Fit(context.Context, string) error { return f.err }

func TestAServiceIsNotRecordedWhileItsRecordMayBeLost(t *testing.T) {
	t.Parallel()
	s := memstore.New()
	c := claim(s, lab)
	c.Ledger = fits{&ledger.LostError{Reason: "the stream is truncated"}}
	err := c.Check(t.Context())
	require.ErrorIs(t, err, ledger.ErrLost)
	require.ErrorContains(t, err, "recompose setup --accept-service")
	_, _, err = service.Read(t.Context(), s)
	require.ErrorIs(t, err, store.ErrNotFound)

	_, err = service.Accept(t.Context(), s, lab, "ada@host", noon)
	require.NoError(t, err)
	require.NoError(t, c.Check(t.Context()), "a recorded service needs no check of the ledger")
	empty := claim(memstore.New(), lab)
	empty.Ledger = fits{}
	require.NoError(t, empty.Check(t.Context()))
}

func TestAStoreThatFails(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	require.ErrorIs(t, claim(racing{memstore.New(), broken}, lab).Check(t.Context()), broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, claim(memstore.New(), lab).Check(ctx), context.Canceled)
	_, err := service.Accept(t.Context(), racing{memstore.New(), store.ErrConflict}, lab, "ada@host", noon)
	require.ErrorIs(t, err, store.ErrConflict)
}

func TestOneSpellingOfAHost(t *testing.T) {
	t.Parallel()
	for endpoint, want := range map[string]string{
		"https://workspace.ap-southeast-1.myhuaweicloud.com":      "workspace.ap-southeast-1.myhuaweicloud.com",
		"https://Workspace.AP-southeast-1.myhuaweicloud.com.:443": "workspace.ap-southeast-1.myhuaweicloud.com",
		"https://w.example.org:8443/":                             "w.example.org:8443",
		"https://w.example.org:80":                                "w.example.org:80",
		"https://[2001:DB8:0::1]":                                 "[2001:db8::1]",
		"https://[2001:db8::1]:444":                               "[2001:db8::1]:444",
		"https://192.0.2.1:443":                                   "192.0.2.1",
	} {
		s, err := service.Of(t.Context(), endpoint, "p1")
		require.NoError(t, err)
		require.Equal(t, events.Service{Kind: events.ServiceReal, Host: want, Project: "p1"}, s, endpoint)
	}
}

func TestAnEmulatorIsRecognizedOnThisMachineOnly(t *testing.T) {
	t.Parallel()
	world, err := emulator.New(emulator.Options{})
	require.NoError(t, err)
	for name, test := range map[string]struct {
		handler http.Handler
		want    string
	}{
		"the emulator":                 {world, events.ServiceEmulator},
		"not found":                    {http.NotFoundHandler(), events.ServiceReal},
		"another answer":               {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(`{"error_code":"APIGW.0101"}`)) }), events.ServiceReal},
		"a redirect":                   {http.RedirectHandler("/elsewhere", http.StatusFound), events.ServiceReal},
		"a gateway without its server": {http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) }), ""},
		"silence":                      {http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(test.handler)
			defer server.Close()
			s, err := service.Of(t.Context(), server.URL, "p1")
			require.Equal(t, test.want, s.Kind)
			require.Equal(t, test.want == "", errors.Is(err, service.ErrNoAnswer), "%v", err)
		})
	}
	_, err = service.Of(t.Context(), "http://127.0.0.1:1", "p1")
	require.ErrorIs(t, err, service.ErrNoAnswer, "an endpoint that does not respond is neither")
}

func TestAShortWindowNeedsAnEmulator(t *testing.T) {
	t.Parallel()
	world, err := emulator.New(emulator.Options{Speed: 60})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, world.Close()) })
	proxy, lab := httptest.NewServer(http.NotFoundHandler()), httptest.NewServer(world)
	t.Cleanup(func() { proxy.Close(); lab.Close() })
	const window = config.SignatureWindow
	for name, test := range map[string]struct {
		at     string
		window time.Duration
		pace   float64
		want   string
	}{
		"a real service":              {proxy.URL, window, 1, ""},
		"a short window":              {proxy.URL, window - 1, 1, "RECOMPOSE_SIGNATURE_WINDOW is 14m59.999999999s"},
		"a short window, and a proof": {lab.URL, time.Second, 60, ""},
		"nothing that could answer":   {"http://127.0.0.1:1", time.Second, 1, service.ErrNoAnswer.Error()},
		"a real service far from it":  {"https://workspace.example.org", time.Second, 1, "RECOMPOSE_SIGNATURE_WINDOW"},
	} {
		c := &config.Config{WorkspaceEndpoint: config.URLs(test.at), ProjectID: "p", SignatureWindow: test.window, Pace: 1}
		_, err := service.Configured(t.Context(), c)
		if test.want == "" {
			require.NoError(t, err, name)
			require.InDelta(t, test.pace, c.Pace, 0, name)
			continue
		}
		require.ErrorContains(t, err, test.want, name)
	}
}
