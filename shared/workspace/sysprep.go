package workspace

import (
	"context"
	"fmt"
	"net/http"
	"strings"
)

// Sysprep is whether an image can be made of a desktop with sysprep. Source: Go SDK and vendor page.
type Sysprep struct {
	Version string // of the sysprep tools on the desktop
	// CanImage is support_create_image; nil: the answer does not have it.
	CanImage *bool
}

// Sysprep reads whether an image can be made of a desktop with sysprep. It may be repeated. Not every region has this
// call.
func (c *Client) Sysprep(ctx context.Context, desktopID string) (Sysprep, error) {
	const op = "sysprep"
	if err := CheckID("desktop_id", desktopID); err != nil {
		return Sysprep{}, invalid(op, err)
	}
	a, err := c.do(ctx, call{operation: op, method: http.MethodGet, path: []string{"desktops", desktopID, "sysprep"}})
	if err != nil {
		return Sysprep{}, err
	}
	fields, err := answerFields(a.body)
	if err != nil {
		return Sysprep{}, c.badAnswer(a, err)
	}
	s := Sysprep{Version: strings.Trim(string(fields["sysprep_version"]), `"`)}
	switch raw := strings.ToLower(strings.Trim(string(fields["support_create_image"]), `"`)); raw {
	case "", "null":
	case "true", "false":
		can := raw == "true"
		s.CanImage = &can
	default:
		return Sysprep{}, c.badAnswer(a, fmt.Errorf("support_create_image: must be true or false; got %s", raw))
	}
	return s, nil
}
