package rollout_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/shared/rollout"
)

var (
	yes, no  = true, false
	newImage = rollout.TargetImage{ID: "new", Type: "private", OSType: "Windows"}
)

// desktop is one that can be planned.
func desktop(id string) rollout.Desktop {
	return rollout.Desktop{
		ID: id, Type: "DEDICATED", Status: "ACTIVE", Login: "REGISTERED", Image: "old", ImageType: "private", OSType: "Windows",
		Root: "root-" + id, Data: "data-" + id, EPID: "0", UserAttached: &yes,
	}
}

func planSpec() rollout.Spec {
	spec := rollout.Defaults()
	spec.Name = "n"
	spec.Image = rollout.Image{ImageID: "new", ImageType: "private"}
	spec.Approval.Within = 0
	return spec
}

func TestADesktopThatIsLeftOutHasItsReason(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		desktop func(*rollout.Desktop)
		in      func(*rollout.PlanInput)
		state   string
		reason  string
	}{
		"nothing": {state: ""},
		"current": {
			desktop: func(d *rollout.Desktop) { d.Image = "new" },
			state:   "skipped", reason: "current: it runs the image already",
		},
		"current, and wanted": {
			desktop: func(d *rollout.Desktop) { d.Image = "new" },
			in:      func(in *rollout.PlanInput) { in.Spec.Options.SkipCurrent = &no },
		},
		"pooled": {
			desktop: func(d *rollout.Desktop) { d.PoolID = "p-1" },
			state:   "refused", reason: "pooled: it belongs to a pool, which keeps its own image; rebuild the pool with POST /v2/{project_id}/desktop-pools/p-1/rebuild",
		},
		"pooled by type": {
			desktop: func(d *rollout.Desktop) { d.Type = "POOLED" },
			state:   "refused", reason: "pooled: it belongs to a pool, which keeps its own image; rebuild the pool with POST /v2/{project_id}/desktop-pools/{pool_id}/rebuild",
		},
		"protected by id": {
			in:    func(in *rollout.PlanInput) { in.Spec.Targets.Except = &rollout.Except{DesktopIDs: []string{"D-1"}} },
			state: "skipped", reason: "protected: targets.except.desktop_ids has it",
		},
		"protected by tags": {
			desktop: func(d *rollout.Desktop) { d.Tags = map[string]string{"protect": "true", "vip": "", "a": "b"} },
			in: func(in *rollout.PlanInput) {
				in.Spec.Targets.Except = &rollout.Except{Tags: map[string]string{"vip": "", "protect": "true", "a": "c"}}
			},
			state: "skipped", reason: "protected: targets.except.tags has its tag protect=true, vip=",
		},
		"captured": {
			in:    func(in *rollout.PlanInput) { in.Spec.Image = rollout.Image{FromDesktop: "d-1", ExecuteSysprep: &no} },
			state: "skipped", reason: "captured: the image is made from this desktop",
		},
		"not allowed": {
			in:    func(in *rollout.PlanInput) { in.NotAllowed = map[string]bool{"d-1": true} },
			state: "refused", reason: "not allowed: the allow list or the deny list refuses writes to it",
		},
		"unknown": {
			in:    func(in *rollout.PlanInput) { in.Fleet = nil },
			state: "refused", reason: "unknown: the service lists no desktop with this id",
		},
		"other system": {
			desktop: func(d *rollout.Desktop) { d.OSType = "Linux" },
			state:   "refused", reason: "other system: it runs Linux and the image is Windows; options.allow_os_change permits it",
		},
		"other system by the spec": {
			desktop: func(d *rollout.Desktop) { d.OSType = "Linux" },
			in:      func(in *rollout.PlanInput) { in.Image.OSType, in.Spec.Image.OSType = "", "Windows" },
			state:   "refused", reason: "other system: it runs Linux and the image is Windows; options.allow_os_change permits it",
		},
		"other system, permitted": {
			desktop: func(d *rollout.Desktop) { d.OSType = "Linux" },
			in:      func(in *rollout.PlanInput) { in.Spec.Options.AllowOSChange = true },
		},
		"the same system in other letters": {desktop: func(d *rollout.Desktop) { d.OSType = "windows" }},
		"system not known":                 {desktop: func(d *rollout.Desktop) { d.OSType = "" }},
		"by the month, market": {
			desktop: func(d *rollout.Desktop) { d.ChargeMode = "1" },
			in:      func(in *rollout.PlanInput) { in.Image.Type = "market" },
			state:   "refused", reason: "order: it is paid by the year or month, and a market image needs options.order_id",
		},
		"by the month, market, ordered": {
			desktop: func(d *rollout.Desktop) { d.ChargeMode = "1" },
			in:      func(in *rollout.PlanInput) { in.Image.Type, in.Spec.Options.OrderID = "market", "CS1" },
		},
		"by the month, private": {desktop: func(d *rollout.Desktop) { d.ChargeMode = "1" }},
		"busy": {
			desktop: func(d *rollout.Desktop) { d.Task = "rebuilding" },
			state:   "refused", reason: "busy: it has the task rebuilding",
		},
		"in error": {
			desktop: func(d *rollout.Desktop) { d.Status = "ERROR" },
			state:   "refused", reason: "error: its status is ERROR; repair it first",
		},
		"without a status": {
			desktop: func(d *rollout.Desktop) { d.Status = "" },
			state:   "refused", reason: "error: the service shows no status; it is perhaps being deleted",
		},
		"off": {desktop: func(d *rollout.Desktop) { d.Status, d.Login = "SHUTOFF", "UNREGISTER" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := desktop("d-1")
			if c.desktop != nil {
				c.desktop(&d)
			}
			in := rollout.PlanInput{Spec: planSpec(), Image: newImage, IDs: []string{"d-1"}, Fleet: []rollout.Desktop{desktop("d-2"), d}}
			if c.in != nil {
				c.in(&in)
			}
			plan := rollout.MakePlan(in)
			if c.state == "" {
				require.Empty(t, plan.LeftOut)
				require.Equal(t, rollout.Counts{"pending": 1}, plan.Counts)
				return
			}
			require.Equal(t, []rollout.LeftOut{{ID: "d-1", State: c.state, Reason: c.reason}}, plan.LeftOut)
			require.Empty(t, plan.Slots)
			require.Empty(t, plan.Waves)
			require.Equal(t, rollout.Counts{c.state: 1}, plan.Counts)
		})
	}
}

