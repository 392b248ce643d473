package natsqueue

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"recompose/shared/queue"
)

// Limits of the streams. An operator's own limits of an existing stream are kept unless they would delete
// messages earlier than these.
const (
	EntranceMaxMsgs  = 100_000           // beyond it the entrance refuses
	EntranceMaxBytes = 256 * 1024 * 1024 // beyond it the entrance refuses
	KeepEvents       = 30 * 24 * time.Hour
	KeepDead         = 90 * 24 * time.Hour
	DuplicateWindow  = 2 * time.Minute
)

// streams are the configurations of the four streams for these functions.
func (n names) streams(fns []queue.Function, replicas int) []jetstream.StreamConfig {
	base := jetstream.StreamConfig{
		Storage: jetstream.FileStorage, Replicas: max(replicas, 1), Duplicates: DuplicateWindow,
		MaxMsgs: -1, MaxBytes: -1, MaxMsgSize: -1, MaxMsgsPerSubject: -1, MaxConsumers: -1,
	}
	commands := base
	commands.Name, commands.Description = n.commands(), "recompose: commands that were sent"
	commands.Retention, commands.Discard = jetstream.WorkQueuePolicy, jetstream.DiscardNew
	commands.MaxMsgs, commands.MaxBytes = EntranceMaxMsgs, EntranceMaxBytes

	next := base
	next.Name, next.Description = n.nexts(), "recompose: from functions to functions, and delayed messages"
	next.Retention, next.Discard = jetstream.WorkQueuePolicy, jetstream.DiscardOld
	next.AllowMsgSchedules, next.AllowRollup = true, true // the server requires rollup for schedules
	next.Subjects = []string{n.timers()}

	for _, f := range fns {
		if len(f.Types) > 0 {
			commands.Subjects = append(commands.Subjects, n.commandFilter(f.Name))
		}
		next.Subjects = append(next.Subjects, n.nextFilter(f.Name))
	}

	events := base
	events.Name, events.Description = n.events(), "recompose: events"
	events.Subjects, events.MaxAge = []string{n.subject("recompose.event.>")}, KeepEvents

	dead := base
	dead.Name, dead.Description = n.dead(), "recompose: messages given up on"
	dead.Subjects, dead.MaxAge = []string{n.deadLetter("*")}, KeepDead

	streams := []jetstream.StreamConfig{commands, next, events, dead}
	return slices.DeleteFunc(streams, func(s jetstream.StreamConfig) bool { return len(s.Subjects) == 0 })
}

// changes are differences between the actual and the intended configuration of a stream or consumer.
type changes []string

func (cs changes) String() string { return strings.Join(cs, "; ") }

func (cs *changes) add(field string, actual, should any) {
	*cs = append(*cs, fmt.Sprintf("%s is %v, should be %v", field, actual, should))
}

// amend returns how an existing stream differs from its intended configuration, and the configuration to change it
// to. Settings that an operator may choose are kept (descriptions, placement, longer retention, tighter or wider
// limits of the entrance), and so are subjects of functions that this worker does not know.
func amend(actual, should jetstream.StreamConfig, replicas int) (jetstream.StreamConfig, changes) {
	var cs changes
	to := actual
	for _, s := range should.Subjects {
		if !slices.Contains(actual.Subjects, s) {
			to.Subjects = append(slices.Clone(to.Subjects), s)
			cs = append(cs, fmt.Sprintf("subject %s is missing", s))
		}
	}
	differ(&cs, "retention", &to.Retention, should.Retention)
	differ(&cs, "storage", &to.Storage, should.Storage)
	differ(&cs, "discard", &to.Discard, should.Discard)
	differ(&cs, "allow_msg_schedules", &to.AllowMsgSchedules, should.AllowMsgSchedules)
	differ(&cs, "allow_rollup_hdrs", &to.AllowRollup, should.AllowRollup)
	differ(&cs, "allow_msg_ttl", &to.AllowMsgTTL, should.AllowMsgTTL)
	differ(&cs, "no_ack", &to.NoAck, should.NoAck)
	differ(&cs, "sealed", &to.Sealed, should.Sealed)
	differ(&cs, "deny_delete", &to.DenyDelete, should.DenyDelete)
	differ(&cs, "max_msgs_per_subject", &to.MaxMsgsPerSubject, should.MaxMsgsPerSubject)
	if replicas > 0 {
		differ(&cs, "num_replicas", &to.Replicas, should.Replicas)
	}
	if actual.Duplicates < should.Duplicates {
		differ(&cs, "duplicate_window", &to.Duplicates, should.Duplicates)
	}
	restoreLimits(&cs, &to, should)
	if should.Discard == jetstream.DiscardNew {
		if actual.MaxMsgs <= 0 && actual.MaxBytes <= 0 {
			differ(&cs, "max_msgs", &to.MaxMsgs, should.MaxMsgs)
			differ(&cs, "max_bytes", &to.MaxBytes, should.MaxBytes)
		}
	}
	return to, cs
}

