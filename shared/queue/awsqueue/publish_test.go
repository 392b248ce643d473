package awsqueue_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/testkit/awstest"
)

func TestEventsArePublishedInBatchesOfTen(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) {
		var outcomes []queue.Outcome
		for i := range 23 {
			outcomes = append(outcomes, queue.Outcome{Type: events.TypeRebuild, To: "rebuild", About: []string{fmt.Sprint(i)}, Data: i})
		}
		return append(outcomes, queue.Outcome{Type: events.TypeCommandSplit, Data: 0}), nil
	}, nil)
	var mu sync.Mutex
	refused := map[string]bool{}
	b.RefuseEntries(func(body string) (string, bool) { // every third one, once
		mu.Lock()
		defer mu.Unlock()
		if len(body)%3 == 0 && !refused[body] {
			refused[body] = true
			return "InternalError", false
		}
		return "", false
	})
	require.Empty(t, b.take(t.Context(), command("c1")))
	published := b.Published()
	require.Len(t, published, 24, "each once")
	require.Equal(t, events.TypeCommandSplit, published[23].Attributes["type"], "events come after commands")
	for _, n := range b.Batches() {
		require.LessOrEqual(t, n, 10)
	}
}

func TestBatchesOfTheTopicHaveASizeLimitToo(t *testing.T) {
	t.Parallel()
	b := newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) {
		var outcomes []queue.Outcome
		for i := range 4 {
			outcomes = append(outcomes, queue.Outcome{Type: events.TypeDesktopDescribed, About: []string{fmt.Sprint(i)}, Data: strings.Repeat("x", 100<<10)})
		}
		return outcomes, nil
	}, nil)
	require.Empty(t, b.take(t.Context(), command("c1")))
	require.Equal(t, []int{2, 2}, b.Batches())
}

func TestAnEventThatIsTooLargeIsShortenedOrReported(t *testing.T) {
	t.Parallel()
	checked := func(n int, text string) handle {
		return func(_ context.Context, cmd queue.Command) ([]queue.Outcome, error) {
			c := events.ImagesChecked{Command: cmd.Ref()}
			for i := range n {
				info, err := json.Marshal(map[string]string{"desktop_id": fmt.Sprintf("desktop-%030d", i), "image_id": "image", "image_name": text})
				if err != nil {
					return nil, err
				}
				c.ImageInfos = append(c.ImageInfos, info)
			}
			return []queue.Outcome{{Type: events.TypeImagesChecked, Data: c}}, nil
		}
	}
	b := newBench(t, checked(2000, strings.Repeat("x", 200)), nil)
	require.Empty(t, b.take(t.Context(), command("c1")))
	var event events.ImagesChecked
	require.NoError(t, json.Unmarshal(data(t, b.Published()[0]), &event))
	require.True(t, event.Shortened)
	require.Len(t, event.ImageInfos, 2000)

	b = newBench(t, checked(5000, ""), nil)
	cmd := command("c1")
	cmd.Body = strings.Replace(cmd.Body, "{}", `{"desktop_id":"d-1"}`, 1)
	require.Empty(t, b.take(t.Context(), cmd))
	var failed events.CommandFailed
	require.Equal(t, events.TypeCommandFailed, b.Published()[0].Attributes["type"])
	require.NoError(t, json.Unmarshal(data(t, b.Published()[0]), &failed))
	require.Equal(t, events.KindInvalid, failed.Error.Kind)
	require.Equal(t, events.EffectNone, failed.Effect)
	require.Equal(t, "c1", failed.Command.ID)
	require.Equal(t, events.Digest(events.GetDesktop{DesktopID: "d-1"}), failed.Command.Digest)
	require.Equal(t, []string{"d-1"}, failed.DesktopIDs)
	require.Contains(t, failed.Error.ErrorMsg, "262144")

	// A failure stays what it is, without the desktops where they do not fit.
	many := make([]string, 5000)
	for i := range many {
		many[i] = fmt.Sprintf("desktop-%050d", i)
	}
	b = newBench(t, func(context.Context, queue.Command) ([]queue.Outcome, error) {
		return nil, &queue.FailedError{Failure: events.Failure{Kind: events.KindRefused, ErrorMsg: "no"}, DesktopIDs: many}
	}, nil)
	require.Empty(t, b.take(t.Context(), cmd))
	failed = events.CommandFailed{}
	require.NoError(t, json.Unmarshal(data(t, b.Published()[0]), &failed))
	require.Equal(t, events.KindRefused, failed.Error.Kind)
	require.Equal(t, events.Digest(events.GetDesktop{DesktopID: "d-1"}), failed.Command.Digest)
	require.Empty(t, failed.DesktopIDs)
}

func data(t *testing.T, m awstest.Message) json.RawMessage {
	t.Helper()
	var e events.Envelope
	require.NoError(t, json.Unmarshal([]byte(m.Body), &e))
	return e.Data
}

func TestAWriteWhoseEventsMightNotFitIsRefusedBeforeItIsBegun(t *testing.T) {
	t.Parallel()
	var called atomic.Int32
	b := newBench(t, func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		called.Add(1)
		return describes(ctx, c)
	}, func(f *queue.Function, _ *awsqueue.Options) { f.Writes = true })
	large := command("c1")
	large.Body = strings.Replace(large.Body, "{}", `"`+strings.Repeat("x", 250<<10)+`"`, 1)
	require.Empty(t, b.take(t.Context(), large))
	require.Zero(t, called.Load())
	require.Equal(t, events.TypeCommandFailed, b.Published()[0].Attributes["type"])
}
