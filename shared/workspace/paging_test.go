package workspace

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// images is a server of n images with at most most a page; tamper changes each answer.
func images(n, most int, tamper func(offset int, answer map[string]any)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
		limit, _ := strconv.Atoi(r.URL.Query().Get("limit"))
		list := []any{}
		for i := offset; i < min(n, offset+limit, offset+most); i++ {
			list = append(list, map[string]any{"id": fmt.Sprintf("i%d", i)})
		}
		answer := map[string]any{"images": list, "total_count": n}
		if tamper != nil {
			tamper(offset, answer)
		}
		_ = json.NewEncoder(w).Encode(answer)
	}
}

func TestListingReadsEveryPage(t *testing.T) {
	t.Parallel()
	for _, row := range []struct{ n, most, calls int }{
		{0, 100, 1}, {1, 100, 1}, {99, 100, 1}, {100, 100, 2}, {101, 100, 2}, {250, 100, 3}, {250, 60, 5}, {3, 1, 3},
		{50, 100, 2}, {64, 100, 2}, {51, 100, 1}, {5, 100, 1}, {150, 100, 2}, {110, 60, 2},
	} {
		b := setup(t, images(row.n, row.most, nil))
		got, err := b.ListImages(t.Context(), ImagesQuery{})
		require.NoError(t, err)
		require.Len(t, got.Images, row.n)
		require.True(t, got.Complete, row)
		require.Equal(t, testTime, got.Date)
		require.Len(t, b.seen(), row.calls, row)
	}
}

// A server may cap its pages and report the rows of a page as the total. Its list ends at an empty page.
func TestListingOfAServerThatReportsTheRowsOfAPageAsTheTotal(t *testing.T) {
	t.Parallel()
	ofPage := func(_ int, a map[string]any) { a["total_count"] = len(a["images"].([]any)) }
	ofFirst := func(most int) func(int, map[string]any) {
		return func(_ int, a map[string]any) { a["total_count"] = most }
	}
	for name, row := range map[string]struct {
		n, most, calls int
		tamper         func(int, map[string]any)
	}{
		"capped":                      {230, 50, 6, ofPage},
		"capped, last page is full":   {100, 50, 3, ofPage},
		"capped, one page":            {50, 50, 2, ofPage},
		"capped at a power of two":    {150, 64, 4, ofPage},
		"full pages":                  {230, 100, 4, ofPage},
		"one full page":               {100, 100, 2, ofPage},
		"one short page":              {37, 100, 1, ofPage},
		"the cap is always the total": {230, 50, 6, ofFirst(50)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, images(row.n, row.most, row.tamper))
			got, err := b.ListImages(t.Context(), ImagesQuery{})
			require.NoError(t, err)
			require.Len(t, got.Images, row.n)
			require.True(t, got.Complete)
			require.Len(t, b.seen(), row.calls)
		})
	}
}

// The list of one job is doubted only if it has fewer rows than the job has desktops, and a list of jobs under way never.
func TestTheListOfAJobIsDoubtedOnlyIfDesktopsAreMissing(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		q       SubJobsQuery
		n, most int
		rows    int
		calls   int
	}{
		"all desktops":   {SubJobsQuery{JobID: "j", Desktops: 100}, 100, 1000, 100, 1},
		"fewer":          {SubJobsQuery{JobID: "j", Desktops: 100}, 100, 50, 100, 3},
		"some never are": {SubJobsQuery{JobID: "j", Desktops: 100}, 50, 1000, 50, 2},
		"all jobs":       {SubJobsQuery{JobType: JobTypeRebuild}, 100, 50, 100, 3},
		"odd cap":        {SubJobsQuery{JobType: JobTypeRebuild}, 100, 37, 37, 1},
		"odd cap, sure":  {SubJobsQuery{JobType: JobTypeRebuild, Sure: true}, 100, 37, 100, 4},
		"none, sure":     {SubJobsQuery{JobType: JobTypeRebuild, Sure: true}, 0, 1000, 0, 1},
		"one, sure":      {SubJobsQuery{JobType: JobTypeRebuild, Sure: true}, 1, 1000, 1, 2},
		"under way":      {SubJobsQuery{JobType: JobTypeRebuild, Status: []string{"RUNNING"}}, 100, 1000, 100, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, images(row.n, row.most, func(_ int, a map[string]any) {
				a["jobs"], a["total_count"] = a["images"], len(a["images"].([]any))
			}))
			got, err := b.ListSubJobs(t.Context(), row.q)
			require.NoError(t, err)
			require.Len(t, got.Jobs, row.rows)
			require.Len(t, b.seen(), row.calls)
		})
	}
}

func TestListingProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n, most := rapid.IntRange(0, 400).Draw(rt, "n"), rapid.IntRange(7, 150).Draw(rt, "most")
		withTotal := rapid.Bool().Draw(rt, "with total")
		handler := images(n, most, func(_ int, a map[string]any) {
			if !withTotal {
				delete(a, "total_count")
			}
		})
		c := newClient(t, "http://127.0.0.1:1", func(c *Options) {
			c.Transport = roundTrip(func(r *http.Request) (*http.Response, error) {
				w := httptest.NewRecorder()
				handler(w, r)
				return w.Result(), nil
			})
		})
		got, err := c.ListImages(t.Context(), ImagesQuery{})
		if err != nil || !got.Complete || len(got.Images) != n {
			rt.Fatalf("%d of %d images, complete %v, %v", len(got.Images), n, got.Complete, err)
		}
	})
}

func TestListingIsNotCompleteOnOddAnswers(t *testing.T) {
	t.Parallel()
	set := func(key string, value any) func(int, map[string]any) {
		return func(_ int, a map[string]any) { a[key] = value }
	}
	item := func(id string) map[string]any { return map[string]any{"id": id} }
	for name, row := range map[string]struct {
		n        int
		tamper   func(int, map[string]any)
		items    int
		complete bool
	}{
		"total too high":              {5, set("total_count", 6), 5, false},
		"total too low, end seen":     {5, set("total_count", 1), 5, true},
		"total negative":              {5, set("total_count", -1), 5, true},
		"total as a text":             {5, set("total_count", "5"), 5, true},
		"total null":                  {5, set("total_count", nil), 5, true},
		"null list":                   {0, set("images", nil), 0, true},
		"null list against the total": {3, set("images", nil), 0, false},
		"same page for ever":          {5, func(_ int, a map[string]any) { a["images"] = []any{item("a"), item("b")}; a["total_count"] = 9 }, 2, false},
		"one item twice": {0, func(o int, a map[string]any) {
			a["images"] = []any{item("a"), item("a")}[min(o, 2):]
			a["total_count"] = 2
		}, 1, false},
		"overlapping pages": {120, func(o int, a map[string]any) {
			if list := a["images"].([]any); o > 0 && len(list) > 0 {
				a["images"] = append([]any{item("i0")}, list...)
			}
		}, 120, true},
		"total that changes": {150, func(o int, a map[string]any) { a["total_count"] = 150 + min(o, 1) }, 150, false},
		"null element":       {0, func(o int, a map[string]any) { a["images"] = []any{item("a"), nil}[min(o, 2):]; a["total_count"] = 2 }, 1, false},
		"no end":             {1 << 20, nil, 5100, false},
		"no ids and no end": {0, func(_ int, a map[string]any) {
			a["images"] = []any{item("")}
			a["total_count"] = 7000
		}, maxPages, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := setup(t, images(row.n, 100, row.tamper))
			got, err := b.ListImages(t.Context(), ImagesQuery{})
			require.NoError(t, err)
			require.Len(t, got.Images, row.items)
			require.Equal(t, row.complete, got.Complete)
			require.LessOrEqual(t, len(b.seen()), maxPages)
		})
	}
}

