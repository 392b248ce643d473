package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
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
		"no JSON":             {"{", []string{"rebuild", "-e", "-"}, "is not an SQS event"},
		"a list":              {"[]", []string{"rebuild", "-e", "-"}, "is not an SQS event"},
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

// A real service is refused before anything is asked of it, with the way out, whatever else is wrong with the settings.
func TestInvokeRefusesARealService(t *testing.T) {
	t.Parallel()
	hidden := newBehindInvoke(t, true)
	rebuild, get := eventFile(t, rebuildBody), eventFile(t, `{"desktop_id": "d1"}`)
	const endpoint = "RECOMPOSE_WORKSPACE_ENDPOINT="
	const wayOut = "Use recompose send for a real service, or unset "
	for name, test := range map[string]struct {
		env  []string
		want []string
	}{
		"no emulator on this machine": {hidden.env, []string{strings.TrimPrefix(hidden.env[0], endpoint), wayOut + "RECOMPOSE_WORKSPACE_ENDPOINT"}},
		"with the ledger of a stack": {
			append([]string{"RECOMPOSE_TABLE=ledger", "AWS_REGION=eu-central-1"}, hidden.env...), []string{wayOut + "RECOMPOSE_WORKSPACE_ENDPOINT"},
		},
		"a host":               {[]string{endpoint + "https://workspace.invalid"}, []string{"https://workspace.invalid", wayOut + "RECOMPOSE_WORKSPACE_ENDPOINT"}},
		"a host that is wrong": {[]string{endpoint + "http://workspace.invalid/x"}, []string{wayOut + "RECOMPOSE_WORKSPACE_ENDPOINT"}},
		"a region":             {[]string{"RECOMPOSE_REGION=ap-southeast-1"}, []string{"workspace.ap-southeast-1.myhuaweicloud.com", wayOut + "RECOMPOSE_REGION"}},
		"nothing listens":      {append(slices.Clone(hidden.env[1:]), endpoint+"http://"+freePort(t)), []string{"whether it is an emulator"}},
	} {
		for function, event := range map[string]string{"rebuild": rebuild, "getdesktop": get} {
			r := finish(t, test.env, "invoke", function, "-e", event, "--yes")
			require.Equal(t, exitUsage, r.code, name+": "+r.errOut)
			require.Empty(t, r.out, name)
			for _, want := range test.want {
				require.Contains(t, r.errOut, want, name)
			}
			require.Empty(t, hidden.Requests(0, 0), name)
		}
	}
}

// A region for another tool chooses no service, so the emulator in this process is used.
func TestInvokeIgnoresTheRegionOfAnotherTool(t *testing.T) {
	t.Parallel()
	r := finish(t, []string{"HW_REGION_NAME=ap-southeast-1"}, "invoke", "getdesktop", "-e", eventFile(t, `{"desktop_id": "d1"}`))
	require.Equal(t, exitDone, r.code, r.errOut)
	require.True(t, strings.HasPrefix(r.out, "EMULATOR in this process"), r.out)
}

func TestInvokeIgnoresYesWithAWarning(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--yes", "-y"} {
		r := program(t, "", "invoke", "rebuild", "-e", samplesDir+"rebuild.json", "--json", flag)
		require.Equal(t, exitDone, r.code, r.errOut)
		require.Contains(t, r.errOut, "warning: --yes is ignored")
		require.Len(t, r.invocation(t).Published, 1, "what is printed is JSON alone")
	}
	require.NotContains(t, program(t, "", "invoke", "--help").out, "--yes")
}

// The lists of a worker hold for invoke, too.
func TestInvokeObeysTheFilesOfLists(t *testing.T) {
	t.Parallel()
	service := newBehindInvoke(t, false)
	deny := filepath.Join(t.TempDir(), "deny")
	require.NoError(t, os.WriteFile(deny, []byte("d2\n"), 0o600))
	r := finish(t, append([]string{"RECOMPOSE_DENY_DESKTOPS_FILE=" + deny}, service.env...), "invoke", "rebuild", "-e", eventFile(t, rebuildBody))
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "not_allowed")
	made, _ := service.calls()
	require.Zero(t, made)
}

func TestInvokeOfACallWithoutAnswer(t *testing.T) {
	t.Parallel()
	service := newBehindInvoke(t, false)
	require.NoError(t, service.SetFaults([]emulator.Fault{{Call: emulator.CallRebuild, Do: emulator.Do{Drop: emulator.DropAfter}}}))
	r := finish(t, service.env, "invoke", "rebuild", "-e", eventFile(t, rebuildBody))
	require.Equal(t, exitDone, r.code, r.out+r.errOut)
	require.Contains(t, r.out, "delayed by ", "its job would be looked for")

	require.NoError(t, service.SetFaults([]emulator.Fault{{Call: emulator.CallGetDesktop, Do: emulator.Do{Delay: within}}}))
	before := len(service.Requests(0, 0))
	p := start(t, service.env, binary(t, "recompose"), "invoke", "getdesktop", "-e", eventFile(t, `{"desktop_id": "d1"}`))
	eventually(t, func() bool { return len(service.Requests(0, 0)) > before }, "no call")
	require.Equal(t, exitUnknown, p.interrupt(t))
	require.Contains(t, p.err.String(), "interrupted: unfinished messages would be redelivered")
	require.Contains(t, p.out.String(), "delayed by ", "what there is to say is said")
}
