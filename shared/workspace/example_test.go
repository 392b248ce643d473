package workspace_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"recompose/shared/workspace"
)

// A rebuild whose answer is that the desktop is busy: nothing was done, and a later retry is safe.
func ExampleClient_Rebuild() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusConflict)
		_, _ = fmt.Fprint(w, `{"error_code":"WKS.00010032","error_msg":"the desktop is busy","request_id":"r1"}`)
	}))
	defer server.Close()
	client, err := workspace.New(workspace.Options{
		Endpoint: server.URL, ProjectID: "0bec5db98280d2d02fd6c00c2de791ce",
		Auth:           workspace.AKSK{AccessKey: "EXAMPLEACCESSKEY0001", SecretKey: "example-secret-key-not-real-0001"},
		ReadsPerMinute: 200, WritesPerMinute: 100, SignatureWindow: 15 * time.Minute,
	})
	if err != nil {
		fmt.Println(err)
		return
	}

	signedAt := client.ServiceNow() // to be stored before the call
	_, err = client.Rebuild(context.Background(), signedAt, workspace.RebuildRequest{
		DesktopIDs: []string{"f77db5cd-c020-47d4-bbbe-9b979a38d18c"},
		ImageType:  "private", ImageID: "39efed30-a0db-4520-8134-19a086e14c7e",
	})
	fmt.Println(err)
	if e, ok := errors.AsType[*workspace.Error](err); ok {
		fmt.Println(e.Class, e.Status, e.Code)
		fmt.Println("may have been executed:", e.MayHaveExecuted())
	}
	// Output:
	// rebuild: conflict, status 409, WKS.00010032: the desktop is busy (request id r1)
	// conflict 409 WKS.00010032
	// may have been executed: false
}

// Whichever form the service uses, marshalling gives one form.
func ExampleDesktop() {
	var desktop workspace.Desktop
	err := json.Unmarshal([]byte(`{
		"desktop_id": "d1", "status": "active", "created": "2026-01-15 08:30:00", "process": null,
		"addresses": [{"addr": "10.0.0.1", "version": 4}], "field_of_next_year": true}`), &desktop)
	if err != nil {
		fmt.Println(err)
		return
	}
	text, err := json.Marshal(desktop)
	fmt.Println(string(text), err)
	fmt.Println(desktop.State(), desktop.Created.Zoned)
	// Output:
	// {"addresses":{"":[{"addr":"10.0.0.1","version":"4"}]},"created":"2026-01-15T08:30:00Z","desktop_id":"d1","field_of_next_year":true,"status":"active","task_status":""} <nil>
	// ACTIVE false
}

func ExampleCheckID() {
	fmt.Println(workspace.CheckID("desktop_id", "f77db5cd-c020-47d4-bbbe-9b979a38d18c"))
	fmt.Println(workspace.CheckID("desktop_id", "../images"))
	// Output:
	// <nil>
	// desktop_id "../images": must be letters, digits, hyphens and underscores, and begin with a letter or digit
}
