package listdesktops_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/events"
	"recompose/functions/listdesktops"
	"recompose/shared/emulator"
	"recompose/shared/queue"
	"recompose/shared/testkit/functiontest"
	"recompose/shared/workspace"
)

func command(r *functiontest.Rig) queue.Delivery {
	return r.Command(events.TypeListDesktops, "c1", events.ListDesktops{})
}

func function(r *functiontest.Rig) queue.Function { return listdesktops.New(r.API, r.Engine()) }

// quirk is a fault of the list with a quirk, from its n-th call on.
func quirk(name string, skip int) emulator.Fault {
	return emulator.Fault{Call: emulator.CallListDesktops, Skip: skip, Do: emulator.Do{Quirk: name}}
}

// listed processes a command until it ends, and returns its pages as one list. It checks what holds for every list.
func listed(t testing.TB, r *functiontest.Rig, cmd events.ListDesktops) events.DesktopsListed {
	t.Helper()
	return whole(t, r.Follow(function(r), r.Command(events.TypeListDesktops, "c1", cmd)))
}

func whole(t testing.TB, result queue.Result) events.DesktopsListed {
	t.Helper()
	require.NotEmpty(t, result.Events)
	var all events.DesktopsListed
	ids := map[string]bool{}
	for i, e := range result.Events {
		raw, err := json.Marshal(e)
		require.NoError(t, err)
		require.LessOrEqual(t, len(raw), events.MaxMessage)
		page := functiontest.Data[events.DesktopsListed](t, e)
		last := i == len(result.Events)-1
		require.Equal(t, []any{i + 1, last, last}, []any{page.Page, page.Last, e.Causation != ""})
		require.False(t, ids[e.ID])
		require.False(t, page.ReadAt.IsZero() || page.ReadAt.After(e.Time), "%s, published at %s", page.ReadAt, e.Time)
		ids[e.ID] = true
		rows := append(all.Desktops, page.Desktops...)
		all = page
		all.Desktops = rows
	}
	require.Len(t, all.Desktops, all.Total)
	return all
}

func idsOf(rows []events.DesktopRow) []string {
	ids := make([]string, len(rows))
	for i, row := range rows {
		ids[i] = row.DesktopID
	}
	return ids
}

// fleet is an emulator with desktops that differ: image, tags, status, pool, users.
func fleet(t testing.TB, n int) *functiontest.Rig {
	t.Helper()
	made, err := emulator.New(emulator.Options{Desktops: n})
	require.NoError(t, err)
	state := made.State()
	require.NoError(t, made.Close())
	for i := range state.Desktops {
		d := &state.Desktops[i]
		d.Created = fmt.Sprintf("2026-01-%02dT06:00:00.%03dZ", 1+i/1000, i%1000)
		if i%2 == 1 {
			d.Metadata["metering.image_id"] = emulator.OtherGoldImageID
			d.Tags = []emulator.Tag{{Key: "ring", Value: "a"}, {Key: "n", Value: fmt.Sprint(i % 4)}}
		}
		if i%3 == 2 {
			d.Status, d.LoginStatus, d.PoolID = "SHUTOFF", "UNREGISTER", "pool-1"
		}
		if i%5 == 4 {
			d.AttachUserInfos, d.UserName, d.AttachState, d.EnterpriseProjectID = nil, "", "UNATTACH", "ep-1"
		}
	}
	seed, err := json.Marshal(state)
	require.NoError(t, err)
	return functiontest.NewWith(t, emulator.Options{Seed: seed})
}

func TestListsEveryDesktopOnce(t *testing.T) {
	t.Parallel()
	r := fleet(t, 1234)
	all := listed(t, r, events.ListDesktops{})
	require.Equal(t, r.Desktops, idsOf(all.Desktops), "in the order of their creation")
	require.Empty(t, all.Missing)
	calls, _ := r.Calls(emulator.CallListDesktops)
	require.Equal(t, 3, calls, "500 rows a call")
	row := all.Desktops[1]
	state := r.Emulator.State().Desktops[1]
	require.Equal(t, emulator.OtherGoldImageID, row.ImageID)
	require.Equal(t, []events.Tag{{Key: "ring", Value: "a"}, {Key: "n", Value: "1"}}, row.Tags)
	require.Equal(t, events.RowVolume{ID: state.DataVolumes[0].ID, VolumeID: state.DataVolumes[0].VolumeID, Type: "SSD", Size: 50}, row.DataVolumes[0])
	require.Equal(t, []any{"ACTIVE", "REGISTERED", "gold", "Windows", "0", "1"},
		[]any{row.Status, row.LoginStatus, row.ImageType, row.OSType, row.ChargingMode, row.ChargeMode})
	require.True(t, *row.UserAttached)
	require.False(t, *all.Desktops[4].UserAttached)
	require.NotNil(t, all.Desktops[0].Tags)
	require.Empty(t, all.Desktops[0].Tags, "no tags are not the same as unknown tags")
	require.Empty(t, row.AttachUserInfos, "people are not named unless asked for")
}

