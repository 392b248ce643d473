package events

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// Digest is the SHA-256, in hex, of the JSON of a command as the Decode functions return it. White space, the order
// of fields and equivalent spellings do not change it. Ledgers and events keep digests, so a digest must never
// change: a new field of a command has omitempty.
func Digest(data any) string {
	if c, ok := data.(RolloutCommand); ok {
		c.Spec, c.MaxFailed, c.Window = canonical(c.Spec), canonical(c.MaxFailed), canonical(c.Window)
		data = c
	}
	raw, err := json.Marshal(data)
	if err != nil {
		panic(fmt.Sprintf("digest of %T, which is not a command: %v", data, err))
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:])
}

// canonical is JSON that is kept as it was sent, with its fields in order. A number keeps its spelling.
func canonical(sent json.RawMessage) json.RawMessage {
	if len(sent) == 0 {
		return sent
	}
	numbers := json.NewDecoder(bytes.NewReader(sent))
	numbers.UseNumber()
	var value any
	if numbers.Decode(&value) != nil {
		return sent
	}
	sorted, err := json.Marshal(value)
	if err != nil {
		return sent
	}
	return sorted
}

// Digest is the digest of the command in the envelope; "" if its type is not a command type, or its data breaks a
// rule.
func (e Envelope) Digest() string {
	decode, ok := decoders[e.Type]
	if !ok {
		return ""
	}
	data, err := decode(e.Data)
	if err != nil {
		return ""
	}
	return Digest(data)
}

// CheckData checks the data of a command by the rules of its type. The error is an *InvalidError by errors.As.
func CheckData(typ string, data json.RawMessage) error {
	decode, ok := decoders[typ]
	if !ok {
		return fmt.Errorf("%q is not the type of a command", typ)
	}
	_, err := decode(data)
	return err
}

// Answered is the command that an event names; zero if it names none. Events of earlier versions have no digest.
func (e Envelope) Answered() CommandRef {
	var about struct {
		Command CommandRef `json:"command"`
	}
	if !IsEvent(e.Type) || json.Unmarshal(e.Data, &about) != nil {
		return CommandRef{}
	}
	return about.Command
}

// WithDigest returns the data of an event with this digest set in its command, unless the command has a digest
// already. Data that names no command is returned unchanged.
func WithDigest(data json.RawMessage, digest string) json.RawMessage {
	var all, command map[string]json.RawMessage
	if digest == "" || json.Unmarshal(data, &all) != nil {
		return data
	}
	if json.Unmarshal(all["command"], &command) != nil || command == nil {
		return data
	}
	if had := command["digest"]; len(had) > 0 && string(had) != `""` {
		return data
	}
	var err error
	if command["digest"], err = json.Marshal(digest); err != nil {
		return data
	}
	if all["command"], err = json.Marshal(command); err != nil {
		return data
	}
	with, err := json.Marshal(all)
	if err != nil {
		return data
	}
	return with
}

// DesktopIDs returns the desktops that data names in desktop_ids or desktop_id, each id once, even if the data is
// otherwise invalid. It returns nil where a command.failed with these ids would exceed the size of a message.
func DesktopIDs(data json.RawMessage) []string {
	data = bytes.TrimSpace(data)
	if len(data) == 0 || data[0] != '{' || !json.Valid(data) {
		return nil
	}
	var one, several json.RawMessage
	for name, value := range members(data) { // of a name that is there twice the last one counts
		switch name, _ := unquoted(name); name {
		case "desktop_id":
			one = value
		case "desktop_ids":
			several = value
		}
	}
	var ids []string
	size := 0
	seen := map[string]bool{}
	add := func(value json.RawMessage) {
		id, is := unquoted(value)
		if !is || !isID(id, maxShortText) || seen[id] {
			return
		}
		seen[id] = true
		size += len(id) + len(`"",`)
		ids = append(ids, id)
	}
	switch {
	case len(several) > 0 && several[0] == '[':
		for _, value := range members(several) {
			add(value)
		}
	case len(one) > 0:
		add(one)
	}
	if len(ids) > MaxDesktops || size > MaxMessage-16*1024 {
		return nil
	}
	return slices.Clip(ids)
}
