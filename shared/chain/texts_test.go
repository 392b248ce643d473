package chain

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

// Without a text of its own an event is described by its type alone.
func TestEachEventHasItsText(t *testing.T) {
	t.Parallel()
	for _, e := range events.Events {
		lines := Describe(event(t, events.FnWatchJob, e.Type, "e", "c", e.Data))
		require.NotEqual(t, []string{e.Type}, lines, "Describe has no text for %s", e.Type)
	}
}

func TestAReadIsItsCall(t *testing.T) {
	t.Parallel()
	for _, c := range events.Commands {
		if c.Reads() {
			tree := treeOf("root", event(t, c.Function, c.Answer, "e", "root", map[string]any{"last": true}))
			require.Equal(t, []Call{{Call: c.Call}}, tree.Roots[0].Children[0].Calls, c.Function)
		}
	}
}
