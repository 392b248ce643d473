package lambdaboot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/awstest"
	"recompose/shared/workspace"
)

const asBootstrap = "TEST_AS_BOOTSTRAP"

// TestMain lets this program also be a bootstrap, whose function does what the data of a command is.
func TestMain(m *testing.M) {
	if os.Getenv(asBootstrap) == "" {
		os.Exit(m.Run())
	}
	Main(func(api *workspace.Client, engine *once.Engine) queue.Function {
		return queue.Function{Name: "getdesktop", Types: []string{events.TypeGetDesktop}, Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			var do struct{ Do string }
			if err := json.Unmarshal(c.Envelope.Data, &do); err != nil {
				return nil, err
			}
			switch do.Do {
			case "panic":
				panic("as ordered")
			case "wait":
				engine.Log.InfoContext(ctx, "in hand")
				select {
				case <-time.After(500 * time.Millisecond):
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			case "call":
				if err := api.Probe(ctx); err != nil {
					return nil, queue.Stop(err)
				}
			case "fail":
				return nil, errors.New("as ordered")
			}
			return []queue.Outcome{{Type: events.TypeDesktopDescribed, Data: map[string]any{}}}, nil
		}}
	})
}

const secretARN = "arn:aws:secretsmanager:us-east-1:000000000000:secret:recompose-AbCdEf"

type setup struct {
	*awstest.Server
	t     *testing.T
	world *emulator.Server
	at    string // the service
}

func newSetup(t *testing.T) *setup {
	t.Helper()
	world, err := emulator.New(emulator.Options{})
	require.NoError(t, err)
	site := httptest.NewServer(world)
	s := &setup{awstest.New(), t, world, site.URL}
	t.Cleanup(func() { s.Close(); site.Close(); require.NoError(t, world.Close()) })
	s.CreateQueue("getdesktop", time.Minute)
	s.CreateQueue("getdesktop-dead", time.Minute)
	s.secret(emulator.DefaultSecretKey)
	return s
}

func (s *setup) secret(sk string) {
	s.SetSecret(secretARN, fmt.Sprintf(`{"AK": %q, "SK": %q, "PROJECT_ID": %q}`, emulator.DefaultAccessKey, sk, emulator.DefaultProjectID))
}

func (s *setup) environment() map[string]string {
	env := s.Environment("getdesktop", "table")
	env[asBootstrap], env["RECOMPOSE_SECRET_ARN"], env["RECOMPOSE_WORKSPACE_ENDPOINT"] = "yes", secretARN, s.at
	return env
}

func (s *setup) start() *awstest.Sandbox {
	s.t.Helper()
	return s.startWith(nil)
}

// startWith starts a sandbox with more in its environment.
func (s *setup) startWith(more map[string]string) *awstest.Sandbox {
	s.t.Helper()
	program, err := os.Executable()
	require.NoError(s.t, err)
	env := s.environment()
	maps.Copy(env, more)
	b, err := s.Start(program, env)
	require.NoError(s.t, err)
	s.t.Cleanup(func() {
		b.Close()
		if s.t.Failed() {
			s.t.Log(b.Log())
		}
	})
	return b
}

func record(id, do string) awstest.Record {
	body := fmt.Sprintf(`{"specversion":"1.0","id":%q,"source":"test","type":%q,"data":{"do":%q}}`, id, events.TypeGetDesktop, do)
	return awstest.Record{MessageID: id, ReceiptHandle: id, Body: body, EventSourceARN: awstest.QueueARN("getdesktop"), Attributes: map[string]string{
		"ApproximateReceiveCount": "1", "SentTimestamp": fmt.Sprint(time.Now().UnixMilli()),
	}}
}

func TestAPanicIsOneMessagesFailure(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	b := s.start()
	answer, err := b.Invoke(t.Context(), awstest.Event(record("a", ""), record("b", "panic"), record("c", "fail"), record("d", "")), time.Minute)
	require.NoError(t, err)
	require.JSONEq(t, `{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"c"}]}`, string(answer))
	require.Len(t, s.Published(), 2)
	require.Contains(t, b.Log(), "as ordered")
	require.Contains(t, b.Log(), "boot_test.go", "the stack is in the log")
	answer, err = b.Invoke(t.Context(), awstest.Event(record("e", "")), time.Minute)
	require.NoError(t, err)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
}