// A list that changes during the reading is complete only if every item of its final state was read.
func TestListingOfAListThatChanges(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		move     func(list []string, request int) []string // before each answer
		complete bool
	}{
		"grows at its end":       {func(l []string, n int) []string { return append(l, fmt.Sprint("new", n)) }, true},
		"grows at its beginning": {func(l []string, n int) []string { return append([]string{fmt.Sprint("new", n)}, l...) }, true},
		"its last item moves to its beginning": {func(l []string, n int) []string {
			if n != 1 {
				return l
			}
			return append([]string{l[len(l)-1]}, l[:len(l)-1]...)
		}, true},
		"loses its first item": {func(l []string, n int) []string {
			if n != 1 {
				return l
			}
			return l[1:]
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var list []string
			for i := range 250 {
				list = append(list, fmt.Sprint("i", i))
			}
			n := 0
			b := setup(t, func(w http.ResponseWriter, r *http.Request) {
				list = row.move(list, n)
				n++
				offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
				var some []map[string]any
				for _, id := range list[min(offset, len(list)):min(offset+100, len(list))] {
					some = append(some, map[string]any{"id": id})
				}
				_ = json.NewEncoder(w).Encode(map[string]any{"images": some, "total_count": len(list)})
			})
			got, err := b.ListImages(t.Context(), ImagesQuery{})
			require.NoError(t, err)
			require.Equal(t, row.complete, got.Complete)
			require.LessOrEqual(t, len(b.seen()), passes*4)
			if !row.complete {
				return
			}
			read := map[string]bool{}
			for _, i := range got.Images {
				require.False(t, read[i.ID], "twice")
				read[i.ID] = true
			}
			for _, id := range list {
				require.True(t, read[id], id)
			}
		})
	}
}

func TestListingStopsAtAnError(t *testing.T) {
	t.Parallel()
	b := setup(t, answers(images(300, 100, nil), responds(500, `{"error_code":"WKS.00000003"}`)))
	got, err := b.ListImages(t.Context(), ImagesQuery{})
	require.Equal(t, Unavailable, ClassOf(err))
	require.False(t, got.Complete)
	for _, body := range []string{`{"images":"x"}`, `{"images":["x"]}`, `{"images":[[]]}`, `[]`} {
		_, err = setup(t, responds(200, body)).ListImages(t.Context(), ImagesQuery{})
		require.Equal(t, BadAnswer, ClassOf(err), body)
	}
}

func TestListingDateIsTheEarliestOrZero(t *testing.T) {
	t.Parallel()
	dated := func(dates ...string) Images {
		t.Helper()
		var handlers []http.HandlerFunc
		for _, date := range dates {
			handlers = append(handlers, func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Date"] = nil
				if date != "" {
					w.Header().Set("Date", date)
				}
				images(150, 100, nil)(w, r)
			})
		}
		got, err := setup(t, answers(handlers...)).ListImages(t.Context(), ImagesQuery{})
		require.NoError(t, err)
		return got
	}
	early, late := testTime.Format(http.TimeFormat), testTime.Add(time.Minute).Format(http.TimeFormat)
	require.Equal(t, testTime, dated(early, late).Date)
	require.Equal(t, testTime, dated(late, early).Date)
	require.True(t, dated(early, "").Date.IsZero())
	require.True(t, dated("", early).Date.IsZero())
	require.True(t, dated("Mon, 01 Jan 0001 00:00:00 GMT", early).Date.IsZero(), "absurd")
}

// subJobsBody has the known oddities of sub-jobs: times without zone, an end_time while running, strings for numbers.
const subJobsBody = `{"total_count":2,"jobs":[
		{"id":"s1","job_id":"j1","job_type":"rebuildDesktops","status":"RUNNING","process":"40","begin_time":"2026-01-15 08:00:00",
		 "end_time":"2026-01-15 08:10:00","entities":{"desktop_id":"d1","new":1}},
		{"id":"s2","job_id":"j1","job_type":"rebuildDesktops","status":"FAILED","error_code":"c","fail_reason":"f",
		 "begin_time":"2026-01-15T08:00:00Z","entities":[{"desktop_id":"d2"}]}]}`

func TestSubJobs(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, subJobsBody))
	got, err := b.ListSubJobs(t.Context(), SubJobsQuery{JobID: "j1"})
	require.NoError(t, err)
	require.True(t, got.Complete)
	require.Equal(t, testTime, got.Date)
	require.Len(t, got.Jobs, 2)
	first, second := got.Jobs[0], got.Jobs[1]
	require.Equal(t, Pending, first.State(), "an end_time while it runs does not end it")
	require.Equal(t, int64(40), *first.Process)
	require.False(t, first.BeginTime.Zoned)
	require.True(t, second.BeginTime.Zoned)
	require.Equal(t, first.BeginTime.Time, second.BeginTime.Time)
	require.Equal(t, "d1", first.DesktopID())
	require.Equal(t, "d2", second.DesktopID())
	require.Empty(t, SubJob{}.DesktopID())
	require.Equal(t, Failed, second.State())
	require.NotContains(t, b.seen()[0].query, "job_type", "empty filters are not sent")
}