// The service may ignore a filter: each condition is checked on the rows.
func TestASelectorIsCheckedOnEachDesktop(t *testing.T) {
	t.Parallel()
	tagged := func(d *rollout.Desktop) { d.Tags = map[string]string{"ring": "a", "floor": "2"} }
	untagged := func(d *rollout.Desktop) { d.Tags = map[string]string{} }
	for name, c := range map[string]struct {
		where   rollout.Where
		desktop func(*rollout.Desktop)
		want    string // planned, unselected or the condition that cannot be proven
	}{
		"image":              {rollout.Where{ImageID: "old"}, nil, "planned"},
		"another image":      {rollout.Where{ImageID: "older"}, nil, "unselected"},
		"image not known":    {rollout.Where{ImageID: "old"}, func(d *rollout.Desktop) { d.Image = "" }, "image_id"},
		"tags":               {rollout.Where{Tags: map[string]string{"ring": "a"}}, tagged, "planned"},
		"one tag of two":     {rollout.Where{Tags: map[string]string{"ring": "a", "floor": "3"}}, tagged, "unselected"},
		"no tags":            {rollout.Where{Tags: map[string]string{"ring": ""}}, untagged, "unselected"},
		"tags not known":     {rollout.Where{Tags: map[string]string{"ring": "a"}}, nil, "tags"},
		"project":            {rollout.Where{EnterpriseProjectID: "0"}, nil, "planned"},
		"another project":    {rollout.Where{EnterpriseProjectID: "1"}, nil, "unselected"},
		"attached":           {rollout.Where{UserAttached: &yes}, nil, "planned"},
		"not attached":       {rollout.Where{UserAttached: &no}, nil, "unselected"},
		"attached not known": {rollout.Where{UserAttached: &no}, func(d *rollout.Desktop) { d.UserAttached = nil }, "user_attached"},
		"status":             {rollout.Where{Status: "active"}, nil, "planned"},
		"another status":     {rollout.Where{Status: "SHUTOFF"}, nil, "unselected"},
		"another pool":       {rollout.Where{PoolID: "p"}, nil, "unselected"},
	} {
		d := desktop("d-1")
		if c.desktop != nil {
			c.desktop(&d)
		}
		in := rollout.PlanInput{Spec: planSpec(), Image: newImage, Fleet: []rollout.Desktop{d, d}}
		in.Spec.Targets.Where = &c.where
		plan := rollout.MakePlan(in)
		got := "unselected"
		if len(plan.Slots) == 1 {
			got = "planned"
		} else if len(plan.LeftOut) == 1 {
			_, got, _ = strings.Cut(plan.LeftOut[0].Reason, "unproven: the service shows no value for the condition targets.where.")
		}
		require.Equal(t, c.want, got, name)
	}
}

