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
	for _, typ := range []string{events.TypeCheckImages, events.TypeDesktopToImage, events.TypeRebuild, events.TypeGetDesktop,
		events.TypeListDesktops, events.TypeListImages} {
		require.NotEmpty(t, routes[typ], "no function takes %s", typ)
	}
	for _, typ := range events.RolloutTypes {
		require.Equal(t, events.FnRollout, routes[typ], typ)
	}
	require.Len(t, routes, 6+len(events.RolloutTypes))
}

func TestOnlyTheTwoCallsThatChangeSomethingWrite(t *testing.T) {
	t.Parallel()
	var writes []string
	for _, f := range functions.Routes() {
		if f.Writes {
			writes = append(writes, f.Name)
			require.NotNil(t, f.GiveUp, "%s must publish what its record shows when a command is given up", f.Name)
		}
	}
	require.Equal(t, []string{events.FnDesktopToImage, events.FnRebuild}, writes)
}
