package lambdaboot

import (
	"os"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"recompose/shared/config"
)

// All sandboxes of all functions of a stack together make no more calls than the stack may.
func TestTheSharesOfTheTemplateAreTheLimitOfTheStack(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../template.yaml")
	require.NoError(t, err)
	var template struct {
		Mappings struct {
			Shares map[string]struct {
				Reads  float64 `yaml:"Reads"`
				Writes float64 `yaml:"Writes"`
			} `yaml:"Shares"`
		} `yaml:"Mappings"`
	}
	require.NoError(t, yaml.Unmarshal(text, &template))
	require.Len(t, template.Mappings.Shares, 7, "of the functions that make calls")
	for _, limit := range []float64{1, 100, 200, 999_999} {
		for _, sandboxes := range []int{2, 3, 7, 100} {
			var reads, writes float64
			for name, share := range template.Mappings.Shares {
				c := &config.Config{ReadsShare: share.Reads, WritesShare: share.Writes, Sandboxes: sandboxes}
				for _, one := range []float64{part(limit, c.ReadsShare, c), part(limit, c.WritesShare, c)} {
					require.Positive(t, one, name)
				}
				reads += part(limit, c.ReadsShare, c) * float64(sandboxes)
				writes += part(limit, c.WritesShare, c) * float64(sandboxes)
			}
			require.InEpsilon(t, limit, reads, 1e-9)
			require.InEpsilon(t, limit, writes, 1e-9)
		}
	}
}
