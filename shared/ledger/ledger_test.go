package ledger_test

import (
	"testing"

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