func TestTenThousandDesktopsInTwentyReads(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 10_000)
	all := listed(t, r, events.ListDesktops{Fields: []string{"image_id"}})
	require.Len(t, all.Desktops, 10_000)
	calls, _ := r.Calls(emulator.CallListDesktops)
	require.LessOrEqual(t, calls, 21)
}

func TestFields(t *testing.T) {
	t.Parallel()
	r := fleet(t, 2)
	row := listed(t, r, events.ListDesktops{Fields: []string{"image_id", events.RowUsers}}).Desktops[0]
	require.Equal(t, events.DesktopRow{
		DesktopID: r.Desktops[0], Status: "ACTIVE", ImageID: emulator.GoldImageID, AttachUserInfos: row.AttachUserInfos,
	}, row)
	require.NotEmpty(t, row.AttachUserInfos[0].UserName)
}

func TestEachFilterIsCheckedHere(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, c := range map[string]struct {
		cmd  events.ListDesktops
		want func(i int, d emulator.Desktop) bool
	}{
		"image_id":              {events.ListDesktops{ImageID: emulator.OtherGoldImageID}, func(i int, _ emulator.Desktop) bool { return i%2 == 1 }},
		"status":                {events.ListDesktops{Status: "SHUTOFF"}, func(i int, _ emulator.Desktop) bool { return i%3 == 2 }},
		"enterprise_project_id": {events.ListDesktops{EnterpriseProjectID: "ep-1"}, func(i int, _ emulator.Desktop) bool { return i%5 == 4 }},
		"tags":                  {events.ListDesktops{Tags: map[string]string{"ring": "a", "n": "3"}}, func(i int, _ emulator.Desktop) bool { return i%4 == 3 }},
		"user_attached":         {events.ListDesktops{UserAttached: &yes}, func(i int, _ emulator.Desktop) bool { return i%5 != 4 }},
		"not user_attached":     {events.ListDesktops{UserAttached: &no}, func(i int, _ emulator.Desktop) bool { return i%5 == 4 }},
		"computer_name":         {events.ListDesktops{ComputerName: "WKS-00007"}, func(i int, _ emulator.Desktop) bool { return i == 6 }},
		"several": {events.ListDesktops{ImageID: emulator.OtherGoldImageID, Status: "SHUTOFF", UserAttached: &yes},
			func(i int, _ emulator.Desktop) bool { return i%2 == 1 && i%3 == 2 && i%5 != 4 }},
		"nothing matches": {events.ListDesktops{ImageID: "no-such-image"}, func(int, emulator.Desktop) bool { return false }},
	} {
		for _, lie := range []string{"", "list-filters-ignored", "list-total-of-all", "list-pages-capped", "list-total-missing"} {
			t.Run(name+" "+lie, func(t *testing.T) {
				t.Parallel()
				r := fleet(t, 260)
				if lie != "" {
					r.Faults(quirk(lie, 0))
				}
				var want []string
				for i, d := range r.Emulator.State().Desktops {
					if c.want(i, d) {
						want = append(want, d.DesktopID)
					}
				}
				got := idsOf(listed(t, r, c.cmd).Desktops)
				require.Equal(t, len(want), len(got))
				require.True(t, slices.Equal(want, got))
			})
		}
	}
}

// The service may take an id in another letter case than the one that it shows.
func TestTheLetterCaseOfAnImageDoesNotMatter(t *testing.T) {
	t.Parallel()
	r := fleet(t, 10)
	r.Faults(quirk("list-filters-ignored", 0))
	require.Len(t, listed(t, r, events.ListDesktops{ImageID: strings.ToUpper(emulator.OtherGoldImageID)}).Desktops, 5)
}

