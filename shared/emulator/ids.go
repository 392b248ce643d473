package emulator

import (
	"crypto/rand"
	"encoding/hex"
)

// randomHex returns 32 random hex digits.
func randomHex() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails, by its documentation
	return hex.EncodeToString(b[:])
}

// randomID returns a random id in the form of a UUID.
func randomID() string {
	h := randomHex()
	return h[:8] + "-" + h[8:12] + "-4" + h[13:16] + "-8" + h[17:20] + "-" + h[20:]
}
