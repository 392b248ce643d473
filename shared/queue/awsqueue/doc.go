// Package awsqueue connects a function behind Lambda and SQS with its queue, and publishes its events to an SNS
// topic.
//
//	queue of the function ──batch──▶ Handler.Handle ──▶ batch item failures
//	                                    ├── events, commands for functions ─▶ the topic, with the attribute type
//	                                    ├── delayed messages ───────────────▶ the function's own queue
//	                                    └── dead letters ───────────────────▶ its dead-letter queue
//
// The topic carries every type. A filter on the attribute type selects the messages of each function's queue. So a
// function has access to the topic and its own queues only.
//
// Delivery is at least once. A message leaves its queue only after everything that it caused is confirmed: it is then
// not listed as failed, and Lambda deletes it. Neither SQS nor SNS drops duplicates; a message that is published
// twice has the same id both times, and every reader of events counts an id once.
//
// # Delays
//
// SQS delays a message by at most 900 seconds, in whole seconds. A longer delay takes several hops: an attribute has
// the time when the message is due, and until then it is sent on without being handled. Only this package makes
// delayed forms; the attributes that number them are valid only together with the body and the seal over both, so
// attributes that a sender sets have no effect.
//
// # Messages that failed
//
// A message that failed is listed as a batch item failure, and is redelivered after a wait that grows with its
// receives. If the wait cannot be set, it is redelivered after the queue's visibility timeout. Beyond
// queue.MaxDeliveries receives it becomes a dead letter. SQS also counts receives after which Lambda could not invoke the
// function: if each receive ended with the visibility timeout, the message is sent anew instead, once. The queue's own
// redrive policy, at twice that number, covers functions that cannot even start.
//
// # Limits
//
// SNS accepts 256 KiB per message with its attributes. A larger event is shortened if its type allows it (the
// image_infos of images.checked), else replaced by a command.failed that names the size. A write whose message is so
// large that job.accepted might not fit is refused before it is begun.
package awsqueue
