package functions_test

import (
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
		if f.Type == "" {
			require.NotEmpty(t, f.Reacts, "%s takes nothing", f.Name)
			continue
		}
		require.Equal(t, events.CommandType(f.Name), f.Type)
		require.Empty(t, routes[f.Type], "two functions take %s", f.Type)
		routes[f.Type] = f.Name
	}
	for _, typ := range []string{events.TypeCheckImages, events.TypeDesktopToImage, events.TypeRebuild, events.TypeGetDesktop} {
		require.NotEmpty(t, routes[typ], "no function takes %s", typ)
	}
	require.Len(t, routes, 4)
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
