package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/safety"
	"recompose/shared/store/dynamostore"
	"recompose/shared/testkit/awstest"
	"recompose/shared/testkit/functiontest"
)

// invocationJSON is what --json prints.
type invocationJSON struct {
	Answer struct {
		Failures []struct {
			ID string `json:"itemIdentifier"`
		} `json:"batchItemFailures"`
	} `json:"answer"`
	Published   []saidJSON `json:"published"`
	Delayed     []saidJSON `json:"delayed"`
	DeadLetters []saidJSON `json:"dead_letters"`
	Stopped     string     `json:"stopped"`
}

type saidJSON struct {
	Seconds    int               `json:"seconds"`
	Why        string            `json:"why"`
	Attributes map[string]string `json:"attributes"`
	Message    json.RawMessage   `json:"message"`
}

func (r ran) invocation(t *testing.T) invocationJSON {
	t.Helper()
	for _, list := range []string{`"batchItemFailures":[`, `"published":[`, `"delayed":[`, `"dead_letters":[`} {
		require.Contains(t, r.out, list, "an empty list is a list")
	}
	var said invocationJSON
	require.NoError(t, json.Unmarshal([]byte(r.out), &said), r.out+r.errOut)
	return said
}

const samplesDir = "../../events/sqs/"

func TestInvokeTakesEachSample(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(samplesDir + "*.json")
	require.NoError(t, err)
	require.Len(t, files, len(functiontest.Samples))
	for _, path := range files {
		name := strings.TrimSuffix(filepath.Base(path), ".json")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			function, _, _ := strings.Cut(name, ".")
			want := functiontest.Samples[name]
			r := program(t, "", "invoke", function, "-e", path, "--json")
			require.Equal(t, exitDone, r.code, r.errOut)
			require.True(t, strings.HasPrefix(r.errOut, "EMULATOR in this process"), r.errOut)
			said := r.invocation(t)
			require.Empty(t, said.Answer.Failures)
			counts := map[string]int{}
			for _, m := range said.Published {
				counts[m.Attributes["type"]]++
				var e events.Envelope
				require.NoError(t, json.Unmarshal(m.Message, &e))
				require.Equal(t, e.Type, m.Attributes["type"])
			}
			require.Equal(t, want.Counts(), counts)
			require.Len(t, said.Delayed, want.Delayed)
			require.Len(t, said.DeadLetters, want.Dead)
			for _, m := range said.Delayed {
				require.Positive(t, m.Seconds)
				require.Equal(t, "1", m.Attributes["Recompose-Attempt"])
			}

			people := program(t, "", "invoke", function, "-e", path)
			require.Equal(t, exitDone, people.code, people.errOut)
			require.True(t, strings.HasPrefix(people.out, "EMULATOR in this process"), people.out)
			require.Contains(t, people.out, `answer: {"batchItemFailures":[]}`)
			require.Contains(t, people.out, "Nothing of this was sent.")
			require.Equal(t, len(said.Published), strings.Count(people.out, "\npublished: "))
			require.Equal(t, want.Delayed, strings.Count(people.out, "\ndelayed by "))
			require.Equal(t, want.Dead, strings.Count(people.out, "\ndead letter: "))
		})
	}
}

func TestInvokeTellsWhatTheServiceSays(t *testing.T) {
	t.Parallel()
	r := program(t, "", "invoke", "getdesktop", "-e", samplesDir+"getdesktop.json")
	require.Contains(t, r.out, "with the 1 desktop that the event names")
	require.Contains(t, r.out, `"desktop_id": "21616aa6-061d-4b2f-bd83-b230d7a9a14c"`)
	require.Contains(t, r.out, "correlationid: get-2026-02-10")
	r = program(t, "", "invoke", "rebuild", "-e", samplesDir+"rebuild.batch.json")
	require.Contains(t, r.out, "with the 3 desktops and 1 image that the event names")
	require.Contains(t, r.out, "accepted: 3 desktops from image b669106a-1395-4f24-92af-d884c227e558")
	require.Contains(t, r.out, "the service refused the call for now", "why the other rebuild waits")
	r = program(t, "", "invoke", "watchjob", "-e", samplesDir+"watchjob.malformed.json")
	require.Contains(t, r.out, "dead letter: unreadable\n  the envelope cannot be read")
}

// sqsEvent is an event with bare bodies.
func sqsEvent(t *testing.T, bodies ...string) string {
	t.Helper()
	var records []awstest.Record
	for i, body := range bodies {
		records = append(records, awstest.Record{MessageID: string(rune('a' + i)), Body: body})
	}
	return string(awstest.Event(records...))
}

