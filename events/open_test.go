package events_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"recompose/events"
)

// TestMain raises the number of random chains; -rapid.checks on the command line overrides it.
func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "20000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

// chain makes one whole chain, event by event in causal order. Its events are drawn at random, without the use of Open.
type chain struct {
	t         *rapid.T
	published []events.Envelope
}

// someRebuild is the data of every root, for every kind of answer.
var someRebuild = events.Rebuild{DesktopIDs: []string{"part-0", "part-1", "part-2", "part-3"}, ImageType: "gold", ImageID: "i"}

func (c *chain) desktops(most int) []string {
	ids := make([]string, rapid.IntRange(1, most).Draw(c.t, "desktops"))
	for i := range ids {
		ids[i] = fmt.Sprintf("d-%d", i)
	}
	return ids
}

func (c *chain) chance(label string) bool { return rapid.Bool().Draw(c.t, label) }

func (c *chain) publish(cause events.Envelope, function, typ string, data any) events.Envelope {
	e := answering(cause, function, typ, typ, morning.Add(time.Duration(len(c.published))*time.Second), data)
	c.published = append(c.published, e)
	return e
}

func (c *chain) fail(cause events.Envelope, function string) {
	c.publish(cause, function, events.TypeCommandFailed, events.CommandFailed{Command: ref(cause), Effect: events.EffectUnknown})
}

// read ends a command that one event answers.
func (c *chain) read(cmd events.Envelope, function, typ string, data any) {
	if c.chance("read fails") {
		c.fail(cmd, function)
		return
	}
	c.publish(cmd, function, typ, data)
}

func (c *chain) image(cmd events.Envelope) {
	if c.chance("refused") {
		c.fail(cmd, events.FnDesktopToImage)
		return
	}
	var then *events.Then
	if c.chance("then") {
		then = &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: c.desktops(3)}}
	}
	accepted := c.publish(cmd, events.FnDesktopToImage, events.TypeJobAccepted, events.JobAccepted{
		Function: events.FnDesktopToImage, Command: ref(cmd), JobID: "job", Then: then,
	})
	if rapid.IntRange(0, 5).Draw(c.t, "watching fails") == 0 {
		c.fail(accepted, events.FnWatchJob)
		return
	}
	end := events.JobCompleted{Function: events.FnDesktopToImage, Command: ref(cmd), JobID: "job", Then: then}
	end.Outcome = rapid.SampledFrom([]string{events.Succeeded, events.Succeeded, events.Failed, events.TimedOut, events.Lost}).Draw(c.t, "image")
	if end.Outcome == events.Succeeded {
		end.Image = &events.Image{ImageID: newImage, ImageType: "private"}
	}
	completed := c.publish(accepted, events.FnWatchJob, events.TypeJobCompleted, end)
	if end.Outcome == events.Succeeded && then != nil {
		c.rebuild(implied(completed, events.FnRebuild, then.Rebuild.WithImage(newImage, "private")), true)
	}
}

func (c *chain) rebuild(cmd events.Envelope, whole bool) {
	way := rapid.IntRange(0, 5).Draw(c.t, "rebuild")
	switch {
	case way == 0:
		c.fail(cmd, events.FnRebuild)
	case way == 1:
		c.publish(cmd, events.FnRebuild, events.TypeJobCompleted, c.rebuilt(cmd, "", func() string { return events.Skipped }))
	case way == 2 && whole:
		parts := make([]events.Part, rapid.IntRange(2, 4).Draw(c.t, "parts"))
		for i := range parts {
			parts[i] = part(cmd, i, fmt.Sprint("part-", i))
		}
		c.publish(cmd, events.FnRebuild, events.TypeCommandSplit, events.CommandSplit{Command: ref(cmd), Parts: parts})
		whole, err := events.DecodeRebuild(cmd.Data)
		if err != nil {
			c.t.Fatal(err)
		}
		for _, p := range parts {
			e := events.Envelope{ID: p.ID, Source: events.Source(events.FnRebuild), Type: events.TypeRebuild, Correlation: cmd.Correlation}
			e.Data = mustJSON(whole.Only(p.DesktopIDs))
			c.rebuild(e, false)
		}
	default:
		accepted := c.publish(cmd, events.FnRebuild, events.TypeJobAccepted, events.JobAccepted{
			Function: events.FnRebuild, Command: ref(cmd), JobID: "job", DesktopIDs: c.desktops(3),
		})
		if rapid.IntRange(0, 5).Draw(c.t, "watching fails") == 0 {
			c.fail(accepted, events.FnWatchJob)
			return
		}
		ends := []string{events.Succeeded, events.Failed, events.Missing, events.Skipped, events.TimedOut}
		end := c.rebuilt(cmd, "job", func() string { return rapid.SampledFrom(ends).Draw(c.t, "end") })
		completed := c.publish(accepted, events.FnWatchJob, events.TypeJobCompleted, end)
		checked := slices.ContainsFunc(end.Desktops, func(d events.DesktopResult) bool { return d.Outcome == events.Succeeded })
		if checked {
			check := implied(completed, events.FnCheckImages, events.CheckImages{DesktopIDs: end.Rebuilt()})
			c.read(check, events.FnCheckImages, events.TypeImagesChecked, events.ImagesChecked{Command: ref(check)})
		}
	}
}

