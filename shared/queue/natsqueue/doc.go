// Package natsqueue carries messages to functions and back over NATS JetStream.
//
// There are four streams, all in files, made by Setup:
//
//	RECOMPOSE_COMMANDS  recompose.command.<function>.>   the entrance: a work queue that refuses when it is full
//	RECOMPOSE_NEXT      recompose.next.<function>.>      what functions send to functions, and delayed messages;
//	                    recompose.timer.<id>             a work queue with schedules
//	RECOMPOSE_EVENTS    recompose.event.>                the events, kept for 30 days
//	RECOMPOSE_DEAD      recompose.dead.<function>        messages given up on, kept for 90 days
//
// Each function has one durable pull consumer on each stream that it reads, named after the function. The name of the
// deployment is a prefix of every name: "test" makes it test.recompose.command.rebuild.v1 on the stream
// test_RECOMPOSE_COMMANDS, with the consumer test_rebuild.
//
// Delivery is at least once. A message leaves its stream only after everything that it caused has a publish
// acknowledgement. Functions never publish to the entrance, so a full entrance cannot block messages that were
// accepted before.
//
// # Delays
//
// A delayed message is stored on recompose.timer.<id> with the time at which the server moves it to
// recompose.next.<function>.v1. It fires up to 0.25 s late, never early, by the server's clock. A server whose storage
// was full at that time forgets the timer until the server is restarted; every worker therefore looks for late timers
// and moves them itself.
package natsqueue
