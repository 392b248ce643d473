package ledger_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/store"
)

func TestEveryRecordCanBeReadBack(t *testing.T) {
	t.Parallel()
	for _, r := range []ledger.Record{{}, {Digest: "d"}, {Fence: 1}, {Digest: "d", Fence: 1, Owner: "w1"}} {
		data, err := ledger.Encode(r)
		require.NoError(t, err)
		got, err := ledger.Decode(data)
		require.NoError(t, err)
		require.Equal(t, r, got)
	}
}

func TestARecordOfALaterVersionCanBeRead(t *testing.T) {
	t.Parallel()
	r, err := ledger.Decode([]byte(`{"digest":"d","fence":2,"job_id":"j1","later":{"a":[1]}}`))
	require.NoError(t, err)
	require.Equal(t, ledger.Record{Digest: "d", Fence: 2, JobID: "j1"}, r)
}

func TestAValueThatIsNotARecordIsDamaged(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		``, `{`, `{}`, `null`, `[]`, `{"digest":"d"}`, `{"fence":1}`, `{"digest":"d","fence":1}x`,
	} {
		r, err := ledger.Decode([]byte(text))
		require.ErrorIs(t, err, store.ErrDamaged, text)
		require.Zero(t, r)
	}
}

// A record with an end is written as encoding/json writes it.
func TestEncodeWritesTheBytesOfEncodingJSON(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`{"a":[1,null]}`, `null`, `{ "a" : 1 }`, `"<null}}>"`, `"null}}"`} {
		r := ledger.Record{
			Digest: "d", Fence: 1, Detail: ledger.Detail{DesktopIDs: []string{"d1"}},
			End: &ledger.End{ID: "<e>", Source: "s", Type: "t", Time: time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC), Data: json.RawMessage(data)},
		}
		want, err := json.Marshal(r)
		require.NoError(t, err)
		got, err := ledger.Encode(r)
		require.NoError(t, err)
		require.Equal(t, string(want), string(got))
		require.Equal(t, data, string(r.End.Data), "the record stays as it is")
	}
}
