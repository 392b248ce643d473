package once_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/once"
)

func TestSameDisk(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b        string
		same, known bool
	}{
		{"v1 2026-01-10T06:57:47Z", "v1 2026-01-10T06:57:47Z", true, true},
		{"v1 2026-01-10T06:57:47Z", "v1 2026-01-10T14:57:47+08:00", true, true},
		{"v1 2026-01-10T06:57:47Z", "v1 2026-01-10T06:58:47Z", false, true},
		{"v1 2026-01-10 06:57:47", "v1 2026-01-10T06:57:47", true, true},
		{"v1 2026-01-10T06:57:47Z", "v2 2026-01-10T06:57:47Z", false, true},
		{"v1 2026-01-10T06:57:47Z", "v2 2026-01-10 06:57:47", false, true},
		{"v1 ", "v1 ", true, true},
		{"v1 2026-01-10T06:57:47Z", "v1 2026-01-10 06:57:47", false, false},
		{"v1 2026-01-10T06:57:47Z", "v1 ", false, false},
		{"v1 soon", "v1 later", false, false},
		{"", "v1 2026-01-10T06:57:47Z", false, false},
		{"", "", false, false},
	} {
		for range 2 {
			same, known := once.SameDisk(c.a, c.b)
			require.Equal(t, []bool{c.same, c.known}, []bool{same, known}, "%q and %q", c.a, c.b)
			c.a, c.b = c.b, c.a
		}
	}
}
