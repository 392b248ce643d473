// Package emulator is an HTTP server that behaves like the Workspace API of
// Huawei Cloud, as far as recompose uses it: four calls on desktops, the
// lists of sub-jobs and images, single jobs, and the token call of IAM.
//
// A [Server] is an [http.Handler]. It checks signatures and tokens, enforces
// the limits of the API definitions, runs rebuild and image jobs as time
// passes, keeps a journal of requests, and gives the faults it was told to
// give. With [Options.DataDir] everything survives a kill of the process.
//
// Nothing runs in the background: each request first moves the world on to
// the time of [Options.Now]. A test with a clock of its own never waits.
//
// The package has wire types of its own and shares none with the client, so
// that a wrong field name on either side shows. Where the documentation of
// the service leaves something open, docs/emulator.md says what was chosen.
package emulator
