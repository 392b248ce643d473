package events_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// sqsRecord is a message as Lambda delivers it to a function. The samples have no times: a message without one has
// the time of its delivery, so a sample does not expire.
type sqsRecord struct {
	MessageID         string                  `json:"messageId"`
	ReceiptHandle     string                  `json:"receiptHandle"`
	Body              string                  `json:"body"`
	Attributes        map[string]string       `json:"attributes"`
	MessageAttributes map[string]sqsAttribute `json:"messageAttributes"`
	EventSource       string                  `json:"eventSource"`
	EventSourceARN    string                  `json:"eventSourceARN"`
	Region            string                  `json:"awsRegion"`
}

type sqsAttribute struct {
	StringValue string `json:"stringValue"`
	DataType    string `json:"dataType"`
}

type sqsEvent struct {
	Records []sqsRecord `json:"Records"`
}

// batch is a Lambda event of a function's queue.
func batch(function string, bodies ...string) sqsEvent {
	var e sqsEvent
	for i, body := range bodies {
		r := sqsRecord{
			MessageID: fmt.Sprintf("059f36b4-87a3-44ab-83d2-66197583%04d", i+1), ReceiptHandle: fmt.Sprintf("receipt-%d", i+1), Body: body,
			Attributes: map[string]string{"ApproximateReceiveCount": "1"}, MessageAttributes: map[string]sqsAttribute{},
			EventSource: "aws:sqs", EventSourceARN: "arn:aws:sqs:eu-central-1:123456789012:recompose-" + function, Region: "eu-central-1",
		}
		var named struct{ Type, ID, CorrelationID string }
		if json.Unmarshal([]byte(body), &named) == nil && named.Type != "" {
			for name, value := range map[string]string{"type": named.Type, "id": named.ID, "correlationid": named.CorrelationID} {
				r.MessageAttributes[name] = sqsAttribute{value, "String"}
			}
		}
		e.Records = append(e.Records, r)
	}
	return e
}

// timeless is an envelope without its time, as in a sample.
func timeless(e events.Envelope) string {
	e.Time, e.Expiry = time.Time{}, time.Time{}
	return string(mustJSON(e))
}

// sqsSamples are the events for `sam local invoke -e` by file name without .json: for each function one good message;
// a batch with a good, a bad and a good one; and a malformed message. Those of functions that react have an event, too.
func sqsSamples() map[string]sqsEvent {
	all := samples()
	files := map[string]sqsEvent{}
	add := func(function string, good events.Envelope) {
		bad, other := good, good
		bad.ID, bad.Data = "bad", json.RawMessage(`{"desktop":"no such field"}`)
		if events.IsEvent(good.Type) { // an event may have unknown fields, but may lack none
			bad.Data = json.RawMessage(`{"outcome":"succeeded"}`)
		}
		other.ID = "the-other"
		whole := timeless(good)
		files[function] = batch(function, whole)
		files[function+".batch"] = batch(function, whole, timeless(bad), timeless(other))
		files[function+".malformed"] = batch(function, whole[:len(whole)/3])
	}
	for _, c := range events.Commands {
		if c.Fields != nil {
			add(c.Function, all[c.Type])
		}
	}
	add(events.FnRollout, all[events.TypeRolloutStart])
	add(events.FnWatchJob, all[events.TypeJobAccepted])
	files[events.FnRebuild+".reaction"] = batch(events.FnRebuild, timeless(all[events.TypeJobCompleted]))
	files[events.FnCheckImages+".reaction"] = batch(events.FnCheckImages, timeless(all[events.TypeJobCompleted+".rebuild"]))
	return files
}

func TestGoldenSQS(t *testing.T) {
	t.Parallel()
	files := sqsSamples()
	for name, want := range files {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetIndent("", "  ")
		require.NoError(t, e.Encode(want))
		path := filepath.Join("sqs", name+".json")
		if *update {
			require.NoError(t, os.MkdirAll("sqs", 0o755))
			require.NoError(t, os.WriteFile(path, b.Bytes(), 0o644))
		}
		golden, err := os.ReadFile(path)
		require.NoError(t, err, "write it with: go test ./events -run Golden -update")
		require.Equal(t, string(golden), b.String(), "write a changed sample with -update")
	}
	there, err := filepath.Glob(filepath.Join("sqs", "*.json"))
	require.NoError(t, err)
	for _, path := range there {
		require.Contains(t, files, strings.TrimSuffix(filepath.Base(path), ".json"), "a file without a sample")
	}
}
