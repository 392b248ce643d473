// Package deployment opens what the workers and the clients of one deployment share.
//
// [SetUp] opens the streams and stores on NATS for a worker, as [Parts]. A [Client] sends commands and reads their
// events, and opens the records of the deployment; [NATS] and [AWS] are the two kinds. An
// [Acceptance] records that a person accepts another service or a loss of records.
package deployment