func TestSubJobsOfOtherJobsAreLeftOut(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"total_count":3,"jobs":[{"id":"1","job_id":"j1"},{"id":"2","job_id":"j2"},{"id":"3"}]}`))
	got, err := b.ListSubJobs(t.Context(), SubJobsQuery{JobID: "j1"})
	require.NoError(t, err)
	require.Len(t, got.Jobs, 2)
	require.False(t, got.Complete)
	got, err = b.ListSubJobs(t.Context(), SubJobsQuery{JobType: JobTypeRebuild})
	require.NoError(t, err)
	require.Len(t, got.Jobs, 3)
	require.True(t, got.Complete)
}

func TestABriefListHasWhatTellsJobsApart(t *testing.T) {
	t.Parallel()
	b := setup(t, responds(200, `{"total_count":2,"jobs":[
		{"id":"1","job_id":"j1","job_type":"rebuildDesktops","entities":{"desktop_id":"d1","user_name":"u"},"status":"RUNNING","process":7,
		 "begin_time":"2026-01-15 08:00:00","fail_reason":"f","attach_user":"u","later":true},
		{"id":"2","job_id":"j1","job_type":"rebuildDesktops","status":"SUCCESS"}]}`))
	whole, err := b.ListSubJobs(t.Context(), SubJobsQuery{JobType: JobTypeRebuild})
	require.NoError(t, err)
	brief, err := b.ListSubJobs(t.Context(), SubJobsQuery{JobType: JobTypeRebuild, Brief: true})
	require.NoError(t, err)
	require.True(t, brief.Complete)
	require.Equal(t, b.seen()[0].query, b.seen()[1].query)
	first := whole.Jobs[0]
	require.Equal(t, "u", first.AttachUser)
	require.Equal(t, SubJob{
		ID: "1", JobID: "j1", JobType: JobTypeRebuild, Entities: &JobEntities{DesktopID: "d1"}, Status: "RUNNING", Process: first.Process,
		BeginTime: first.BeginTime,
	}, brief.Jobs[0])
	require.Equal(t, SubJob{ID: "2", JobID: "j1", JobType: JobTypeRebuild, Status: "SUCCESS"}, brief.Jobs[1])
}

func TestSubJobsOffsetLimit(t *testing.T) {
	t.Parallel()
	b := setup(t, func(w http.ResponseWriter, r *http.Request) {
		offset, _ := strconv.Atoi(r.URL.Query().Get("offset"))
		_, _ = fmt.Fprintf(w, `{"total_count":%d,"jobs":[`, 99999+offset) // it grows meanwhile
		for i := range 1000 {
			_, _ = fmt.Fprintf(w, `{"id":"s%d"}`, offset+i)
			if i < 999 {
				_, _ = io.WriteString(w, `,`)
			}
		}
		_, _ = io.WriteString(w, `]}`)
	})
	got, err := b.ListSubJobs(t.Context(), SubJobsQuery{JobType: JobTypeRebuild})
	require.NoError(t, err)
	require.Len(t, got.Jobs, 11000)
	require.False(t, got.Complete)
	require.Contains(t, b.seen()[10].query, "offset=10000")
	require.Len(t, b.seen(), 11, "it cannot be complete, and is read once")
}

func TestStates(t *testing.T) {
	t.Parallel()
	for status, wanted := range map[string]State{
		"WAITING": Pending, "RUNNING": Pending, "running": Pending, " SUCCESS ": Succeeded, "FAILED": Failed, "FAIL": Failed,
		"COMPLETE": Unknown, "": Unknown, "ROLLBACK": Unknown, "SUCCESSFUL": Unknown,
	} {
		require.Equal(t, wanted, SubJob{Status: status}.State(), status)
	}
}
