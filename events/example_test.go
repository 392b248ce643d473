package events_test

import (
	"encoding/json"
	"errors"
	"fmt"

	"recompose/events"
)

// A message in structured mode, and its command.
func ExampleDecode() {
	message := `{
		"specversion": "1.0", "id": "check-1", "source": "https://ci.example.com", "type": "recompose.command.checkimages.v1",
		"data": {"desktop_ids": ["f77db5cd-c020-47d4-bbbe-9b979a38d18c"]}
	}`
	envelope, err := events.Decode(nil, []byte(message), events.Bare{})
	if err != nil {
		fmt.Println(err)
		return
	}
	command, err := events.DecodeCheckImages(envelope.Data)
	fmt.Println(envelope.ID, envelope.Correlation, command.DesktopIDs, err)
	// Output: check-1 check-1 [f77db5cd-c020-47d4-bbbe-9b979a38d18c] <nil>
}

// The error of a refused command lists all faults, each with the field, the rule and the value.
func ExampleDecodeRebuild() {
	_, err := events.DecodeRebuild(json.RawMessage(`{"desktop_ids": ["a", "../b", "a"], "imageId": "i", "delay_time": -5, "image_type": "gold"}`))
	invalid, _ := errors.AsType[*events.InvalidError](err)
	for _, fault := range invalid.Faults {
		fmt.Printf("%s: %q\n", fault.Field, fault.Value)
	}
	// Output:
	// desktop_ids[1]: "\"../b\""
	// desktop_ids[2]: "\"a\""
	// image_id: ""
	// delay_time: "-5"
	// imageId: ""
}

// Sysprep deletes user profiles, so execute_sysprep has no default.
func ExampleDecodeDesktopToImage() {
	_, err := events.DecodeDesktopToImage(json.RawMessage(`{"image_name": "office", "desktop_id": "d-1"}`))
	fmt.Println(err)
	command, err := events.DecodeDesktopToImage(json.RawMessage(`{
		"image_name": "office", "desktop_id": "d-1", "execute_sysprep": "true", "min_ram": 4096,
		"then": {"rebuild": {"desktop_ids": ["d-2"], "delay_time": 15}}
	}`))
	fmt.Println(command.ExecuteSysprep, command.MinRAM, command.Then.Rebuild.DesktopIDs, err)
	// Output:
	// execute_sysprep: must be given: true deletes the user profiles on the desktop, and is the service's default when the field is absent
	// true 4096 [d-2] <nil>
}

func ExampleDecodeGetDesktop() {
	command, err := events.DecodeGetDesktop(json.RawMessage(`{"desktop_id": "d-1"}`))
	fmt.Println(command.DesktopID, err)
	// Output: d-1 <nil>
}

// What a chain waits for, after each of its events.
func ExampleOpen() {
	root := events.Root{ID: "rebuild-1"}
	var received []events.Envelope
	show := func() { fmt.Println(len(received), "events:", events.Open(root, received)) }
	show()

	accepted := events.Envelope{
		ID: "a", Source: "recompose/rebuild", Type: events.TypeJobAccepted, Causation: "rebuild-1",
		Data: json.RawMessage(`{"function": "rebuild", "job_id": "j-1"}`),
	}
	received = append(received, accepted)
	show()

	completed := events.Envelope{
		ID: "b", Source: "recompose/watchjob", Type: events.TypeJobCompleted, Causation: accepted.ID,
		Data: json.RawMessage(`{"function": "rebuild", "outcome": "failed", "desktops": [{"desktop_id": "d-1", "outcome": "failed"}]}`),
	}
	received = append(received, completed)
	show()
	// Output:
	// 0 events: [command rebuild-1]
	// 1 events: [job j-1 of rebuild]
	// 2 events: []
}

// Ids are derived from what they are about: the same arguments give the same id.
func ExampleIdentity() {
	identity := events.Identity("https://ci.example.com", "rebuild-1")
	fmt.Println(len(identity), identity == events.Identity("https://ci.example.com", "rebuild-1"))
	fmt.Println(events.PartID(identity, 0) == events.PartID(identity, 1))
	// Output:
	// 52 true
	// false
}
