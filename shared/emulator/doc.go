// Package emulator is an HTTP server that behaves like the Workspace API of
// Huawei Cloud, as far as recompose uses it: four calls on desktops, the
// lists of sub-jobs and images, single jobs, and the token call of IAM.
//
// A [Server] is an [http.Handler]. It checks signatures and tokens, enforces the limits of the API definitions, runs
// rebuild and image jobs as time passes, keeps a journal of requests, and injects the configured faults. With
// [Options.DataDir] everything survives a kill of the process.
//
// Nothing runs in the background: each request first advances the world to the time of [Options.Now]. A test with its
// own clock never waits.
//
// The package has its own wire types and shares none with the client, so that a wrong field name on either side shows.
// Where the documentation of the service leaves a question open, docs/emulator.md names the choice.
package emulator
