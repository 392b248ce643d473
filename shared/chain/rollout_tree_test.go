package chain_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/chain"
)

// The end of a rollout and its notices stand below its start command: their causation is derived, and names no command.
func TestARolloutIsOneTree(t *testing.T) {
	t.Parallel()
	start := events.CommandRef{Type: events.TypeRolloutStart, ID: "c1", Source: "s", Digest: "d"}
	identity := events.Identity(start.Source, start.ID)
	c := chain.New("c1", events.Root{})
	add := func(id, typ, causation string) {
		data, err := json.Marshal(events.Rollout{Command: &start, Name: "nov"})
		require.NoError(t, err)
		at := time.Date(2026, 1, 15, 8, 30, len(c.Events()), 0, time.UTC)
		require.True(t, c.Add(events.Envelope{
			ID: id, Source: events.Source(events.FnRollout), Type: typ, Causation: causation, Correlation: "c1", Time: at, Data: data,
		}))
	}
	add("e1", events.TypeRolloutPlanned, "c1")
	add("e2", events.TypeRolloutStarted, "")
	add("e3", events.TypeRolloutChanged, events.Derive(identity, "rollout", "notice"))
	tree := c.Tree()
	require.Len(t, tree.Roots, 1)
	require.Equal(t, "c1", tree.Roots[0].ID)
	require.Len(t, tree.Roots[0].Children, 3)
	require.True(t, tree.Roots[0].Children[0].Open, "the plan is open until the rollout has ended")
	require.Len(t, tree.Open, 1)

	add("e4", events.TypeRolloutCompleted, events.RolloutEnd(identity))
	tree = c.Tree()
	require.Len(t, tree.Roots, 1)
	require.Len(t, tree.Roots[0].Children, 4)
	require.False(t, tree.Roots[0].Children[0].Open)
	require.Empty(t, tree.Open)
	require.Equal(t, "rollout command c1", tree.Lines()[0], "it has ended once")
	require.Equal(t, []events.Root{{ID: "c1", Source: "s", Digest: "d"}}, c.Roots())
}

// The events before the end may be too old to be stored.
func TestTheEndOfARolloutAloneIsNotOpen(t *testing.T) {
	t.Parallel()
	c := chain.New("c1", events.Root{})
	data, err := json.Marshal(events.Rollout{Command: &events.CommandRef{Type: events.TypeRolloutStart, ID: "c1", Source: "s", Digest: "d"}})
	require.NoError(t, err)
	require.True(t, c.Add(events.Envelope{
		ID: "e4", Source: events.Source(events.FnRollout), Type: events.TypeRolloutCompleted, Correlation: "c1",
		Causation: events.RolloutEnd(events.Identity("s", "c1")), Data: data,
	}))
	require.Empty(t, c.Open())
	require.NotEmpty(t, c.Tree().Roots)
}

// Only the last page of a list ends its command.
func TestThePagesOfAListAreOneEnd(t *testing.T) {
	t.Parallel()
	c := chain.New("c1", events.Root{})
	for page, causation := range []string{"", "", "c1"} {
		data, err := json.Marshal(events.DesktopsListed{
			Command: events.CommandRef{Type: events.TypeListDesktops, ID: "c1"}, Page: page + 1, Last: causation != "",
		})
		require.NoError(t, err)
		require.True(t, c.Add(events.Envelope{
			ID: string(rune('a' + page)), Source: events.Source(events.FnListDesktops), Type: events.TypeDesktopsListed,
			Causation: causation, Correlation: "c1", Data: data,
		}))
	}
	require.Equal(t, "listdesktops command c1", c.Tree().Lines()[0])
	require.Len(t, c.Tree().Roots[0].Children, 3)
}

// While a plan is made, only the functions that the rollout asks have published events. What they end in ends no rollout.
func TestARolloutIsOpenWhileItsPlanIsMade(t *testing.T) {
	t.Parallel()
	c := chain.New("c1", events.Root{})
	add := func(function, id, typ, causation, command string) {
		t.Helper()
		data := `{"name": "r", "command": ` + command + `, "page": 1, "last": true}`
		require.True(t, c.Add(events.Envelope{
			ID: id, Source: events.Source(function), Type: typ, Causation: causation, Correlation: "c1",
			Time: time.Date(2026, 1, 15, 8, 30, len(c.Events()), 0, time.UTC), Data: []byte(data),
		}))
	}
	list := func(id string) string {
		return `{"type": "recompose.command.listdesktops.v1", "source": "recompose/rollout", "id": "` + id + `"}`
	}
	start := `{"type": "recompose.command.rollout.start.v1", "source": "me", "id": "c1"}`
	want := []events.Pending{{ID: "c1"}}
	require.Equal(t, want, c.Open())
	add(events.FnListDesktops, "e1", events.TypeCommandFailed, "l1", list("l1"))
	require.Equal(t, want, c.Open(), "the list failed, and is read anew")
	require.Equal(t, "open", chain.NewRow("c1", c.Events(), nil).State)
	add(events.FnListDesktops, "e2", events.TypeDesktopsListed, "l2", list("l2"))
	require.Equal(t, want, c.Open())
	add(events.FnRollout, "e3", events.TypeRolloutPlanned, "c1", start)
	require.Equal(t, []events.Pending{{ID: events.RolloutEnd(events.Identity("me", "c1")), Function: events.FnRollout}}, c.Open())
	add(events.FnRollout, "e4", events.TypeRolloutCompleted, events.RolloutEnd(events.Identity("me", "c1")), start)
	require.Empty(t, c.Open())
}
