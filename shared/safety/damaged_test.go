package safety_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// damaged are texts that are not an item of the operators. A member that this version does not know could stop writes.
var damaged = map[string]string{
	"cut":                            `{"reason":"storm","by":"ada@host","at":"2026-01-15T`,
	"no content":                     `{}`,
	"null":                           `null`,
	"an array":                       `[]`,
	"a text":                         `"storm"`,
	"no JSON":                        "\x00",
	"empty":                          ``,
	"a member of another kind":       `{"reason":1,"at":"2026-01-15T08:30:00Z"}`,
	"a malformed time":               `{"reason":"storm","at":"yesterday"}`,
	"a freeze without a time":        `{"reason":"storm","by":"ada@host"}`,
	"an unknown member":              `{"reason":"storm","at":"2026-01-15T08:30:00Z","until":"2027-01-15T08:30:00Z"}`,
	"an unknown member alone":        `{"paused":true}`,
	"an unknown list":                `{"lists":{"other":{}}}`,
	"an unknown member of one":       `{"lists":{"deny":{"generation":"G","digest":"d","form":2}}}`,
	"an unknown member of a service": `{"service":{"kind":"real","host":"h","project":"p","region":"r"}}`,
	"lists of another kind":          `{"lists":[]}`,
	"trailing data":                  `{"at":"2026-01-15T08:30:00Z"} {}`,
	"trailing text":                  `{"lists":{}}x`,
	"an answer of the server":        `{"type":"io.nats.jetstream.api.v1.stream_info_response"}`,
	"a record of the ledger":         `{"digest":"d","fence":1,"owner":"w1"}`,
	"the record of a service":        `{"kind":"real","host":"h","project":"p","by":"w1","at":"2026-01-15T08:30:00Z"}`,
	"the header of a list alone":     `{"generation":"G","digest":"d","by":"ada@host","at":"2026-01-15T08:30:00Z"}`,
}

// TestADamagedItemStopsWritesUntilBothListsAreSet also freezes and thaws in the meantime: both must work with any
// content.
func TestADamagedItemStopsWritesUntilBothListsAreSet(t *testing.T) {
	t.Parallel()
	for name, text := range damaged {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := memstore.New()
			mendsDamage(t, s, func() { overwrite(t, s, safety.OperatorsKey, text) })
		})
	}
	t.Run("foreign", func(t *testing.T) {
		t.Parallel()
		onEach(t, func(t *testing.T, s store.Store, foreign func(string)) {
			mendsDamage(t, s, func() { foreign(safety.OperatorsKey) })
		})
	})
}

func mendsDamage(t *testing.T, s store.Store, harm func()) {
	t.Helper()
	freeze := safety.Freeze{Reason: "storm", By: "ada@host", At: now}
	for _, older := range []bool{false, true} {
		o := &safety.Operators{Store: s, Older: older}
		set(t, o, safety.AllowList, "a", "d")
		set(t, o, safety.DenyList, "d")
		unreadable := func() {
			t.Helper()
			_, err := o.Frozen(t.Context())
			require.ErrorIs(t, err, store.ErrDamaged, "an unreadable freeze is an error, not an absent one")
			require.NotErrorIs(t, err, store.ErrNotFound)
			requireUnreadable(t, o, "whether writes are frozen")
			_, err = safety.New(safety.Options{Operators: o}).Describe(t.Context())
			require.ErrorIs(t, err, store.ErrDamaged)
			for _, name := range []safety.ListName{safety.AllowList, safety.DenyList} {
				_, _, err = o.ListIDs(t.Context(), name)
				require.ErrorIs(t, err, store.ErrDamaged)
			}
		}
		lost := func(name safety.ListName) {
			t.Helper()
			requireUnreadable(t, o, "the "+string(name)+" list of desktops: ", "set or clear it")
		}
		harm()
		unreadable()
		require.NoError(t, o.SetFreeze(t.Context(), freeze))
		requireFrozen(t, o, &freeze)
		_, err := check(t, o, "a")
		requireStop(t, err, safety.Frozen)
		require.NoError(t, o.Thaw(t.Context()))
		requireFrozen(t, o, nil)
		lost(safety.AllowList)
		c := clearList(t, o, safety.AllowList)
		require.Nil(t, c.Before)
		require.ErrorIs(t, c.Damaged, store.ErrDamaged)
		lost(safety.DenyList)
		set(t, o, safety.DenyList, "a")
		requireRefused(t, o, []string{"a", "b", "d"}, "a")

		harm()
		unreadable()
		require.NoError(t, o.Thaw(t.Context()), "without a freeze that can be read")
		requireFrozen(t, o, nil)
		lost(safety.AllowList)
		c = set(t, o, safety.DenyList, "d")
		require.Nil(t, c.Before)
		require.ErrorIs(t, c.Damaged, store.ErrDamaged)
		lost(safety.AllowList)
		require.NoError(t, o.SetFreeze(t.Context(), freeze))
		set(t, o, safety.AllowList, "a", "d")
		requireFrozen(t, o, &freeze)
		require.NoError(t, o.Thaw(t.Context()))
		requireRefused(t, o, []string{"a", "b", "d"}, "b", "d")

		harm()
		c = set(t, o, safety.AllowList, "a", "b")
		require.ErrorIs(t, c.Damaged, store.ErrDamaged)
		lost(safety.DenyList)
		clearList(t, o, safety.DenyList)
		requireRefused(t, o, []string{"a", "b", "d"}, "d")

		harm()
		require.NoError(t, o.SetService(t.Context(), own))
		requireStop(t, safety.New(safety.Options{Operators: o, Service: other}).Check(t.Context(), nil), safety.OtherService)
		requireStop(t, safety.New(safety.Options{Operators: o, Service: own}).Check(t.Context(), nil), safety.Unreadable)
		set(t, o, safety.AllowList, "a")
		set(t, o, safety.DenyList, "b")
		require.NoError(t, safety.New(safety.Options{Operators: o, Service: own}).Check(t.Context(), []string{"a"}))

		harm() // reset for the next round
		clearList(t, o, safety.AllowList)
		clearList(t, o, safety.DenyList)
		requireRefused(t, o, []string{"a", "d"})
	}
}

func TestAnItemThatIsNotDamaged(t *testing.T) {
	t.Parallel()
	for text, frozen := range map[string]bool{
		`{"reason":"storm","by":"ada@host","at":"2026-01-15T08:30:00Z"}`: true, // of an earlier version
		`{"reason":"","by":"","at":"0001-01-01T00:00:00Z"}`:              true,
		`{"at":"2026-01-15T08:30:00Z","lists":{}}`:                       true,
		`{"lists":{}}`:                         false,
		" {\"lists\" : { } }\n":                false,
		`{"lists":{"allow":null}}`:             false,
		`{"service":{"kind":"","project":""}}`: false,
	} {
		s := memstore.New()
		overwrite(t, s, safety.OperatorsKey, text)
		o := &safety.Operators{Store: s}
		f, err := o.Frozen(t.Context())
		require.NoError(t, err, text)
		require.Equal(t, frozen, f != nil, text)
		_, err = check(t, o, "a")
		if frozen {
			requireStop(t, err, safety.Frozen)
		} else {
			require.NoError(t, err, text)
		}
	}
}