func TestInvokeReadsStandardInputAndASeed(t *testing.T) {
	t.Parallel()
	bare := sqsEvent(t, `{"desktop_id": "golden"}`)
	r := program(t, bare, "invoke", "getdesktop", "-e", "-", "--json")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Equal(t, events.TypeDesktopDescribed, r.invocation(t).Published[0].Attributes["type"])

	seed := filepath.Join(t.TempDir(), "seed.json")
	require.NoError(t, os.WriteFile(seed, []byte(utf16Of(`{"desktops": [{"desktop_id": "another"}]}`)), 0o600))
	r = program(t, utf16Of(bare), "invoke", "getdesktop", "-e", "-", "--seed", seed)
	require.Contains(t, r.out, "EMULATOR in this process, with the 1 desktop of "+seed, "as PowerShell writes files")
	require.NoError(t, os.WriteFile(seed, []byte("\ufeff"+`{"desktops": [{"desktop_id": "another"}]}`), 0o600))
	r = program(t, "\ufeff"+bare, "invoke", "getdesktop", "-e", "-", "--seed", seed)
	require.Equal(t, exitDone, r.code, "a command that fails is dealt with: %s", r.errOut)
	require.Contains(t, r.out, "EMULATOR in this process, with the 1 desktop of "+seed)
	require.Contains(t, r.out, "getdesktop failed (not_found,")

	r = program(t, sqsEvent(t, `{"desktop_ids": ["a"], "image_type": "gold", "image_id": "i"}`), "invoke", "rebuild", "-e", "-")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "needs an id of its own", "a bare write without an id is refused as on Lambda")

	r = program(t, sqsEvent(t, `{"desktop_id": "../x"}`, `{"project_id": "a/b", "desktop_id": "x"}`, "null"), "invoke", "getdesktop", "-e", "-", "--json")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Len(t, r.invocation(t).Published, 3, "what can be nowhere is in no emulator either")

	r = program(t, sqsEvent(t, "\x1b[31m{"), "invoke", "rebuild", "-e", "-")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.NotContains(t, r.out+r.errOut, "\x1b")
}

func TestInvokeRefusesWhatIsNoEvent(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"no function":         {"", nil, "invoke needs one function: checkimages, desktoptoimage, rebuild, getdesktop, watchjob"},
		"two functions":       {"", []string{"rebuild", "watchjob"}, "invoke needs one function"},
		"unknown function":    {"", []string{"nosuch", "-e", "-"}, `unknown function "nosuch"; there are checkimages`},
		"no event":            {"", []string{"rebuild"}, "-e is missing"},
		"no file":             {"", []string{"rebuild", "-e", "/nonexistent/event"}, "no such file"},
		"no JSON":             {"{", []string{"rebuild", "-e", "-"}, "is no event of SQS"},
		"a list":              {"[]", []string{"rebuild", "-e", "-"}, "is no event of SQS"},
		"a command":           {`{"desktop_id": "a"}`, []string{"getdesktop", "-e", "-"}, "as in events/sqs/getdesktop.json"},
		"no records":          {`{"Records": []}`, []string{"watchjob", "-e", "-"}, "Records must have at least one message"},
		"an event of S3":      {`{"Records": [{"eventSource": "aws:s3"}]}`, []string{"rebuild", "-e", "-"}, `Records[0].eventSource must be aws:sqs; got "aws:s3"`},
		"message without id":  {`{"Records": [{"body": "{}"}]}`, []string{"rebuild", "-e", "-"}, "Records[0].messageId is missing"},
		"message without all": {`{"Records": [{"messageId": "a"}]}`, []string{"rebuild", "-e", "-"}, "Records[0].body is missing"},
		"no time":             {`{}`, []string{"rebuild", "-e", "-", "--timeout", "0s"}, "--timeout: must be more than 0; got 0s"},
		"no seed":             {sqsEvent(t, "{}"), []string{"rebuild", "-e", "-", "--seed", "/nonexistent/seed"}, "read the seed"},
		"a seed that is none": {sqsEvent(t, "{}"), []string{"rebuild", "-e", "-", "--seed", "main.go"}, "read seed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := program(t, test.stdin, append([]string{"invoke"}, test.args...)...)
			require.Equal(t, exitUsage, r.code, r.errOut)
			require.Contains(t, r.errOut, test.want)
			require.Empty(t, r.out)
		})
	}
}

