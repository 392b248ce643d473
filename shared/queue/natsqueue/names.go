package natsqueue

import (
	"fmt"
	"regexp"
	"strings"

	"recompose/events"
	"recompose/shared/queue"
)

// Headers of a dead letter. The headers of the message itself are stored with the prefix HeaderOriginal, so that
// JetStream does not interpret them.
const (
	HeaderDeadID      = "Recompose-Dead-Id"    // names the dead letter; command.failed has the same id
	HeaderFunction    = "Recompose-Function"   // the function that gave up
	HeaderClass       = "Recompose-Class"      // unreadable, permanent, attempts_used_up
	HeaderReason      = "Recompose-Reason"     // readable text
	HeaderAttempts    = "Recompose-Attempts"   // deliveries of this message
	HeaderFirst       = "Recompose-First"      // when the message was stored
	HeaderLast        = "Recompose-Last"       // when it was given up
	HeaderStream      = "Recompose-Stream"     // the stream of the message
	HeaderSequence    = "Recompose-Sequence"   // its sequence number in the stream
	HeaderSubject     = "Recompose-Subject"    // its subject
	HeaderCommandID   = "Recompose-Command-Id" // absent if the envelope could not be read; so are the next three
	HeaderCommandType = "Recompose-Command-Type"
	HeaderSource      = "Recompose-Command-Source"
	HeaderCorrelation = "Recompose-Correlation"
	HeaderCut         = "Recompose-Cut"       // present if the message was too large to be stored completely: what is missing
	HeaderOriginal    = "Recompose-Original-" // prefix of each header of the message
)

const (
	headerMsgID          = "Nats-Msg-Id"
	headerSchedule       = "Nats-Schedule"
	headerScheduleTarget = "Nats-Schedule-Target"
	headerContentType    = "Content-Type"
)

// names forms the subjects, streams and consumers of one deployment: subjects have the prefix "<deployment>.",
// streams, consumers and buckets "<deployment>_"; there is no prefix if the deployment is "".
type names struct{ deployment string }

var deploymentForm = regexp.MustCompile(`^[a-z0-9-]{0,32}$`)

func newNames(deployment string) (names, error) {
	if !deploymentForm.MatchString(deployment) {
		return names{}, fmt.Errorf("the deployment %q must be at most 32 of a-z, 0-9 and -", deployment)
	}
	return names{deployment}, nil
}

func (n names) subject(s string) string {
	if n.deployment == "" {
		return s
	}
	return n.deployment + "." + s
}

// bare is a subject without its deployment.
func (n names) bare(subject string) string {
	if n.deployment == "" {
		return subject
	}
	return strings.TrimPrefix(subject, n.deployment+".")
}

func (n names) name(s string) string {
	if n.deployment == "" {
		return s
	}
	return n.deployment + "_" + s
}

func (n names) commands() string { return n.name("RECOMPOSE_COMMANDS") }
func (n names) nexts() string    { return n.name("RECOMPOSE_NEXT") }
func (n names) events() string   { return n.name("RECOMPOSE_EVENTS") }
func (n names) dead() string     { return n.name("RECOMPOSE_DEAD") }

func (n names) commandFilter(function string) string {
	return n.subject("recompose.command." + function + ".>")
}
func (n names) nextFilter(function string) string {
	return n.subject("recompose.next." + function + ".>")
}
func (n names) next(function string) string       { return n.subject("recompose.next." + function + ".v1") }
func (n names) timer(id string) string            { return n.subject("recompose.timer." + id) }
func (n names) timers() string                    { return n.subject("recompose.timer.*") }
func (n names) deadLetter(function string) string { return n.subject("recompose.dead." + function) }

// eventFilter matches every version of an event type.
func (n names) eventFilter(typ string) string {
	if i := strings.LastIndexByte(typ, '.'); i > 0 {
		typ = typ[:i]
	}
	return n.subject(typ + ".>")
}

// route is one durable consumer: a function and a stream that it reads.
type route struct {
	fn      queue.Function
	stream  string
	durable string
	filters []string
}

// routes are the consumers of a function.
func (n names) routes(f queue.Function) []route {
	durable := n.name(f.Name)
	var rs []route
	if len(f.Types) > 0 {
		rs = append(rs, route{f, n.commands(), durable, []string{n.commandFilter(f.Name)}})
	}
	rs = append(rs, route{f, n.nexts(), durable, []string{n.nextFilter(f.Name)}})
	if len(f.Reacts) > 0 {
		var filters []string
		for _, t := range f.Reacts {
			filters = append(filters, n.eventFilter(t))
		}
		rs = append(rs, route{f, n.events(), durable, filters})
	}
	return rs
}

// publishable reports whether a type can be a subject.
func publishable(typ string) bool {
	for token := range strings.SplitSeq(typ, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == '*' || r == '>' || r == 0x7f }) {
			return false
		}
	}
	return true
}

// bareType is the type of a command without an envelope, which is its subject at the entrance. On other subjects a
// message without an envelope is not accepted.
func (n names) bareType(subject string) string {
	if typ := n.bare(subject); events.IsCommand(typ) {
		return typ
	}
	return ""
}
