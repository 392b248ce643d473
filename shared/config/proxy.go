package config

import "os"

// ApplyProxy must be the first call of each program. With RECOMPOSE_PROXY=off it removes the proxy from the
// environment of this process, so that no HTTP client uses it, not even those of SDKs.
func ApplyProxy() error {
	if os.Getenv("RECOMPOSE_PROXY") != ProxyOff {
		return nil
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		if err := os.Unsetenv(name); err != nil {
			return err
		}
	}
	return nil
}
