package workspace

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A desktop is the requested one in any letter case; the published form is that of the service.
func TestCheckImagesAnswersInOtherLetters(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"as copied":  `{"image_infos":[{"desktop_id":"ABC-1","image_id":"i"},{"desktop_id":"Other","image_id":"i"}]}`,
		"as decoded": `{"image_infos":[{"desktop_id":"ABC-1","image_id":"i"},{"image_id":"i","desktop_id":"Other"}],"more":1}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, responds(200, body))
			infos, err := b.CheckImages(t.Context(), []string{"aBc-1"})
			require.NoError(t, err)
			require.Equal(t, []string{"aBc-1", "Other"}, []string{infos[0].DesktopID, infos[1].DesktopID})
			described, err := b.DescribeImages(t.Context(), []string{"aBc-1"})
			require.NoError(t, err)
			require.Equal(t, []string{"aBc-1", "Other"}, []string{described[0].DesktopID, described[1].DesktopID})
			require.Contains(t, string(described[0].JSON), `"ABC-1"`)
		})
	}
}

func TestFindDesktopsAnswersInOtherLetters(t *testing.T) {
	t.Parallel()
	for name, body := range map[string]string{
		"only it":      `{"desktops":[{"desktop_id":"AbC-1","status":"ACTIVE"}],"total_count":1}`,
		"among others": `{"desktops":[{"desktop_id":"AbC-1","status":"ACTIVE"},{"desktop_id":"d2","status":"ACTIVE"}],"total_count":2}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found, err := setup(t, responds(200, body)).FindDesktops(t.Context(), []string{"aBc-1"})
			require.NoError(t, err)
			require.True(t, found.Complete)
			require.Len(t, found.Desktops, 1)
			require.Equal(t, "aBc-1", found.Desktops[0].DesktopID)
			require.Equal(t, "ACTIVE", found.Desktops[0].Status)
		})
	}
}
