package emulator_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"time"

	"recompose/shared/emulator"
	"recompose/shared/workspace"
)

// A test serves the emulator over HTTP, sets a fault, and reads afterwards which requests came.
func Example() {
	server, err := emulator.New(emulator.Options{Desktops: 3})
	if err != nil {
		panic(err)
	}
	defer server.Close()
	site := httptest.NewServer(server)
	defer site.Close()
	err = server.SetFaults([]emulator.Fault{{Call: emulator.CallGetDesktop, Times: 1, Do: emulator.Do{Status: 503}}})
	if err != nil {
		panic(err)
	}

	api, err := workspace.New(workspace.Options{
		Endpoint: site.URL, ProjectID: emulator.DefaultProjectID,
		Auth:            workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
		SignatureWindow: 15 * time.Minute, ReadsPerMinute: -1, WritesPerMinute: -1, // no limit of calls
	})
	if err != nil {
		panic(err)
	}
	for range 2 {
		desktop, err := api.GetDesktop(context.Background(), server.DesktopIDs()[0])
		fmt.Printf("status %q, failed: %t\n", desktop.Status, err != nil)
	}
	for _, r := range server.Requests(0, 10) {
		fmt.Println(r.Call, r.Status)
	}
	// Output:
	// status "", failed: true
	// status "ACTIVE", failed: false
	// get-desktop 503
	// get-desktop 200
}
