package awsqueue

import (
	"cmp"
	"encoding/json"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"recompose/events"
	"recompose/shared/queue"
)

// Attributes of a dead letter. There are ten, the most that SQS allows; its body is the body of the message.
const (
	AttrDeadID   = "Recompose-Dead-Id"  // names the dead letter; command.failed has the same id
	AttrFunction = "Recompose-Function" // the function that gave up
	AttrClass    = "Recompose-Class"    // unreadable, permanent, attempts_used_up
	AttrReason   = "Recompose-Reason"   // readable text
	AttrAttempts = "Recompose-Attempts" // receives of this message
	AttrFirst    = "Recompose-First"    // when the message was stored
	AttrLast     = "Recompose-Last"     // when it was given up
	AttrCommand  = "Recompose-Command"  // type, id, source and correlationid as JSON; absent if the envelope could not be read
	AttrOriginal = "Recompose-Original" // the attributes of the message as JSON: name to values
	AttrCut      = "Recompose-Cut"      // present if a part could not be stored: what is missing
)

var deadAttributes = []string{
	AttrDeadID, AttrFunction, AttrClass, AttrReason, AttrAttempts, AttrFirst, AttrLast, AttrCommand, AttrOriginal, AttrCut,
}

// Limits of what is stored of a message that exceeds the size of all valid messages.
const (
	maxReason   = 4 * 1024
	maxOriginal = 24 * 1024
)

// Command names a command in AttrCommand.
type Command struct {
	Type        string `json:"type"`
	ID          string `json:"id"`
	Source      string `json:"source"`
	Correlation string `json:"correlationid,omitempty"`
}

// deadLetter makes the stored form of a message that was given up on.
func (h *Handler) deadLetter(l queue.DeadLetter, r received) message {
	m := message{body: string(l.Delivery.Body), attributes: map[string]string{}}
	set := func(name, value string) {
		if value = attributeText(value, maxReason); value != "" {
			m.attributes[name] = value
		}
	}
	set(AttrDeadID, l.ID)
	set(AttrFunction, l.Function)
	set(AttrClass, l.Class)
	set(AttrReason, l.Reason)
	set(AttrAttempts, strconv.Itoa(l.Attempts))
	set(AttrFirst, r.stored.Format(time.RFC3339Nano))
	set(AttrLast, h.now().UTC().Format(time.RFC3339Nano))
	if e := l.Envelope; e.ID != "" {
		named, _ := json.Marshal(Command{e.Type, e.ID, e.Source, e.Correlation}) // a struct of strings always encodes
		m.attributes[AttrCommand] = attributeText(string(named), maxOriginal)
	}
	var missing []string
	if len(l.Delivery.Headers) > 0 {
		original, left := events.Headers{}, maxOriginal
		for name, values := range l.Delivery.Headers {
			size := len(name)
			for _, v := range values {
				size += len(v)
			}
			if left -= size; left < 0 {
				missing = append(missing, "some attributes")
				break
			}
			original[name] = values
		}
		kept, _ := json.Marshal(original) // strings always encode
		m.attributes[AttrOriginal] = attributeText(string(kept), 8*maxOriginal)
	}
	m.body = cmp.Or(m.body, " ") // SQS refuses an empty body
	if most := maxQueued - 64*1024; len(m.body) > most {
		missing = append(missing, strconv.Itoa(len(m.body)-most)+" bytes at the end of the body")
		m.body = strings.ToValidUTF8(m.body[:most], "")
	}
	if len(missing) > 0 {
		set(AttrCut, strings.Join(missing, " and ")+" could not be kept")
	}
	return m
}

// attributeText makes foreign text fit for an attribute: only characters that SQS accepts, and a limited length.
func attributeText(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r < ' ':
			return ' '
		case r == 0xfffe || r == 0xffff || r == utf8.RuneError:
			return '?'
		}
		return r
	}, s)
	return strings.TrimSpace(events.Shorten(s, most))
}
