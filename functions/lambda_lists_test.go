package functions_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/emulator"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/safety"
	"recompose/shared/store/dynamostore"
)

// ledger is the ledger of the functions as an operator has it.
func (k *cloud) ledger(t *testing.T) *dynamoledger.Store {
	t.Helper()
	s, err := dynamoledger.New(dynamoledger.Options{Options: dynamostore.Options{Config: k.Config(), Table: "recompose"}})
	require.NoError(t, err)
	return s
}

// operators has what operators have set for the functions.
func (k *cloud) operators(t *testing.T) *safety.Operators {
	return &safety.Operators{Store: k.ledger(t).Values(), Older: true}
}

// TestAChangedListHoldsForTheNextWrite changes the lists under a running rebuild function.
func TestAChangedListHoldsForTheNextWrite(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 3})
	ids, image := k.world.DesktopIDs(), k.world.State().Images[0]
	lists := k.operators(t)
	set := func(name safety.ListName, ids ...string) {
		t.Helper()
		_, err := lists.SetList(t.Context(), name, ids, "ada@host")
		require.NoError(t, err)
	}
	s := k.start(t, events.FnRebuild, nil)
	n := 0
	// write sends a rebuild of all desktops, and returns the desktops that were not allowed.
	write := func() []string {
		t.Helper()
		n++
		failures := len(k.events(t)[events.TypeCommandFailed])
		sent := command(t, events.FnRebuild, fmt.Sprint("c", n), events.Rebuild{
			DesktopIDs: ids, ImageID: image.ID, ImageType: image.ImageType, RebuildOptions: events.RebuildOptions{RebuildCurrent: true},
		})
		sent.MessageID = fmt.Sprint("m", n)
		require.Empty(t, invoke(t, s, time.Minute, sent))
		failed := k.events(t)[events.TypeCommandFailed]
		if len(failed) == failures {
			return nil
		}
		var result events.CommandFailed
		require.NoError(t, json.Unmarshal(failed[failures].Data, &result))
		require.Equal(t, events.KindNotAllowed, result.Error.Kind, result.Error.ErrorMsg)
		require.Equal(t, events.EffectNone, result.Effect)
		require.Equal(t, ids, result.DesktopIDs, "none of them is rebuilt")
		return strings.Split(strings.TrimPrefix(result.Error.ErrorDetail, "not allowed: "), ", ")
	}
	set(safety.DenyList, ids[1])
	require.Equal(t, ids[1:2], write())
	set(safety.DenyList)
	set(safety.AllowList, ids[0])
	require.Equal(t, ids[1:], write())

	set(safety.AllowList, ids...)
	require.Empty(t, write())
	require.Len(t, k.events(t)[events.TypeJobAccepted], 1)
	require.Len(t, k.events(t)[events.TypeCommandFailed], 2)
}

// TestReadsOfTheTableDirectlyBeforeAWrite lists the calls of DynamoDB between the last look at the service and the
// write: the claim, the proof that the ledger fits, one read of the rollouts that live, and one of all that people have set and of
// the key.
func TestReadsOfTheTableDirectlyBeforeAWrite(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 1})
	var mu sync.Mutex
	var calls []string
	note := func(call string) {
		mu.Lock()
		defer mu.Unlock()
		calls = append(calls, call)
	}
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/rebuild") {
			note("rebuild")
		} else {
			note("read")
		}
		k.world.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	k.endpoint = front.URL
	k.Fail(func(action string, _ int) int {
		note(action)
		return 0
	})
	image := k.world.State().Images[0]
	sent := command(t, events.FnRebuild, "c1", events.Rebuild{
		DesktopIDs: k.world.DesktopIDs(), ImageID: image.ID, ImageType: image.ImageType, RebuildOptions: events.RebuildOptions{RebuildCurrent: true},
	})
	sent.MessageID = "m1"
	require.Empty(t, invoke(t, k.start(t, events.FnRebuild, nil), time.Minute, sent))
	mu.Lock()
	defer mu.Unlock()
	end := slices.Index(calls, "rebuild")
	require.Positive(t, end, calls)
	begin := end
	for calls[begin-1] != "read" {
		begin--
	}
	require.Equal(t, []string{"PutItem", "GetItem"}, calls[begin:begin+2], calls)
	require.ElementsMatch(t, []string{"GetItem", "BatchGetItem", "BatchGetItem"}, calls[begin+2:end],
		"the rollouts that live, and at the same time the freeze and the lists; then the claims, because no rollout was recorded: %v", calls)
}
