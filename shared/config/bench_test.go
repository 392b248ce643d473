package config

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkLoad measures what reading the settings costs a cold start on Lambda.
func BenchmarkLoad(b *testing.B) {
	for name, value := range whole {
		b.Setenv(name, value)
	}
	for _, name := range []string{"RECOMPOSE_TOPIC_ARN", "RECOMPOSE_QUEUE_URL", "RECOMPOSE_DEAD_LETTER_QUEUE_URL", "RECOMPOSE_TABLE"} {
		b.Setenv(name, "set")
	}
	for b.Loop() {
		_, err := Load(Options{Service: Required, AWS: Required})
		require.NoError(b, err)
	}
}