func TestSIGTERMLetsWhatIsInHandEnd(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	b := s.start()
	type invoked struct {
		answer []byte
		err    error
	}
	ended := make(chan invoked, 1)
	go func() {
		answer, err := b.Invoke(context.Background(), awstest.Event(record("a", "wait")), time.Minute)
		ended <- invoked{answer, err}
	}()
	require.Eventually(t, func() bool { return strings.Contains(b.Log(), "in hand") }, 10*time.Second, time.Millisecond, "it has begun")
	require.NoError(t, b.Terminate())
	got := <-ended
	require.NoError(t, got.err)
	require.JSONEq(t, `{"batchItemFailures":[]}`, string(got.answer))
	require.Len(t, s.Published(), 1)
	<-b.Ended()
	require.NoError(t, b.Err())
}

func TestAStoppedSandboxHoldsItsMessages(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	s.secret("wrong")
	b := s.start()
	invoke := func(b *awstest.Sandbox, id string) {
		answer, err := b.Invoke(t.Context(), awstest.Event(record(id, "call")), time.Minute)
		require.NoError(t, err)
		require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer))
	}
	invoke(b, "a")
	invoke(b, "b")
	other := s.start()
	invoke(other, "c")
	require.Len(t, s.world.Requests(0, 0), 1, "the key is tried once, and one refusal stops all sandboxes")
	require.Empty(t, s.Published())
	held := s.Messages("getdesktop")
	require.Len(t, held, 3)
	for _, m := range held {
		require.Greater(t, m.Delay, safety.ProbeEvery, "then the key may be probed once more")
		require.Equal(t, "1", m.Attributes[queue.AttemptHeader])
	}
	require.Equal(t, 2, s.Items("table"), "the key and the service")
	require.Equal(t, 2, s.Calls("GetSecretValue"), "two cold starts; what was just read is not read again")
}

func TestAFunctionOfAnotherServiceHoldsItsMessages(t *testing.T) {
	t.Parallel()
	s := newSetup(t)
	store, err := dynamostore.New(dynamostore.Options{Config: s.Config(), Table: "table"})
	require.NoError(t, err)
	other := events.Service{Kind: events.ServiceReal, Host: "w.example.org", Project: "p2"}
	require.NoError(t, service.Claim{Store: store, Service: other, Now: time.Now}.Check(t.Context()))

	b := s.start()
	invoke := func(id string) {
		t.Helper()
		answer, err := b.Invoke(t.Context(), awstest.Event(record(id, "call")), time.Minute)
		require.NoError(t, err)
		require.JSONEq(t, `{"batchItemFailures":[]}`, string(answer), "it costs no receive")
	}
	invoke("a")
	invoke("b")
	require.Empty(t, s.Published())
	require.Empty(t, s.world.Requests(0, 0), "not even the credentials are tried")
	held := s.Messages("getdesktop")
	require.Len(t, held, 2)
	require.Greater(t, held[0].Delay, time.Minute)
	require.Contains(t, b.Log(), other.Name(), "both are named")
	require.Contains(t, b.Log(), "EMULATOR, project "+emulator.DefaultProjectID)

	_, err = service.Accept(t.Context(), store, events.Service{Kind: events.ServiceEmulator, Project: emulator.DefaultProjectID}, "ada", time.Now())
	require.NoError(t, err)
	invoke("a")
	require.Len(t, s.Published(), 1, "it continues without a new sandbox")
	_, err = service.Accept(t.Context(), store, other, "ada", time.Now())
	require.NoError(t, err)
	invoke("c")
	require.Len(t, s.Published(), 1, "and holds its messages from the change on")
}

// A proxy on this machine may lead to the real service, which accepts older signatures.
func TestAShortWindowNeedsAnEmulator(t *testing.T) {
	t.Parallel()
	proxy := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(proxy.Close)
	b := newSetup(t).startWith(map[string]string{"RECOMPOSE_WORKSPACE_ENDPOINT": proxy.URL, "RECOMPOSE_SIGNATURE_WINDOW": "2s"})
	select {
	case <-b.Ended():
	case <-time.After(30 * time.Second):
		require.Fail(t, "it starts")
	}
	require.Error(t, b.Err())
	require.Regexp(t, "the cold start failed.*RECOMPOSE_SIGNATURE_WINDOW .*did not prove to be an emulator", b.Log())
}
