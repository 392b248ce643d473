package chain

import (
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestAChainIsFoundByTheBeginningOfItsID(t *testing.T) {
	t.Parallel()
	const made = "0b6c1c9e-6f5c-4b7e-9a54-1f2f3c4d5e6f"
	chains := Chains{}
	chains.Add(events.Envelope{Correlation: "c", Type: events.TypeServiceAccepted})
	require.Empty(t, chains, "it answers nothing")
	id, err := chains.Match("nightly")
	require.NoError(t, err)
	require.Equal(t, "nightly", id, "there is none yet")

	chains.Add(events.Envelope{Correlation: "nightly-2", Causation: "a"})
	id, err = chains.Match("nightly")
	require.NoError(t, err)
	require.Equal(t, "nightly-2", id)
	_, err = chains.MatchWhole("nightly")
	require.ErrorContains(t, err, `no chain has the id "nightly". There is "nightly-2"`)
	id, err = chains.MatchWhole("nightly-2")
	require.NoError(t, err)
	require.Equal(t, "nightly-2", id)

	chains.Add(events.Envelope{Correlation: "nightly-3", Causation: "a"})
	_, err = chains.Match("nightly")
	require.ErrorContains(t, err, `"nightly" is not unique: nightly-2, nightly-3`)

	id, err = Chains{made: nil}.MatchWhole("0b6c")
	require.NoError(t, err)
	require.Equal(t, made, id, "an id that recompose made may be shortened")
}
