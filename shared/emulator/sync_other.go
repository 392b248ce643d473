//go:build !unix

package emulator

// syncDir does nothing on this system: it cannot sync a folder.
func syncDir(string) error { return nil }