func TestWithoutIDsAndSelectorNothingIsPlanned(t *testing.T) {
	t.Parallel()
	plan := rollout.MakePlan(rollout.PlanInput{Spec: planSpec(), Image: newImage, Fleet: []rollout.Desktop{desktop("d-1")}})
	require.Empty(t, plan.Slots)
	require.Empty(t, plan.LeftOut)
	require.Empty(t, plan.Counts)
}

func TestTheCanaryIsOfLeastImpact(t *testing.T) {
	t.Parallel()
	fleet := make([]rollout.Desktop, 8)
	ids := make([]string, len(fleet))
	for i := range fleet {
		ids[i] = fmt.Sprintf("d-%d", i)
		fleet[i] = desktop(ids[i])
		fleet[i].Login = "CONNECTED"
	}
	fleet[7].UserAttached, fleet[7].Login = &no, "UNREGISTER"
	fleet[5].UserAttached, fleet[5].Login = &no, "REGISTERED"
	fleet[6].Login = "REGISTERED"
	fleet[4].Login, fleet[4].Status = "UNREGISTER", "SHUTOFF"
	fleet[2].UserAttached = &no // and yet somebody is connected
	plan := rollout.MakePlan(rollout.PlanInput{Spec: planSpec(), Image: newImage, IDs: ids, Fleet: fleet})
	require.Equal(t, []rollout.Pick{
		{"d-5", "no user is attached"},
		{"d-7", "no user is attached"},
		{"d-6", "a user is attached, and none is connected"},
		{"d-4", "a user is attached; the desktop is off or not registered"},
		{"d-0", "somebody may be working on it, and no other desktop is left"},
	}, plan.Canary)
	var order []string
	for _, s := range plan.Slots {
		order = append(order, s.ID)
	}
	require.Equal(t, []string{"d-5", "d-7", "d-6", "d-4", "d-0", "d-1", "d-2", "d-3"}, order)
}

func TestWavesAreCumulative(t *testing.T) {
	t.Parallel()
	type wave struct {
		kind     string
		from, to int
	}
	for _, c := range []struct {
		planned, canary int
		shares          []string
		want            []wave
	}{
		{300, 5, []string{"10%", "50%", "100%"}, []wave{{"canary", 0, 5}, {"wave", 5, 30}, {"wave", 30, 150}, {"wave", 150, 300}}},
		{31, 5, []string{"10%", "50%", "100%"}, []wave{{"canary", 0, 5}, {"wave", 5, 16}, {"wave", 16, 31}}}, // the 10% are in the canary
		{3, 5, []string{"100%"}, []wave{{"canary", 0, 3}}},
		{7, 0, []string{"33.33%", "66.67%", "100%"}, []wave{{"wave", 0, 3}, {"wave", 3, 5}, {"wave", 5, 7}}},
		{0, 5, []string{"100%"}, nil},
	} {
		in := rollout.PlanInput{Spec: planSpec(), Image: newImage}
		in.Spec.Strategy.Canary, in.Spec.Strategy.Waves = c.canary, c.shares
		for i := range c.planned {
			in.IDs = append(in.IDs, fmt.Sprintf("d-%03d", i))
			in.Fleet = append(in.Fleet, desktop(in.IDs[i]))
		}
		var got []wave
		for _, w := range rollout.MakePlan(in).Waves {
			got = append(got, wave{w.Kind, w.From, w.To})
		}
		require.Equal(t, c.want, got)
	}
}

