//go:build !unix

package emulator

// syncDir does nothing here: a folder cannot be synced.
func syncDir(string) error { return nil }
