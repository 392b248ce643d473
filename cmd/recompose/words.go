package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"recompose/events"
)

const uncheckedFlag = "image-type-unchecked"

// checkWords refuses an image_type or os_type that the service is not known to take: it keeps both lists open, and most
// often another word is misspelt. The data has been decoded by the rules of its command.
func checkWords(data json.RawMessage) error {
	var given struct {
		ImageType string `json:"image_type"`
		OSType    string `json:"os_type"`
		Then      struct {
			Rebuild struct {
				OSType string `json:"os_type"`
			} `json:"rebuild"`
		} `json:"then"`
	}
	if err := json.Unmarshal(data, &given); err != nil {
		return err
	}
	var unknown []string
	for _, f := range []struct {
		field, value string
		known        []string
	}{
		{"image_type", given.ImageType, events.ImageTypes}, {"os_type", given.OSType, events.OSTypes},
		{"then.rebuild.os_type", given.Then.Rebuild.OSType, events.OSTypes},
	} {
		if f.value != "" && !slices.Contains(f.known, f.value) {
			unknown = append(unknown, fmt.Sprintf("  %s: must be one of %s; got %q", f.field, strings.Join(f.known, ", "), f.value))
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	return fmt.Errorf("words that the service is not known to take:\n%s\n--%s sends them all the same", strings.Join(unknown, "\n"), uncheckedFlag)
}
