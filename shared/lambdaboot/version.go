package lambdaboot

import "runtime/debug"

// version is set by the linker.
var version string

// build names the build of this program: the version, else the commit, else "unknown".
func build() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}
