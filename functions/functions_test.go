package functions_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
)

func TestOneRouteACommand(t *testing.T) {
	t.Parallel()
	routes := map[string]string{}
	for _, f := range functions.Routes() {
		require.NotNil(t, f.Handle, f.Name)
		require.Equal(t, len(f.Reacts) > 0, f.React != nil, f.Name)
		require.NotEmpty(t, slices.Concat(f.Types, f.Reacts), "%s takes nothing", f.Name)
		for _, typ := range f.Types {
			require.True(t, typ == events.CommandType(f.Name) || strings.HasPrefix(typ, "recompose.command."+f.Name+"."), typ)
			require.Empty(t, routes[typ], "two functions take %s", typ)
			routes[typ] = f.Name
		}
		for _, typ := range f.Internal {
			require.False(t, events.IsCommand(typ) || events.IsEvent(typ), "%s could be sent", typ)
		}
	}
	for _, c := range events.Commands {
		require.Equal(t, c.Function, routes[c.Type], "the function of %s needs a row in functions.go", c.Type)
	}
	require.Len(t, routes, len(events.Commands))
}

func TestOnlyTheTwoCallsThatChangeSomethingWrite(t *testing.T) {
	t.Parallel()
	var writes []string
	for _, f := range functions.Routes() {
		require.False(t, f.Writes && events.CommandOf(f.Name).Reads(), "%s writes, so its row in events.Commands has no Answer", f.Name)
		if f.Writes {
			writes = append(writes, f.Name)
			require.NotNil(t, f.GiveUp, "%s must publish what its record shows when a command is given up", f.Name)
		}
	}
	require.Equal(t, []string{events.FnDesktopToImage, events.FnRebuild}, writes)
}
