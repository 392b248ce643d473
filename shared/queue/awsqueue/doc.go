// Package awsqueue carries messages to a function behind Lambda and SQS, and what it says to an SNS topic.
//
//	queue of the function ──batch──▶ Handler.Handle ──▶ batch item failures
//	                                    ├── events, commands for functions ─▶ the topic, with the attribute type
//	                                    ├── delayed messages ───────────────▶ the function's own queue
//	                                    └── dead letters ───────────────────▶ its dead-letter queue
//
// The topic carries every type; each function's queue takes from it what a filter on the attribute type lets through.
// So a function knows the topic and its own queues and nobody else's.
//
// Delivery is at least once. A message leaves its queue only after everything that it caused is confirmed: it is then
// not listed as failed, and Lambda deletes it. Neither SQS nor SNS drops what is stored twice; what is said again has
// the same id, and every reader of events goes by the id.
//
// # Delays
//
// SQS delays a message by at most 900 seconds, in whole seconds. A longer delay goes in hops: the message says when it
// is due, and until then it is sent on without being handled. A delayed form comes of this package alone; the attributes
// that number it hold only together with the body and the seal over both, so what a sender puts there counts for nothing.
//
// # Messages that failed
//
// A message that failed is listed as a batch item failure, and comes again after a wait that grows with its receives;
// where the wait cannot be set, when the queue's visibility timeout has passed. Beyond queue.MaxDeliveries receives it
// becomes a dead letter. The queue's own redrive policy, at twice that, is a net for functions that cannot even start.
//
// # Limits
//
// SNS takes 256 KiB a message with its attributes. An event that is larger is shortened where events say how (the
// image_infos of images.checked), else said as a command.failed that names the size. A write whose message is so large
// that job.accepted might not fit is refused before it is begun.
package awsqueue