func (c *chain) rebuilt(cmd events.Envelope, job string, end func() string) events.JobCompleted {
	done := events.JobCompleted{Function: events.FnRebuild, Command: ref(cmd), JobID: job, Outcome: "any"}
	for _, id := range c.desktops(3) {
		done.Desktops = append(done.Desktops, events.DesktopResult{DesktopID: id, Outcome: end()})
	}
	return done
}

// readCommands are the commands that only read.
func readCommands() []events.Command {
	return slices.DeleteFunc(slices.Clone(events.Commands), func(c events.Command) bool { return !c.Reads() })
}

func drawChain(t *rapid.T, root events.Envelope) []events.Envelope {
	c := &chain{t: t}
	if rapid.Bool().Draw(t, "reads") {
		read := rapid.SampledFrom(readCommands()).Draw(t, "root")
		c.read(root, read.Function, read.Answer, map[string]any{"command": ref(root), "last": true})
	} else if rapid.IntRange(0, 2).Draw(t, "root") > 0 {
		c.image(root)
	} else {
		c.rebuild(root, true)
	}
	return c.published
}

// disturbed mixes events with foreign ones and duplicates, in another order. The randomness is drawn as one seed: where
// a check fails, shrinking the disturbance would not help to understand it.
func disturbed(published, foreign []events.Envelope, seed uint64) []events.Envelope {
	r := rand.New(rand.NewPCG(seed, 1))
	all := slices.Concat(published, foreign)
	for range r.IntN(4) {
		if len(published) > 0 {
			all = append(all, published[r.IntN(len(published))])
		}
	}
	r.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

func TestOpenDecidesEveryChain(t *testing.T) {
	t.Parallel()
	_, foreign := goldenChain()
	other := slices.Collect(func(yield func(events.Envelope) bool) {
		for _, e := range foreign {
			if !yield(e) {
				return
			}
		}
	})
	other = append(other, events.Envelope{}, events.Envelope{ID: "x", Source: "y", Type: "com.example.thing", Data: json.RawMessage(`"no"`)})
	rapid.Check(t, func(t *rapid.T) {
		cmd := command(events.FnRebuild, "root", someRebuild)
		root := events.Root{ID: cmd.ID}
		foreign := slices.Clone(other)
		if rapid.Bool().Draw(t, "with the digest") {
			root.Source, root.Digest = cmd.Source, cmd.Digest()
			foreign = append(foreign, reuses(cmd)...)
		}
		published := drawChain(t, cmd)
		seed := rapid.Uint64().Draw(t, "seed")
		foreign = foreign[seed%uint64(len(foreign)+1):]

		// The whole chain has ended, in any order and among foreign events.
		if open := events.Open(root, disturbed(published, foreign, seed)); len(open) > 0 {
			t.Fatalf("open at its end: %v", open)
		}
		// No proper prefix of it has ended, and its result does not depend on the order.
		for n := range published {
			open := events.Open(root, published[:n])
			if len(open) == 0 {
				t.Fatalf("ended after %d of %d events", n, len(published))
			}
			if reordered := events.Open(root, disturbed(published[:n], foreign, seed)); !slices.Equal(open, reordered) {
				t.Fatalf("%v in order, %v disturbed", open, reordered)
			}
			// The next event closes the command or job that it answers; all others stay open.
			after := events.Open(root, published[:n+1])
			cause := published[n].Causation
			for _, p := range open {
				if p.ID != cause && !slices.Contains(after, p) {
					t.Fatalf("event %d closed %v, which it does not answer", n, p)
				}
			}
			isOpen := func(p events.Pending) bool { return p.ID == cause }
			if !slices.ContainsFunc(open, isOpen) || slices.ContainsFunc(after, isOpen) {
				t.Fatalf("event %d answers %s: %v before, %v after", n, cause, open, after)
			}
		}
		// Notices change nothing, even where their sender gives them a causation.
		for n := range len(published) + 1 {
			noisy := slices.Clone(published[:n])
			for i, about := range append([]string{"", cmd.ID}, answered(published)...) {
				typ := []string{events.TypeJobProgress, events.TypeCommandUnclear, "recompose.event.job.progress.v2"}[i%3]
				noisy = append(noisy, events.Envelope{ID: fmt.Sprint("notice-", i), Source: "s", Type: typ, Causation: about, Data: json.RawMessage(`{}`)})
			}
			if open := events.Open(root, disturbed(noisy, foreign, seed)); !slices.Equal(open, events.Open(root, published[:n])) {
				t.Fatalf("%v with notices after %d events", open, n)
			}
		}
		// Chain returns all events of the chain and no others.
		if in := events.Chain(root, slices.Concat(foreign, published)); root.Digest != "" && !sameEvents(in, published) {
			t.Fatalf("%v belong to the chain, and not %v", in, published)
		}
		// A chain without one of its events has not ended.
		if lacking := slices.Delete(slices.Clone(published), int(seed%uint64(len(published))), int(seed%uint64(len(published)))+1); len(events.Open(root, lacking)) == 0 {
			t.Fatalf("ended without event %d", seed%uint64(len(published)))
		}
	})
}

// answered are the ids that events answer.
func answered(published []events.Envelope) []string {
	ids := make([]string, len(published))
	for i, e := range published {
		ids[i] = e.Causation
	}
	return ids
}

// reuses are answers to other commands under the id of this one: with other data, and from another source.
func reuses(cmd events.Envelope) []events.Envelope {
	other, elsewhere := cmd, cmd
	other.Data = mustJSON(someRebuild.Only([]string{"another"}))
	elsewhere.Source = "elsewhere"
	reused := events.CommandFailed{Command: ref(other), Error: events.Failure{Kind: events.KindIDReused}}
	return []events.Envelope{
		answering(other, events.FnRebuild, events.TypeJobAccepted, "a", morning, events.JobAccepted{Command: ref(other), JobID: "j"}),
		answering(other, events.FnRebuild, events.TypeCommandFailed, "b", morning, reused),
		answering(elsewhere, events.FnRebuild, events.TypeJobCompleted, "c", morning, events.JobCompleted{Command: ref(elsewhere)}),
		answering(cmd, events.FnRebuild, events.TypeJobCompleted, "d", morning, events.JobCompleted{Command: events.CommandRef{ID: cmd.ID}}),
		answering(cmd, events.FnGetDesktop, events.TypeDesktopDescribed, "e", morning, map[string]any{}),
	}
}

func sameEvents(a, b []events.Envelope) bool {
	return slices.EqualFunc(a, b, func(x, y events.Envelope) bool { return x.Identity() == y.Identity() })
}

func TestOpenNamesWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	root, published := goldenChain()
	describe := func(names ...string) (texts []string) {
		var have []events.Envelope
		for _, n := range names {
			have = append(have, published[n])
		}
		for _, p := range events.Open(events.Root{ID: root.ID}, have) {
			texts = append(texts, p.String())
		}
		return texts
	}
	require.Equal(t, []string{"command golden-office-2026-02"}, describe())
	require.Equal(t, []string{"job ff8080828c1b4f9a018c1d2e3f4a0001 of desktoptoimage"}, describe("job.accepted.v1"))
	made := published["job.completed.v1"]
	require.Equal(t, []string{"rebuild command " + events.ReactionID(made, events.FnRebuild)}, describe("job.accepted.v1", "job.completed.v1"))
	require.Equal(t, []string{"command golden-office-2026-02"}, describe("job.completed.v1", "images.checked.v1.rebuild"), "the middle before its beginning")
}

