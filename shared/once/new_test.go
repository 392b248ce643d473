package once_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/config"
	"recompose/shared/once"
)

// A signature window of zero would end the wait for a lost call at once, and the call could be made twice.
func TestAnEngineNeedsWholeSettings(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*config.Config{
		"none":      {},
		"no window": {Pace: 1},
		"no pace":   {SignatureWindow: time.Minute},
	} {
		require.Panics(t, func() { once.New(c, service(time.Now), once.Options{}) }, name)
	}
	require.NotPanics(t, func() { once.New(config.Default(), service(time.Now), once.Options{}) })
}