// restoreLimits restores limits with which a stream would lose messages too early.
func restoreLimits(cs *changes, actual *jetstream.StreamConfig, should jetstream.StreamConfig) {
	if actual.MaxAge > 0 && (should.MaxAge == 0 || actual.MaxAge < should.MaxAge) {
		differ(cs, "max_age", &actual.MaxAge, should.MaxAge)
	}
	if should.Discard != jetstream.DiscardNew {
		differ(cs, "max_msgs", &actual.MaxMsgs, should.MaxMsgs)
		differ(cs, "max_bytes", &actual.MaxBytes, should.MaxBytes)
	}
}

func differ[T comparable](cs *changes, field string, actual *T, should T) {
	if *actual != should {
		cs.add(field, *actual, should)
		*actual = should
	}
}

// maxAckPending is how many messages all workers together may hold unacknowledged for one function and stream.
const maxAckPending = 1000

// consumer is the configuration of the durable consumer of a route.
func (q *Queue) consumer(r route) jetstream.ConsumerConfig {
	return jetstream.ConsumerConfig{
		Durable: r.durable, Name: r.durable, Description: "recompose: function " + r.fn.Name, FilterSubjects: r.filters,
		AckPolicy: jetstream.AckExplicitPolicy, DeliverPolicy: jetstream.DeliverAllPolicy, ReplayPolicy: jetstream.ReplayInstantPolicy,
		AckWait: q.o.AckWait, MaxDeliver: -1, MaxAckPending: max(maxAckPending, q.o.Concurrency),
	}
}

// amendConsumer is amend for consumers. The filters must match exactly: messages that no function knows would only
// become dead letters.
func (q *Queue) amendConsumer(actual, should jetstream.ConsumerConfig) (jetstream.ConsumerConfig, changes) {
	var cs changes
	to := actual
	filters := actual.FilterSubjects
	if actual.FilterSubject != "" {
		filters = []string{actual.FilterSubject}
	}
	if !sameSet(filters, should.FilterSubjects) {
		cs.add("filter_subjects", filters, should.FilterSubjects)
		to.FilterSubject, to.FilterSubjects = "", should.FilterSubjects
	}
	differ(&cs, "ack_policy", &to.AckPolicy, should.AckPolicy)
	differ(&cs, "deliver_policy", &to.DeliverPolicy, should.DeliverPolicy)
	differ(&cs, "max_deliver", &to.MaxDeliver, should.MaxDeliver)
	if actual.MaxAckPending >= 0 && actual.MaxAckPending < q.o.Concurrency {
		differ(&cs, "max_ack_pending", &to.MaxAckPending, should.MaxAckPending)
	}
	if !q.o.Verify { // a verifying worker accepts the existing ack_wait
		differ(&cs, "ack_wait", &to.AckWait, should.AckWait)
	}
	if len(actual.BackOff) > 0 {
		cs.add("backoff", actual.BackOff, "none")
		to.BackOff = nil
	}
	return to, cs
}

func sameSet(a, b []string) bool {
	a, b = slices.Clone(a), slices.Clone(b)
	slices.Sort(a)
	slices.Sort(b)
	return slices.Equal(a, b)
}
