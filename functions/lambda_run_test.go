package functions_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/testkit/awstest"
)

const testSecret = "arn:aws:secretsmanager:us-east-1:000000000000:secret:recompose-AbCdEf"

var programs struct {
	dir  string
	once map[string]*sync.Once
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "recompose-lambda")
	if err != nil {
		panic(err)
	}
	programs.dir, programs.once = dir, map[string]*sync.Once{}
	for _, name := range functions.Names() {
		programs.once[name] = &sync.Once{}
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// bootstrap builds the program of a function as the Makefile does, but for this machine.
func bootstrap(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(programs.dir, name)
	programs.once[name].Do(func() {
		build := exec.Command("make", target(t, name), "ARTIFACTS_DIR="+dir, "LAMBDA_ARCH="+runtime.GOARCH)
		build.Dir = ".."
		out, err := build.CombinedOutput()
		require.NoError(t, err, string(out))
	})
	return filepath.Join(dir, "bootstrap")
}

// cloud is both clouds: AWS as far as it is used, and the Workspace service.
type cloud struct {
	*awstest.Server
	world    *emulator.Server
	endpoint string
}

func newCloud(t testing.TB, c emulator.Options) *cloud {
	t.Helper()
	world, err := emulator.New(c)
	require.NoError(t, err)
	service := httptest.NewServer(world)
	k := &cloud{awstest.New(), world, service.URL}
	t.Cleanup(func() { k.Close(); service.Close(); require.NoError(t, world.Close()) })
	k.SetSecret(testSecret, fmt.Sprintf(`{"AK": %q, "SK": %q}`, emulator.DefaultAccessKey, emulator.DefaultSecretKey))
	for _, f := range functions.Routes() {
		k.CreateQueue(f.Name, time.Minute)
		k.CreateQueue(f.Name+"-dead", time.Minute)
		if f.RolloutOnly {
			k.SubscribeRollout(f.Name, true, f.Types, f.Reacts)
		} else {
			k.Subscribe(f.Name, true, slices.Concat(f.Types, f.Reacts)...)
		}
	}
	return k
}

// environment is what the template sets for a function.
func (k *cloud) environment(name string) map[string]string {
	env := k.Environment(name, "recompose")
	env["HUAWEICLOUD_SDK_PROJECT_ID"], env["RECOMPOSE_WORKSPACE_ENDPOINT"] = emulator.DefaultProjectID, k.endpoint
	env["RECOMPOSE_SECRET_ARN"], env["RECOMPOSE_REGION"] = testSecret, ""
	if name == events.FnRollout {
		env["RECOMPOSE_SECRET_ARN"] = ""
	}
	return env
}

// start runs a function's real program; more goes over its environment.
func (k *cloud) start(t testing.TB, name string, more map[string]string) *awstest.Sandbox {
	t.Helper()
	env := k.environment(name)
	maps.Copy(env, more)
	s, err := k.Start(bootstrap(t, name), env)
	require.NoError(t, err)
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("log of %s:\n%s", name, s.Log())
		}
	})
	return s
}

// command is a command in an event of a function's queue.
func command(t testing.TB, name, id string, data any) awstest.Record {
	t.Helper()
	raw, err := json.Marshal(data)
	require.NoError(t, err)
	body, err := json.Marshal(events.Envelope{ID: id, Source: "test", Type: events.CommandType(name), Time: time.Now(), Data: raw})
	require.NoError(t, err)
	return recordOf(name, id, string(body))
}

func recordOf(name, id, body string) awstest.Record {
	return awstest.Record{
		MessageID: id, ReceiptHandle: "handle of " + id, Body: body, EventSource: "aws:sqs", EventSourceARN: awstest.QueueARN(name), Region: awstest.Region,
		Attributes: map[string]string{"ApproximateReceiveCount": "1", "SentTimestamp": fmt.Sprint(time.Now().UnixMilli())},
	}
}

// invoke runs the function once and returns the ids that it lists as failed.
func invoke(t testing.TB, s *awstest.Sandbox, within time.Duration, records ...awstest.Record) []string {
	t.Helper()
	answer, err := s.Invoke(t.Context(), awstest.Event(records...), within)
	require.NoError(t, err, s.Log())
	var list struct {
		BatchItemFailures []struct{ ItemIdentifier string } `json:"batchItemFailures"`
	}
	decoder := json.NewDecoder(bytes.NewReader(answer))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&list), string(answer))
	failed := []string{}
	for _, f := range list.BatchItemFailures {
		failed = append(failed, f.ItemIdentifier)
	}
	slices.Sort(failed)
	return failed
}

