package functions_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
	"recompose/shared/testkit/functiontest"
)

// counting is a store that counts its round trips, and does something before a put.
type counting struct {
	store.Store
	reads, puts, claims int
	before              func(key string) error
}

func (c *counting) GetAll(ctx context.Context, keys ...string) []store.Value {
	c.reads++
	return c.Store.GetAll(ctx, keys...)
}

func (c *counting) Put(ctx context.Context, key string, value []byte, old store.Revision) (store.Revision, error) {
	c.puts++
	if strings.HasPrefix(key, "rollouts/claims/") {
		c.claims++
	}
	if c.before != nil {
		if err := c.before(key); err != nil {
			return 0, err
		}
	}
	return c.Store.Put(ctx, key, value, old)
}

// A plan of thousands of desktops stores each of the claims once, one round trip each, also if ticks come meanwhile or the
// worker dies. It reads them in three calls.
func TestAPlanClaimsItsDesktopsOnce(t *testing.T) {
	t.Parallel()
	const desktops = 2000
	for name, interrupted := range map[string]func(b *bus, c *counting){
		"undisturbed": func(*bus, *counting) {},
		"what is due comes meanwhile": func(b *bus, c *counting) {
			inside := false
			c.before = func(key string) error {
				if inside || c.claims < rollout.ClaimParts-10 || key != rollout.HeadKey("r") {
					return nil
				}
				inside = true
				b.Clock.Add(3 * time.Minute) // requests are published once more after two
				for _, d := range slices.Clone(b.due) {
					b.store(b.Process(d.f, d.message()), "")
				}
				inside = false
				return nil
			}
		},
		"the store fails": func(_ *bus, c *counting) {
			c.before = func(string) error {
				if c.claims == 100 {
					c.before = nil
					return errors.New("the worker dies")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &counting{Store: memstore.New()}
			b := &bus{Rig: functiontest.NewWith(t, emulator.Options{Desktops: desktops})}
			options := b.Options()
			options.Rollouts = c
			b.fns = functions.New(b.Config, b.API, options)
			image, imageType := b.OtherImage()
			raw, err := json.Marshal(map[string]any{
				"name": "r", "image": map[string]any{"image_id": image, "image_type": imageType},
				"targets": map[string]any{"where": map[string]any{"status": "ACTIVE"}}, "strategy": map[string]any{"max_unavailable": 200, "max_failed": 0},
			})
			require.NoError(t, err)
			interrupted(b, c)
			b.send(events.TypeRolloutStart, "start", events.RolloutCommand{Spec: raw})
			require.Equal(t, map[string]int{"pending": desktops}, b.run(events.TypeRolloutPlanned, 1).Counts)
			t.Log(c.reads, "reads,", c.puts, "puts, of which claims", c.claims)
			require.LessOrEqual(t, c.claims, rollout.ClaimParts+1)
			require.LessOrEqual(t, c.puts, c.claims+50)
			require.LessOrEqual(t, c.reads, 80)
		})
	}
}