func TestOpenWithInvalidEvents(t *testing.T) {
	t.Parallel()
	cmd := command(events.FnRebuild, "root", nil)
	root := events.Root{ID: cmd.ID}
	open := func(es ...events.Envelope) []events.Pending { return events.Open(root, es) }
	answer := func(typ, data string) events.Envelope {
		return events.Envelope{ID: "e", Source: "s", Type: typ, Causation: cmd.ID, Data: json.RawMessage(data)}
	}
	require.Equal(t, []events.Pending{{ID: "root"}}, open())
	require.Equal(t, []events.Pending{{ID: "e"}}, open(answer(events.TypeJobAccepted, `no`)), "what cannot be read is an accepted job nevertheless")
	require.Empty(t, open(answer(events.TypeJobCompleted, `no`)))
	require.Empty(t, open(answer(events.TypeCommandSplit, `no`)))
	require.Empty(t, open(answer(events.TypeCommandSplit, `{"parts":[]}`)))
	require.Empty(t, open(answer("com.example.other", `{}`)), "any answer is one")

	split := answer(events.TypeCommandSplit, `{"parts":[{"id":"root"},{"id":"p"},{"id":"p"}]}`)
	require.Equal(t, []events.Pending{{ID: "p", Function: "rebuild"}}, open(split), "a circle ends")
	self := events.Envelope{ID: "root", Source: "s", Type: events.TypeJobAccepted, Causation: "root"}
	require.Empty(t, open(self))

	withThen := `"function":"desktoptoimage","image":{"image_id":"i"},"then":{"rebuild":{"desktop_ids":["b"]}}`
	require.Len(t, open(answer(events.TypeJobCompleted, `{"outcome":"succeeded",`+withThen+`}`)), 1)
	require.Empty(t, open(answer(events.TypeJobCompleted, `{"outcome":"partial",`+withThen+`}`)))
	require.Empty(t, open(answer(events.TypeJobCompleted, `{"function":"desktoptoimage","outcome":"succeeded","image":{"image_id":"i"},"then":{}}`)))
	require.Empty(t, open(answer(events.TypeJobCompleted, `{"function":"desktoptoimage","outcome":"succeeded","then":{"rebuild":{"desktop_ids":["b"]}}}`)))
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	e := plain()
	require.Equal(t, events.Identity(sender, "get-1"), e.Identity())
	require.Equal(t, "zadh2gutk5q6er22w5kjakatnsql5hur6cxe46hbewez3r33xfva", events.Identity("a", "b"), "it is stored; it never changes")
	different := map[string]bool{}
	for _, id := range []string{
		events.Identity("ab", "c"), events.Identity("a", "bc"), events.Identity("", "abc"), events.Identity("abc", ""),
		events.Derive("ab", "c"), events.Derive("a", "bc"), events.Derive("a", "b", "c"), events.Derive("abc"), events.Derive("abc", ""),
		events.PartID("a", 0), events.PartID("a", 1), events.PartID("b", 0),
		events.ReactionID(e, events.FnRebuild), events.ReactionID(e, events.FnCheckImages), e.Identity(),
	} {
		require.Regexp(t, `^[a-z2-7]{52}$`, id)
		require.False(t, different[id])
		different[id] = true
	}
}

func TestTypes(t *testing.T) {
	t.Parallel()
	for _, typ := range typeConstants(t) {
		require.NotEqual(t, events.IsCommand(typ), events.IsEvent(typ), typ)
	}
	require.Equal(t, events.TypeRebuild, events.CommandType(events.FnRebuild))
	require.Equal(t, "recompose/rebuild", events.Source(events.FnRebuild))
	for _, typ := range []string{events.TypeJobProgress, events.TypeCommandUnclear, "recompose.event.job.progress.v12"} {
		require.True(t, events.IsNotice(typ), typ)
	}
	for _, typ := range []string{events.TypeJobAccepted, events.TypeCommandFailed, "job.progress.v1", "recompose.event.job.progressed.v1", ""} {
		require.False(t, events.IsNotice(typ), typ)
	}
	require.False(t, events.IsCommand("recompose.commandx") || events.IsEvent("recompose.next.watchjob.v1"))
}