func TestABaselineShowsWhetherThereIsAWayBack(t *testing.T) {
	t.Parallel()
	images := []string{"here", "gone", "", "gone"}
	types := []string{"gold", "private", "private", "market"}
	in := rollout.PlanInput{Spec: planSpec(), Image: newImage, Images: map[string]bool{"here": true}}
	in.Spec.Strategy.Canary = 0
	for i := range images {
		d := desktop(fmt.Sprintf("d-%d", i))
		d.Image, d.ImageType = images[i], types[i]
		in.Fleet, in.IDs = append(in.Fleet, d), append(in.IDs, d.ID)
	}
	plan := rollout.MakePlan(in)
	require.Equal(t, rollout.Slot{
		ID: "d-1", Image: "gone", ImageType: "private", ImageGone: true, Status: "ACTIVE", Root: "root-d-1", Data: "data-d-1",
	}, plan.Slots[1])
	require.False(t, plan.Slots[0].ImageGone)
	require.False(t, plan.Slots[3].ImageGone, "market images are not listed")
	require.Equal(t, []int{1, 2}, []int{plan.NoWayBack, plan.NotKnown})

	in.Images = nil
	plan = rollout.MakePlan(in)
	require.Equal(t, []int{0, 4}, []int{plan.NoWayBack, plan.NotKnown})
}

func drawInput(t *rapid.T) rollout.PlanInput {
	words := func(name string, of ...string) string { return rapid.SampledFrom(of).Draw(t, name) }
	in := rollout.PlanInput{Spec: planSpec(), Image: newImage}
	in.Spec.Strategy.Canary = rapid.IntRange(0, 10).Draw(t, "canary")
	in.NotAllowed = map[string]bool{}
	for i := range rapid.IntRange(0, 60).Draw(t, "fleet") {
		d := desktop(fmt.Sprintf("d-%03d", i))
		d.Login = words("login", "REGISTERED", "UNREGISTER", "CONNECTED", "DISCONNECTED", "", "NEW")
		d.Status = words("status", "ACTIVE", "ACTIVE", "ACTIVE", "SHUTOFF", "ERROR", "")
		d.Image = words("image", "old", "older", "new", "")
		d.OSType = words("os", "Windows", "Windows", "Linux", "")
		d.UserAttached = rapid.SampledFrom([]*bool{nil, &yes, &no}).Draw(t, "attached")
		d.Tags = map[string]string{"ring": words("ring", "a", "b")}
		if rapid.IntRange(0, 9).Draw(t, "denied") == 0 {
			in.NotAllowed[d.ID] = true
		}
		in.Fleet = append(in.Fleet, d)
		if rapid.Bool().Draw(t, "listed") {
			in.IDs = append(in.IDs, d.ID)
		}
	}
	if rapid.Bool().Draw(t, "where") {
		in.IDs, in.Spec.Targets.Where = nil, &rollout.Where{Tags: map[string]string{"ring": "a"}}
	} else if rapid.Bool().Draw(t, "unknown") {
		in.IDs = append(in.IDs, "x-1", "x-2")
	}
	return in
}

func TestAPlanHasEachTargetOnceAndDoesNotDependOnOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := drawInput(t)
		plan := rollout.MakePlan(in)
		var got []string
		for _, s := range plan.Slots {
			got = append(got, s.ID)
		}
		for _, out := range plan.LeftOut {
			got = append(got, out.ID)
			require.NotEmpty(t, out.Reason)
			require.Contains(t, []string{"skipped", "refused"}, out.State)
		}
		want := slices.Clone(in.IDs)
		if in.Spec.Targets.Where != nil {
			for _, d := range in.Fleet {
				if d.Tags["ring"] == "a" {
					want = append(want, d.ID)
				}
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		require.Equal(t, want, got)

		end := 0
		for _, w := range plan.Waves {
			require.Equal(t, end, w.From)
			require.Greater(t, w.To, w.From)
			end = w.To
		}
		require.Equal(t, len(plan.Slots), end)

		in.Fleet, in.IDs = rapid.Permutation(in.Fleet).Draw(t, "fleet in another order"), rapid.Permutation(in.IDs).Draw(t, "ids in another order")
		require.Equal(t, plan, rollout.MakePlan(in))
	})
}

