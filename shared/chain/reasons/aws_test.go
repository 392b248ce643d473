package reasons

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/store/memstore"
)

// denied is the error of AWS for a missing right.
type denied struct{}

func (denied) Error() string     { return "AccessDeniedException: no" }
func (denied) ErrorCode() string { return "AccessDeniedException" }

// limited is a table of which a policy allows some keys, as dynamodb:LeadingKeys with StringLike does.
type limited struct {
	store.Store
	keys []string
}

func (l limited) Get(ctx context.Context, key string) ([]byte, store.Revision, error) {
	for _, pattern := range l.keys {
		if ok := regexp.MustCompile("^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$").MatchString(key); ok {
			return l.Store.Get(ctx, key)
		}
	}
	return nil, 0, denied{}
}

// documented are the keys that docs/aws.md lets the users of send --wait read.
func documented(t *testing.T) (keys []string) {
	t.Helper()
	text, err := os.ReadFile("../../../docs/aws.md")
	require.NoError(t, err)
	row := regexp.MustCompile("`dynamodb:GetItem`, to show why nothing moves;.*\\|.*LeadingKeys`(.*)\\|").FindSubmatch(text)
	require.NotNil(t, row)
	for _, key := range regexp.MustCompile("`([^`]+)`").FindAllSubmatch(row[1], -1) {
		keys = append(keys, string(key[1]))
	}
	return keys
}

// A right that is missing is reported as such, and never as a reason why writes wait. The rights of the docs suffice.
func TestRightsToReadReasonsOnAWS(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	for name, lists := range map[string]bool{"without lists": false, "with lists": true} {
		values := memstore.New()
		if lists {
			o := &safety.Operators{Store: values, Older: true}
			_, err := o.SetList(ctx, safety.AllowList, []string{"d1", "d2"}, "ada@host")
			require.NoError(t, err)
		}
		why := func(keys ...string) []string {
			return (&AWS{Values: limited{values, keys}, Table: "t"}).Why(ctx, Work{Write: true})
		}
		require.Empty(t, why(documented(t)...), name)
		some := why("freeze", "breaker", "epoch")
		require.Len(t, some, 1, name)
		require.Contains(t, some[0], "whether a list of desktops holds writes back is not known (it needs the right dynamodb:GetItem on table t)", name)

		_, err := values.Put(ctx, safety.KeyKey, []byte(`{"reason":"401","at":"2026-01-15T12:00:00Z"}`), 0)
		require.NoError(t, err)
		require.Contains(t, strings.Join(why("freeze", "breaker"), "\n"), "the service refuses the credentials since", "%s: what can be read is shown", name)
	}
}