// behindInvoke is a service of the settings; real hides that it is an emulator.
type behindInvoke struct {
	*emulator.Server
	env []string
}

func newBehindInvoke(t *testing.T, real bool) behindInvoke {
	t.Helper()
	seed, err := json.Marshal(map[string]any{
		"desktops": []map[string]any{{"desktop_id": "d1"}, {"desktop_id": "d2"}},
		"images":   []map[string]any{{"id": "i1", "image_type": "gold", "os_type": "Windows", "name": "gold"}},
	})
	require.NoError(t, err)
	world, err := emulator.New(emulator.Options{Seed: seed})
	require.NoError(t, err)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if real && strings.HasPrefix(r.URL.Path, "/_emulator/") {
			http.NotFound(w, r)
			return
		}
		world.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { require.NoError(t, world.Close()); service.Close() })
	return behindInvoke{world, []string{
		"RECOMPOSE_WORKSPACE_ENDPOINT=" + service.URL, "HUAWEICLOUD_SDK_PROJECT_ID=" + emulator.DefaultProjectID,
		"HUAWEICLOUD_SDK_AK=" + emulator.DefaultAccessKey, "HUAWEICLOUD_SDK_SK=" + emulator.DefaultSecretKey,
	}}
}

// calls counts the rebuild calls, and those that were accepted.
func (b behindInvoke) calls() (made, accepted int) {
	for _, r := range b.Requests(0, 0) {
		if r.Call == emulator.CallRebuild {
			made++
			if r.JobID != "" {
				accepted++
			}
		}
	}
	return made, accepted
}

func eventFile(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "event.json")
	require.NoError(t, os.WriteFile(path, []byte(sqsEvent(t, body)), 0o600))
	return path
}

const rebuildBody = `{"specversion": "1.0", "id": "r1", "source": "test", "type": "recompose.command.rebuild.v1",
	"data": {"desktop_ids": ["d1", "d2"], "image_type": "gold", "image_id": "i1", "delay_time": 15, "os_type": "Windows"}}`

func TestInvokeOnAnEmulatorOfTheSettings(t *testing.T) {
	t.Parallel()
	service := newBehindInvoke(t, false)
	event := eventFile(t, rebuildBody)
	for n := range 2 { // each has a ledger of its own
		r := finish(t, service.env, "invoke", "rebuild", "-e", event, "--json")
		require.Equal(t, exitDone, r.code, r.errOut)
		require.Equal(t, "EMULATOR\n", r.errOut)
		said := r.invocation(t)
		require.Len(t, said.Published, 1-n)
		require.Len(t, said.Delayed, n, "the desktops are busy")
		made, accepted := service.calls()
		require.Equal(t, n+1, made)
		require.Equal(t, 1, accepted)
	}
	r := finish(t, service.env, "invoke", "rebuild", "-e", event, "--seed", event)
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.errOut, "--seed: is for an emulator of its own")

	wrong := append(service.env[:len(service.env):len(service.env)], "HUAWEICLOUD_SDK_SK=another")
	two := filepath.Join(t.TempDir(), "two.json")
	require.NoError(t, os.WriteFile(two, []byte(sqsEvent(t, `{"desktop_id": "d1"}`, `{"desktop_id": "d2"}`)), 0o600))
	r = finish(t, wrong, "invoke", "getdesktop", "-e", two, "--json")
	require.Equal(t, exitFailed, r.code, r.errOut)
	require.Contains(t, r.errOut, "the service refuses the credentials")
	require.Len(t, r.invocation(t).Delayed, 2, "the second is held back")
	require.NotEmpty(t, r.invocation(t).Stopped)
}

