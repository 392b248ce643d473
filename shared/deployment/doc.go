// Package deployment opens what the workers and the clients of one deployment share.
//
// [SetUp] opens the streams and stores on NATS for a worker, as [Parts].
package deployment
