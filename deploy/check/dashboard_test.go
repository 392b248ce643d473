package check_test

import (
	"bytes"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/promql/promqltest"
	"github.com/stretchr/testify/require"
)

type gridPos struct{ H, W, X, Y int }

type datasource struct{ Type, UID string }

type panel struct {
	ID                       int
	Type, Title, Description string
	GridPos                  gridPos
	Datasource               datasource
	Targets                  []struct {
		RefID        string `json:"refId"`
		Expr         string
		LegendFormat string
		Datasource   datasource
	}
}

// variables are the values that Grafana inserts for the dashboard's variables.
var variables = strings.NewReplacer("$__rate_interval", "4m", "$job", "recompose")

// Each query of the dashboard finds series of a worker that has handled a chain, except for events that did not happen.
func TestEveryPanelShowsMetricsOfAWorker(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../grafana/recompose.json")
	require.NoError(t, err)
	var dashboard struct {
		UID, Title    string
		SchemaVersion int
		Panels        []panel
		Templating    struct {
			List []struct{ Name, Type string }
		}
	}
	require.NoError(t, json.NewDecoder(bytes.NewReader(text)).Decode(&dashboard))
	require.Equal(t, "recompose", dashboard.UID)
	var names []string
	for _, v := range dashboard.Templating.List {
		names = append(names, v.Name)
	}
	require.Equal(t, []string{"datasource", "job"}, names)

	db := load(t, fault{})
	engine := promqltest.NewTestEngine(t, false, 5*time.Minute, 1_000_000)
	ids := map[int]bool{}
	cells := map[[2]int]string{}
	for _, p := range dashboard.Panels {
		require.False(t, ids[p.ID], "%s: the id %d is used twice", p.Title, p.ID)
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				require.Empty(t, cells[[2]int{x, y}], "%s covers another panel", p.Title)
				cells[[2]int{x, y}] = p.Title
				require.Less(t, x, 24, "%s is wider than the page", p.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		require.NotEmpty(t, p.Description, p.Title)
		require.NotEmpty(t, p.Targets, p.Title)
		require.Equal(t, datasource{"prometheus", "${datasource}"}, p.Datasource, p.Title)
		for _, target := range p.Targets {
			require.Equal(t, p.Datasource, target.Datasource, p.Title)
			expr := variables.Replace(target.Expr)
			require.NotContains(t, expr, "$", p.Title)
			isAboutAWorker(t, expr)
			query, err := engine.NewRangeQuery(t.Context(), db, nil, expr, at(0), at(wrongAt), time.Minute)
			require.NoError(t, err, expr)
			result := query.Exec(t.Context())
			require.NoError(t, result.Err, expr)
			matrix, err := result.Matrix()
			require.NoError(t, err, expr)
			require.Equal(t, strings.HasSuffix(expr, "> 0"), len(matrix) == 0, "%s: %s", p.Title, expr)
			for _, drawn := range matrix {
				for _, legend := range strings.SplitAfter(target.LegendFormat, "{{")[1:] {
					label, _, _ := strings.Cut(legend, "}}")
					if !strings.Contains(expr, "vector(0)") {
						require.NotEmpty(t, drawn.Metric.Get(label), "%s: the legend has %s, the series %s", p.Title, label, drawn.Metric)
					}
				}
			}
			query.Close()
		}
	}
}