func TestInvokeWritesToARealServiceOnlyWithItsLedger(t *testing.T) {
	t.Parallel()
	service := newBehindInvoke(t, true)
	event := eventFile(t, rebuildBody)

	r := finish(t, service.env, "invoke", "rebuild", "-e", event, "--yes")
	require.Equal(t, exitUsage, r.code, r.errOut)
	require.Contains(t, r.errOut, "RECOMPOSE_TABLE is missing: rebuild writes to a real service")
	require.True(t, strings.HasPrefix(r.out, "REAL 127.0.0.1:"), r.out)
	r = finish(t, service.env, "invoke", "getdesktop", "-e", eventFile(t, `{"desktop_id": "d1"}`))
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "published: "+events.TypeDesktopDescribed, "what changes nothing needs no ledger")

	cloud := awstest.New()
	t.Cleanup(cloud.Close)
	env := append([]string{
		"RECOMPOSE_TABLE=ledger", "AWS_REGION=" + awstest.Region, "AWS_ACCESS_KEY_ID=id", "AWS_SECRET_ACCESS_KEY=key",
		"AWS_ENDPOINT_URL_DYNAMODB=" + cloud.URL,
	}, service.env...)
	r = finish(t, append([]string{"RECOMPOSE_TABLE=ledger"}, service.env...), "invoke", "rebuild", "-e", event, "--yes")
	require.Equal(t, exitUsage, r.code, r.errOut)
	require.Contains(t, r.errOut, "AWS_REGION")
	r = finish(t, env, "invoke", "rebuild", "-e", event)
	require.Equal(t, exitUsage, r.code, r.errOut)
	require.Contains(t, r.errOut, "This rebuilds 2 desktops from image i1: what is on their system disks is lost")
	require.Contains(t, r.errOut, "say --yes if that is meant")
	made, _ := service.calls()
	require.Zero(t, made, "nothing was done so far")

	store, err := dynamostore.New(dynamostore.Options{
		Table: "ledger", Region: awstest.Region, Endpoint: cloud.URL,
		Credentials: aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) {
			return aws.Credentials{AccessKeyID: "id", SecretAccessKey: "key"}, nil
		}),
	})
	require.NoError(t, err)
	operators := &safety.Operators{Store: store, Older: true}
	require.NoError(t, operators.SetFreeze(t.Context(), safety.Freeze{Reason: "wrong image", By: "ada", At: time.Now()}))
	r = finish(t, env, "invoke", "rebuild", "-e", event, "--yes")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "delayed by ", r.out)
	require.Contains(t, r.out, "wrong image")
	require.NoError(t, operators.Thaw(t.Context()))

	_, err = operators.SetList(t.Context(), safety.DenyList, []string{"d2"}, "ada")
	require.NoError(t, err)
	denied := eventFile(t, strings.Replace(rebuildBody, `"r1"`, `"r0"`, 1))
	r = finish(t, env, "invoke", "rebuild", "-e", denied, "--yes")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "not_allowed")
	_, err = operators.ClearList(t.Context(), safety.DenyList)
	require.NoError(t, err)

	cloud.Fail(func(string, int) int { return http.StatusBadRequest })
	r = finish(t, env, "invoke", "rebuild", "-e", event, "--yes")
	require.Equal(t, exitUnknown, r.code, r.errOut)
	require.Contains(t, r.errOut, "whether command r1 was carried out is not known")
	cloud.Fail(nil)

	var first invocationJSON
	for n := range 2 {
		r = finish(t, env, "invoke", "rebuild", "-e", event, "--yes", "--json")
		require.Equal(t, exitDone, r.code, r.errOut)
		said := r.invocation(t)
		require.Len(t, said.Published, 1)
		if n == 0 {
			first = said
		}
		require.Equal(t, first.Published[0].Attributes, said.Published[0].Attributes, "the same is said again")
	}
	made, accepted := service.calls()
	require.Equal(t, 1, made)
	require.Equal(t, 1, accepted)
}

func TestInvokeOfACallWithoutAnswerEndsUnknown(t *testing.T) {
	t.Parallel()
	service := newBehindInvoke(t, false)
	require.NoError(t, service.SetFaults([]emulator.Fault{{Call: emulator.CallRebuild, Do: emulator.Do{Drop: emulator.DropAfter}}}))
	r := finish(t, service.env, "invoke", "rebuild", "-e", eventFile(t, rebuildBody))
	require.Equal(t, exitUnknown, r.code, r.out+r.errOut)
	require.Contains(t, r.errOut, "what became of the call of command r1 is not known")

	require.NoError(t, service.SetFaults([]emulator.Fault{{Call: emulator.CallGetDesktop, Do: emulator.Do{Delay: within}}}))
	before := len(service.Requests(0, 0))
	p := start(t, service.env, binary(t, "recompose"), "invoke", "getdesktop", "-e", eventFile(t, `{"desktop_id": "d1"}`))
	eventually(t, func() bool { return len(service.Requests(0, 0)) > before }, "no call")
	require.Equal(t, exitUnknown, p.interrupt(t))
	require.Contains(t, p.err.String(), "interrupted: what was in hand would come again")
	require.Contains(t, p.out.String(), "delayed by ", "what there is to say is said")
}
