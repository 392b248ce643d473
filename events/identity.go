package events

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"strconv"
)

// token encodes a hash so that it can be part of a subject, a key or a path: lower-case letters and digits only.
var token = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// Identity is base32(SHA-256(source, id)): 52 lower-case letters and digits. CloudEvents makes source and id together
// unique; the identity of a command is its ledger key and the root of every id that is derived from it, so no foreign
// text becomes a key or a part of a subject.
func Identity(source, id string) string {
	return hash("identity", source, id)
}

// Derive returns an id for something that follows from an identity. It depends on the arguments alone and never
// on a delivery: deriving it twice gives the same id twice.
func Derive(identity string, about ...string) string {
	return hash(append([]string{"derived", identity}, about...)...)
}

// PartID is the id of part index (from 0) of the command with this identity.
func PartID(identity string, index int) string {
	return Derive(identity, "part", strconv.Itoa(index))
}

// ReactionID is the id of the command that an event implies for a function: the rebuild after an image, the check of
// the images after a rebuild.
func ReactionID(event Envelope, function string) string {
	return Derive(event.Identity(), "reaction", function)
}

// hash writes each part behind its length, so that ("ab", "c") and ("a", "bc") differ.
func hash(parts ...string) string {
	var room [512]byte
	b := room[:0]
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return token.EncodeToString(sum[:])
}
