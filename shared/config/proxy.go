package config

import "os"

// ApplyProxy is called first in each program. With RECOMPOSE_PROXY=off it removes the proxy from the environment of this
// process, so that it holds for every HTTP client, those of SDKs included.
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