// events returns the events on the topic, by type.
func (k *cloud) events(t *testing.T) map[string][]events.Envelope {
	t.Helper()
	by := map[string][]events.Envelope{}
	for _, m := range k.Published() {
		var e events.Envelope
		require.NoError(t, json.Unmarshal([]byte(m.Body), &e))
		by[e.Type] = append(by[e.Type], e)
	}
	return by
}

func TestEachBootstrapTakesBatches(t *testing.T) {
	t.Parallel()
	for _, name := range functions.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newCloud(t, emulator.Options{Desktops: 3})
			s := k.start(t, name, map[string]string{"RECOMPOSE_CONCURRENCY": "1"})
			require.Empty(t, invoke(t, s, time.Minute, recordOf(name, "m1", `{"specversion": "1.0"}`), recordOf(name, "m2", "no JSON")))
			dead := k.Messages(name + "-dead")
			if name == events.FnWatchJob { // it has no command of its own, so bare data is an unknown message
				require.Len(t, dead, 2)
			} else {
				require.Len(t, dead, 1)
				require.Len(t, k.events(t)[events.TypeCommandFailed], 1)
			}
			const more = 20
			connections, calls := k.Connections(), k.Calls("SendMessage")
			for i := range more {
				require.Empty(t, invoke(t, s, time.Minute, recordOf(name, fmt.Sprint("again ", i), `{"specversion": "1.0"}`)))
			}
			require.Len(t, k.Messages(name+"-dead"), len(dead)+more)
			require.Equal(t, calls+more, k.Calls("SendMessage"))
			// Each invocation makes two calls, of the table and of the queue. Now and then one begins before the
			// connection of the one before is free.
			require.Less(t, k.Connections(), connections+2*more*3/4, "the connections of the first invocation are used again")
			secrets := 1
			if name == events.FnRollout { // its role may not
				secrets = 0
			}
			require.Equal(t, secrets, k.Calls("GetSecretValue"), "the secret is read at the cold start")
			require.Contains(t, s.Log(), `"requestId":"request-1"`)
			require.Regexp(t, `"message":"cold start","function":"`+name+`","version":"[^"]+"`, s.Log())
			require.NotContains(t, s.Log(), emulator.DefaultSecretKey)

			require.NoError(t, s.Terminate())
			select {
			case <-s.Ended():
				require.NoError(t, s.Err())
			case <-time.After(10 * time.Second):
				require.Fail(t, "it does not end")
			}
		})
	}
}

func TestABootstrapReturnsWhatCannotBeDoneInTime(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 3})
	ids := k.world.DesktopIDs()
	const slow = 20 * time.Second
	require.NoError(t, k.world.SetFaults([]emulator.Fault{{Call: "get-desktop", DesktopID: ids[0], Do: emulator.Do{Delay: slow}}}))
	get := func(id, desktop string) awstest.Record {
		return command(t, events.FnGetDesktop, id, events.GetDesktop{DesktopID: desktop})
	}
	s := k.start(t, events.FnGetDesktop, map[string]string{"RECOMPOSE_CONCURRENCY": "1"})
	begun := time.Now()
	require.Equal(t, []string{"waiting"}, invoke(t, s, 3*time.Second, get("quick", ids[1]), get("slow", ids[0]), get("waiting", ids[2])))
	require.Less(t, time.Since(begun), 3*time.Second)
	delayed := k.Messages(events.FnGetDesktop)
	require.Len(t, delayed, 1, "a read without an answer is retried later")
	require.Contains(t, delayed[0].Body, `"slow"`)
	require.Len(t, k.events(t)[events.TypeDesktopDescribed], 1)
	require.Empty(t, invoke(t, s, time.Minute, get("waiting", ids[2])), "the sandbox continues")
	require.Len(t, k.events(t)[events.TypeDesktopDescribed], 2)
}

