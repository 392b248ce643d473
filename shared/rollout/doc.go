// Package rollout decides how one image comes to a fleet: a plan, a canary, waves of batches, a halt, and a way back for
// each desktop. Its decisions are pure functions of stored records, an event and the time: it makes no call, reads no
// clock and keeps no state. Package functions/rollout stores its records and publishes its messages.
package rollout