func TestAPoolIsListedOnlyIfItIsProved(t *testing.T) {
	t.Parallel()
	cmd := events.ListDesktops{PoolID: "pool-1"}
	for lie, fails := range map[string]bool{"": false, "list-pool-id": false, "list-pool-id,list-filters-ignored": false, "list-filters-ignored": true} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			r := fleet(t, 30)
			if lie != "" {
				r.Faults(quirk(lie, 0))
			}
			result := r.Follow(function(r), r.Command(events.TypeListDesktops, "c1", cmd))
			if fails {
				failed := functiontest.OnlyData[events.CommandFailed](t, result)
				require.Equal(t, events.KindBadAnswer, failed.Error.Kind)
				require.Contains(t, failed.Error.ErrorMsg, "pool_id: the service does not name the pool of 30 desktops")
				return
			}
			rows := whole(t, result).Desktops
			require.Len(t, rows, 10)
			for _, row := range rows {
				require.Equal(t, "pool-1", row.PoolID)
			}
		})
	}
}

func TestNamedDesktops(t *testing.T) {
	t.Parallel()
	for _, lie := range []string{"", "list-first-id", "list-filters-ignored", "list-filters-ignored,list-pages-capped", "list-pages-capped"} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			r := fleet(t, 1100)
			if lie != "" {
				r.Faults(quirk(lie, 0))
			}
			ids := []string{r.Desktops[1000], "no-such-desktop", r.Desktops[3], r.Desktops[4], "nor-this"}
			all := listed(t, r, events.ListDesktops{DesktopIDs: ids, UserAttached: new(true)})
			require.Equal(t, []string{ids[0], ids[2]}, idsOf(all.Desktops), "in the order of the ids")
			require.Equal(t, []string{ids[1], ids[4]}, all.Missing, "one that does not match a filter is not missing")
		})
	}
}

// Whatever the service does, a list that is published is complete.
func TestAPublishedListIsComplete(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.SampledFrom([]int{1, 100, 101, 201}).Draw(rt, "desktops")
		r := functiontest.New(t, n)
		var lies []string
		for _, lie := range []string{"list-pages-capped", "list-filters-ignored", "list-total-of-all", "list-total-missing", "list-random-order"} {
			if rapid.Bool().Draw(rt, lie) {
				lies = append(lies, lie)
			}
		}
		always, before := strings.Join(lies, ","), rapid.IntRange(0, 6).Draw(rt, "calls before a desktop is deleted")
		deleted := rapid.Bool().Draw(rt, "a desktop is deleted")
		var faults []emulator.Fault
		if always != "" && !deleted {
			faults = append(faults, quirk(always, 0))
		}
		if always != "" && deleted && before > 0 {
			faults = append(faults, emulator.Fault{Call: emulator.CallListDesktops, Times: before, Do: emulator.Do{Quirk: always}})
		}
		if deleted && always != "" {
			faults = append(faults, quirk(always+",list-desktop-deleted", 0))
		} else if deleted {
			faults = append(faults, quirk("list-desktop-deleted", before))
		}
		r.Faults(faults...)
		result := r.Process(function(r), command(r))
		if result.Delay != nil { // it is read once more later, see TestAListThatIsNeverTheSameIsNotCalledComplete
			require.Empty(rt, result.Events)
			return
		}
		got := map[string]bool{}
		for _, row := range whole(t, result).Desktops {
			require.False(rt, got[row.DesktopID], "twice")
			got[row.DesktopID] = true
		}
		for i, id := range r.Desktops {
			require.True(rt, got[id] || deleted && i == 0, "without %d of %d", i, n)
		}
	})
}

func TestADesktopDeletedBetweenTwoPagesHidesNoOther(t *testing.T) {
	t.Parallel()
	r := fleet(t, 1500)
	r.Faults(quirk("list-desktop-deleted", 1))
	all := listed(t, r, events.ListDesktops{})
	require.Equal(t, r.Desktops[1:], idsOf(all.Desktops))
}

func TestAListThatIsNeverTheSameIsNotCalledComplete(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 600)
	r.Faults(quirk("list-random-order,list-pages-capped", 0))
	failed := functiontest.OnlyData[events.CommandFailed](t, r.Follow(function(r), command(r)))
	require.Equal(t, events.KindBadAnswer, failed.Error.Kind)
	require.Contains(t, failed.Error.ErrorMsg, "is not complete")
}

func TestLargeRowsAreDividedBySize(t *testing.T) {
	t.Parallel()
	made, err := emulator.New(emulator.Options{Desktops: 150})
	require.NoError(t, err)
	state := made.State()
	require.NoError(t, made.Close())
	for i := range state.Desktops {
		for n := range 20 {
			state.Desktops[i].Tags = append(state.Desktops[i].Tags, emulator.Tag{Key: fmt.Sprintf("%0128d", n), Value: fmt.Sprintf("%043d", n)})
		}
	}
	seed, err := json.Marshal(state)
	require.NoError(t, err)
	r := functiontest.NewWith(t, emulator.Options{Seed: seed})
	result := r.Follow(function(r), command(r))
	require.Greater(t, len(result.Events), 3)
	require.Equal(t, r.Desktops, idsOf(whole(t, result).Desktops))
}