// Lambda may freeze a sandbox after its response. A call that was still on its way could then continue much later.
func TestABootstrapEndsAWriteBeforeItAnswers(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 2})
	ids := k.world.DesktopIDs()
	image := k.world.State().Images[1]
	require.NoError(t, k.world.SetFaults([]emulator.Fault{{Call: "rebuild", Do: emulator.Do{Delay: 20 * time.Second}}}))
	s := k.start(t, events.FnRebuild, nil)
	write := command(t, events.FnRebuild, "c1", map[string]any{"desktop_ids": ids, "image_id": image.ID, "image_type": image.ImageType})
	write.MessageID = "m1"
	begun := time.Now()
	require.Empty(t, invoke(t, s, 4*time.Second, write))
	require.Less(t, time.Since(begun), 4*time.Second, "it answers in time")
	delayed := k.Messages(events.FnRebuild)
	require.Len(t, delayed, 1, "the job of the call is looked for later")
	require.Equal(t, "1", delayed[0].Attributes["Recompose-Attempt"])
	calls := slices.DeleteFunc(k.world.Requests(0, 0), func(r emulator.Request) bool { return r.Call != emulator.CallRebuild })
	require.Len(t, calls, 1)
	require.Equal(t, []string{events.TypeCommandUnclear}, slices.Collect(maps.Keys(k.events(t))), "no end")
}

func TestABootstrapListsOneMessageOfABatch(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 3})
	ids := k.world.DesktopIDs()
	k.RefuseEntries(func(body string) (string, bool) {
		if strings.Contains(body, `"causationid":"bad"`) {
			return "InvalidParameter", true
		}
		return "", false
	})
	s := k.start(t, events.FnGetDesktop, nil)
	var batch []awstest.Record
	for i, id := range []string{"good 1", "bad", "good 2"} {
		batch = append(batch, command(t, events.FnGetDesktop, id, events.GetDesktop{DesktopID: ids[i]}))
	}
	require.Equal(t, []string{"bad"}, invoke(t, s, time.Minute, batch...))
	require.Len(t, k.events(t)[events.TypeDesktopDescribed], 2)
}

// TestAColdStartReportsAllFaults starts a program with invalid settings: it logs all faults and ends.
func TestAColdStartReportsAllFaults(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 1})
	s := k.start(t, events.FnRebuild, map[string]string{"RECOMPOSE_TABLE": "", "RECOMPOSE_QUEUE_URL": "", "RECOMPOSE_LOG_LEVEL": "loud"})
	<-s.Ended()
	require.Error(t, s.Err())
	for _, variable := range []string{"RECOMPOSE_TABLE", "RECOMPOSE_QUEUE_URL", "RECOMPOSE_LOG_LEVEL"} {
		require.Contains(t, s.Log(), variable)
	}
}

// TestAChainOfBootstraps captures, rebuilds and verifies with the real programs, each behind its queue.
func TestAChainOfBootstraps(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 5, Speed: 2000})
	ids := k.world.DesktopIDs()
	ctx, cancel := context.WithCancel(t.Context())
	var mappings sync.WaitGroup
	t.Cleanup(func() { cancel(); mappings.Wait() })
	for _, f := range functions.Routes() {
		s := k.start(t, f.Name, nil)
		m := awstest.Mapping{Server: k.Server, Queue: f.Name, Invoke: func(ctx context.Context, event []byte) ([]byte, error) {
			return s.Invoke(ctx, event, time.Minute)
		}}
		if f.Writes {
			m.Batch = 1
		}
		mappings.Go(func() { m.Run(ctx) })
	}
	root := command(t, events.FnDesktopToImage, "root", map[string]any{
		"image_name": "golden", "desktop_id": ids[0], "execute_sysprep": true,
		"then": map[string]any{"rebuild": map[string]any{"desktop_ids": ids[1:]}},
	})
	for range 2 { // every message may come twice
		k.Publish(root.Body, map[string]string{"type": events.TypeDesktopToImage, "id": "root"})
	}
	var published []events.Envelope
	require.Eventually(t, func() bool {
		published = nil
		for _, es := range k.events(t) {
			published = append(published, es...)
		}
		published = slices.DeleteFunc(published, func(e events.Envelope) bool { return !events.IsEvent(e.Type) })
		return len(events.Open(events.Root{ID: "root"}, published)) == 0
	}, time.Minute, 50*time.Millisecond)
	var checked events.ImagesChecked
	require.NoError(t, json.Unmarshal(k.events(t)[events.TypeImagesChecked][0].Data, &checked))
	require.ElementsMatch(t, ids[1:], checked.Matched)
	accepted := map[string]int{}
	for _, q := range k.world.Requests(0, 0) {
		if q.Effect != "" {
			accepted[q.Call]++
		}
	}
	require.Equal(t, 1, accepted["rebuild"], "%v", accepted)
	require.Equal(t, 1, accepted["desktop-to-image"], "%v", accepted)
	for _, name := range functions.Names() {
		require.Empty(t, k.Messages(name+"-dead"))
	}
}
