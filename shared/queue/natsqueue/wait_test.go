package natsqueue

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A key that stays wrong is tried less and less often: the sixth refusal in a row locks it for everybody.
func TestAKeyThatStaysWrongIsTriedLessAndLessOften(t *testing.T) {
	t.Parallel()
	var at []int // minutes after the first refusal
	for stopped := time.Duration(0); len(at) < 8; {
		stopped += probeWait(stopped, time.Minute)
		at = append(at, int(stopped.Minutes()))
	}
	require.Equal(t, []int{1, 2, 4, 8, 16, 32, 48, 64}, at)
}
