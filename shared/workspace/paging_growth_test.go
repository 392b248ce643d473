package workspace

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A job that begins while a list is read moves the others to the next page: that page has no new one, and the list is read
// once more. A service that ignores the offset returns its first page again and again; another one does so past the end.
func TestAListThatGrowsAtItsTopIsReadOnceMore(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		ignores  bool
		wraps    bool
		complete bool
		calls    int
	}{
		"a new job":                      {complete: true, calls: 3},
		"the offset is ignored":          {ignores: true, calls: 3},
		"the first page is past the end": {wraps: true, complete: true, calls: 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			calls := 0
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				calls++
				var rows []string
				if calls > 1 && !test.ignores && !test.wraps {
					rows = append(rows, `{"id":"new"}`)
				}
				for i := range 10 {
					rows = append(rows, fmt.Sprintf(`{"id":"s%d"}`, i))
				}
				total := len(rows)
				if offset, _ := strconv.Atoi(r.URL.Query().Get("offset")); !test.ignores && (!test.wraps || offset < len(rows)) {
					rows = rows[offset:]
				}
				_, _ = fmt.Fprintf(w, `{"total_count":%d,"jobs":[%s]}`, total, strings.Join(rows, ","))
			})
			got, err := b.ListSubJobs(t.Context(), SubJobsQuery{JobType: JobTypeRebuild})
			require.NoError(t, err)
			require.Equal(t, test.complete, got.Complete)
			require.Len(t, b.seen(), test.calls)
		})
	}
}
