package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
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
	Published   []messageJSON `json:"published"`
	Delayed     []messageJSON `json:"delayed"`
	DeadLetters []messageJSON `json:"dead_letters"`
}

type messageJSON struct {
	Seconds    int               `json:"seconds"`
	Attributes map[string]string `json:"attributes"`
	Message    json.RawMessage   `json:"message"`
}

func (r ran) invocation(t *testing.T) invocationJSON {
	t.Helper()
	for _, list := range []string{`"batchItemFailures":[`, `"published":[`, `"delayed":[`, `"dead_letters":[`} {
		require.Contains(t, r.out, list, "an empty list is a list")
	}
	var result invocationJSON
	require.NoError(t, json.Unmarshal([]byte(r.out), &result), r.out+r.errOut)
	return result
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
			result := r.invocation(t)
			require.Empty(t, result.Answer.Failures)
			counts := map[string]int{}
			for _, m := range result.Published {
				counts[m.Attributes["type"]]++
				var e events.Envelope
				require.NoError(t, json.Unmarshal(m.Message, &e))
				require.Equal(t, e.Type, m.Attributes["type"])
			}
			require.Equal(t, want.Counts(), counts)
			require.Len(t, result.Delayed, want.Delayed)
			require.Len(t, result.DeadLetters, want.Dead)
			for _, m := range result.Delayed {
				require.Positive(t, m.Seconds)
				var e events.Envelope
				require.NoError(t, json.Unmarshal(m.Message, &e))
				if !events.IsInternal(e.Type) { // the timer of a rollout is no later form of the command
					require.Equal(t, "1", m.Attributes["Recompose-Attempt"])
				}
			}

			people := program(t, "", "invoke", function, "-e", path)
			require.Equal(t, exitDone, people.code, people.errOut)
			require.Contains(t, people.out, `"batchItemFailures": []`)
			require.Contains(t, people.out, "Nothing was sent.")
			require.NotRegexp(t, `(?m)^recompose\.`, people.out, "a message is described, not named by its type")
		})
	}
}

func TestInvokePrintsTheResult(t *testing.T) {
	t.Parallel()
	r := program(t, "", "invoke", "getdesktop", "-e", samplesDir+"getdesktop.json")
	require.Contains(t, r.errOut, "with 1 desktop")
	require.Contains(t, r.out, `"desktop_id": "21616aa6-061d-4b2f-bd83-b230d7a9a14c"`)
	require.Contains(t, r.out, `"correlationid": "get-2026-02-10"`)
	r = program(t, "", "invoke", "rebuild", "-e", samplesDir+"rebuild.batch.json")
	require.Contains(t, r.errOut, "with 3 desktops")
	require.Contains(t, r.out, "accepted: 3 desktops from image b669106a-1395-4f24-92af-d884c227e558")
	require.Contains(t, r.errOut, "the service refused the call for now", "why the other rebuild is retried later")
	r = program(t, "", "invoke", "watchjob", "-e", samplesDir+"watchjob.malformed.json")
	require.Contains(t, r.out, "the envelope cannot be read")
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
	require.Contains(t, r.out, "getdesktop failed (not_found,", "as PowerShell writes files")
	require.NoError(t, os.WriteFile(seed, []byte("\ufeff"+`{"desktops": [{"desktop_id": "another"}]}`), 0o600))
	r = program(t, "\ufeff"+bare, "invoke", "getdesktop", "-e", "-", "--seed", seed)
	require.Equal(t, exitDone, r.code, "a command that fails is answered: %s", r.errOut)
	require.Contains(t, r.out, "getdesktop failed (not_found,")

	r = program(t, sqsEvent(t, `{"desktop_ids": ["a"], "image_type": "gold", "image_id": "i"}`), "invoke", "rebuild", "-e", "-")
	require.Equal(t, exitDone, r.code, r.errOut)
	require.Contains(t, r.out, "id: a bare rebuild command needs one", "a bare write without an id is refused as on Lambda")

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
		"no function":               {"", nil, "invoke needs one function: " + strings.Join(functions.Names(), ", ")},
		"two functions":             {"", []string{"rebuild", "watchjob"}, "invoke needs one function"},
		"unknown function":          {"", []string{"nosuch", "-e", "-"}, `unknown function "nosuch"; there are checkimages`},
		"no event":                  {"", []string{"rebuild"}, "-e is missing"},
		"no file":                   {"", []string{"rebuild", "-e", "/nonexistent/event"}, "no such file"},
		"no JSON":                   {"{", []string{"rebuild", "-e", "-"}, "-e: standard input is not an SQS event"},
		"a list":                    {"[]", []string{"rebuild", "-e", "-"}, "is not an SQS event"},
		"a command":                 {`{"desktop_id": "a"}`, []string{"getdesktop", "-e", "-"}, "as in events/sqs/getdesktop.json"},
		"no records":                {`{"Records": []}`, []string{"watchjob", "-e", "-"}, "Records must have at least one message"},
		"an event of S3":            {`{"Records": [{"eventSource": "aws:s3"}]}`, []string{"rebuild", "-e", "-"}, `Records[0].eventSource must be aws:sqs; got "aws:s3"`},
		"message without id":        {`{"Records": [{"body": "{}"}]}`, []string{"rebuild", "-e", "-"}, "Records[0].messageId is missing"},
		"message without all":       {`{"Records": [{"messageId": "a"}]}`, []string{"rebuild", "-e", "-"}, "Records[0].body is missing"},
		"no time":                   {`{}`, []string{"rebuild", "-e", "-", "--timeout", "-1s"}, "must not be negative; 0 is no limit"},
		"no seed":                   {sqsEvent(t, "{}"), []string{"rebuild", "-e", "-", "--seed", "/nonexistent/seed"}, "--seed: open /nonexistent/seed"},
		"a seed that is not a seed": {sqsEvent(t, "{}"), []string{"rebuild", "-e", "-", "--seed", "main.go"}, "--seed: main.go must be JSON"},
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

func eventFile(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "event.json")
	require.NoError(t, os.WriteFile(path, []byte(sqsEvent(t, body)), 0o600))
	return path
}

// A service and lists in the settings are not used, whatever is wrong with them.
func TestInvokeUsesNoServiceOfTheSettings(t *testing.T) {
	t.Parallel()
	calls := make(chan string, 1)
	service := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { calls <- r.URL.Path }))
	t.Cleanup(service.Close)
	for _, env := range [][]string{
		{
			"RECOMPOSE_WORKSPACE_ENDPOINT=" + service.URL, "HUAWEICLOUD_SDK_PROJECT_ID=p", "HUAWEICLOUD_SDK_AK=ak", "HUAWEICLOUD_SDK_SK=sk",
			"RECOMPOSE_TABLE=ledger", "AWS_REGION=eu-central-1", "RECOMPOSE_DENY_DESKTOPS_FILE=/nonexistent",
		},
		{"RECOMPOSE_REGION=ap-southeast-1"}, {"HW_REGION_NAME=ap-southeast-1"},
	} {
		r := finish(t, env, "invoke", "getdesktop", "-e", eventFile(t, `{"desktop_id": "d1"}`), "--json")
		require.Equal(t, exitDone, r.code, r.errOut)
		require.True(t, strings.HasPrefix(r.errOut, "EMULATOR in this process"), r.errOut)
		require.Equal(t, events.TypeDesktopDescribed, r.invocation(t).Published[0].Attributes["type"])
	}
	require.Empty(t, calls)
}