func TestTheDigestOfAPlanIsStable(t *testing.T) {
	t.Parallel()
	input := func() rollout.PlanInput {
		in := rollout.PlanInput{Spec: planSpec(), Image: newImage, IDs: []string{"d-1", "d-2", "d-3"}, Images: map[string]bool{"old": true}}
		in.Spec.Users.Message = "<b>Save</b>"
		in.Spec.Strategy.Canary = 1
		in.Fleet = []rollout.Desktop{desktop("d-1"), desktop("d-2")}
		return in
	}
	lines, err := os.ReadFile("testdata/plan.jsonl")
	require.NoError(t, err)
	const vector = "229662a213764f8052f7568da3cbefc7c7c57b21a9e051801535cd66300cb9dd"
	require.Equal(t, vector, fmt.Sprintf("%x", sha256.Sum256(lines)))
	require.Equal(t, vector, rollout.MakePlan(input()).Digest)
	for name, change := range map[string]func(*rollout.PlanInput){
		"spec": func(in *rollout.PlanInput) { in.Spec.Strategy.MaxUnavailable++ },
		"window": func(in *rollout.PlanInput) {
			in.Spec.Window = &rollout.Window{From: "20:00", To: "22:00", Timezone: "UTC"}
		},
		"image":       func(in *rollout.PlanInput) { in.Image.ID = "newer" },
		"wave":        func(in *rollout.PlanInput) { in.Spec.Strategy.Waves = []string{"100%"} },
		"refusal":     func(in *rollout.PlanInput) { in.NotAllowed = map[string]bool{"d-2": true} },
		"reason":      func(in *rollout.PlanInput) { in.Spec.Targets.Except = &rollout.Except{DesktopIDs: []string{"d-2"}} },
		"baseline":    func(in *rollout.PlanInput) { in.Fleet[0].Image = "older" },
		"way back":    func(in *rollout.PlanInput) { in.Images = map[string]bool{} },
		"root volume": func(in *rollout.PlanInput) { in.Fleet[0].Root = "r" },
		"data":        func(in *rollout.PlanInput) { in.Fleet[0].Data = "d" },
		"canary":      func(in *rollout.PlanInput) { in.Fleet[0].Login = "CONNECTED" },
	} {
		in := input()
		change(&in)
		require.NotEqual(t, vector, rollout.MakePlan(in).Digest, name)
	}
	in := input()
	in.Fleet[0].Name = "a name is no part of a plan"
	require.Equal(t, vector, rollout.MakePlan(in).Digest)
}

func BenchmarkPlanOf100000(b *testing.B) {
	in := rollout.PlanInput{Spec: planSpec(), Image: newImage, Images: map[string]bool{"old": true}}
	in.Spec.Targets.Where = &rollout.Where{ImageID: "old"}
	in.Spec.Targets.Except = &rollout.Except{Tags: map[string]string{"protect": "true"}}
	for i := range 100_000 {
		d := desktop(fmt.Sprintf("d-%06d", i))
		d.Tags = map[string]string{"ring": "a"}
		in.Fleet = append(in.Fleet, d)
		if i < 5000 {
			in.Spec.Targets.Except.DesktopIDs = append(in.Spec.Targets.Except.DesktopIDs, d.ID)
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(len(in.Fleet), func(i, j int) { in.Fleet[i], in.Fleet[j] = in.Fleet[j], in.Fleet[i] })
	for b.Loop() {
		rollout.MakePlan(in)
	}
}

// A list from the ledger has no tags. Then a tag could protect a desktop, and none is taken for unprotected.
func TestUnknownTagsProtect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		tags map[string]string
		want string
	}{"not known": {nil, rollout.Refused}, "none": {map[string]string{}, ""}, "protected": {map[string]string{"protect": "true"}, rollout.Skipped}} {
		spec := rollout.Defaults()
		spec.Targets = rollout.Targets{Where: &rollout.Where{Status: "ACTIVE"}, Except: &rollout.Except{Tags: map[string]string{"protect": "true"}}}
		d := rollout.Desktop{ID: "d-1", Status: "ACTIVE", Login: "REGISTERED", Image: "old", Tags: c.tags}
		plan := rollout.MakePlan(rollout.PlanInput{Spec: spec, Image: rollout.TargetImage{ID: "new"}, Fleet: []rollout.Desktop{d}})
		state := ""
		if len(plan.LeftOut) > 0 {
			state = plan.LeftOut[0].State
		}
		require.Equal(t, c.want, state, name)
	}
}