// A worker that dies after its pages were recorded has published some of them, or none: the next delivery publishes the
// same pages, though the fleet has changed since.
func TestASecondDeliveryPublishesTheSamePages(t *testing.T) {
	t.Parallel()
	r := fleet(t, 1100)
	first := r.Process(function(r), command(r))
	require.Greater(t, len(first.Events), 2)
	r.Faults(quirk("list-desktop-deleted", 0))
	d := command(r)
	d.Deliveries = 2
	second := r.Process(function(r), d)
	require.Len(t, second.Events, len(first.Events))
	for i, e := range second.Events {
		require.Equal(t, []any{first.Events[i].ID, first.Events[i].Causation, first.Events[i].Time},
			[]any{e.ID, e.Causation, e.Time})
	}
	require.Equal(t, idsOf(whole(t, first).Desktops), idsOf(whole(t, second).Desktops))
	for _, e := range second.Events {
		for _, personal := range []string{"computer_name", "tags", "user_name"} {
			require.NotContains(t, string(e.Data), personal, "the ledger keeps nothing of people")
		}
	}
}

func TestNothingPersonalIsPublished(t *testing.T) {
	t.Parallel()
	r := fleet(t, 3)
	r.Config.BlankPersonal = true
	e := functiontest.Only(t, r.Process(function(r), r.Command(events.TypeListDesktops, "c1",
		events.ListDesktops{Tags: map[string]string{"ring": "a"}, Fields: []string{"computer_name", "tags", events.RowUsers}})))
	var published struct{ Desktops json.RawMessage }
	require.NoError(t, json.Unmarshal(e.Data, &published))
	require.JSONEq(t, fmt.Sprintf(`[{"desktop_id":%q,"status":"ACTIVE","task_status":""}]`, r.Desktops[1]), string(published.Desktops))
}

func TestOneShapeWhateverCameIn(t *testing.T) {
	t.Parallel()
	for _, lie := range []string{
		"addresses-array", "metadata-number", "times-without-zone", "process-null", "task-status-null", "status-lower-case",
		"unknown-fields", "sata-volume", "security-groups-missing",
	} {
		t.Run(lie, func(t *testing.T) {
			t.Parallel()
			r := fleet(t, 4)
			r.Faults(quirk(lie, 0))
			all := listed(t, r, events.ListDesktops{Status: "active"})
			if lie == "status-lower-case" {
				require.Equal(t, "active", all.Desktops[0].Status, "as received")
			}
			require.Equal(t, []string{r.Desktops[0], r.Desktops[1], r.Desktops[3]}, idsOf(all.Desktops))
			require.Regexp(t, `^\d{4}-\d\d-\d\dT[\d:.]+Z$`, all.Desktops[0].Created)
		})
	}
}

func TestStatuses(t *testing.T) {
	t.Parallel()
	functiontest.ReadStatuses(t, emulator.CallListDesktops, function, command)
}

func TestRefusesWithoutACall(t *testing.T) {
	t.Parallel()
	functiontest.Refuses(t, events.TypeListDesktops, function, map[string]functiontest.Refusal{
		"a path":          {`{"desktop_ids":["../images"]}`, events.KindInvalid, "desktop_ids[0]"},
		"another project": {`{"project_id":"p2"}`, events.KindNotAllowed, "project_id"},
		"unknown field":   {`{"limit":10}`, events.KindInvalid, "limit: is not a field"},
	})
}

// limited is a service whose list is longer than the rate limit of the worker allows at once.
type limited struct{ listdesktops.API }

func (limited) ListDesktops(context.Context, workspace.DesktopsQuery) (workspace.Desktops, error) {
	return workspace.Desktops{Desktops: make([]workspace.ListedDesktop, 500)},
		&workspace.Error{Class: workspace.NotSent, RetryAfter: time.Minute, Err: workspace.ErrLimited}
}

func TestAListThatTheRateLimitNeverLetsThroughEndsTheCommand(t *testing.T) {
	t.Parallel()
	r := functiontest.New(t, 1)
	e := functiontest.Only(t, r.Follow(listdesktops.New(limited{r.API}, r.Engine()), command(r)))
	failed := functiontest.Data[events.CommandFailed](t, e)
	require.Equal(t, []any{events.KindThrottled, 5}, []any{failed.Error.Kind, failed.Attempts})
	require.Contains(t, failed.Error.ErrorMsg, "ended 5 readings of the list, the last after 500 desktops")
}
