package workspace

import (
	"context"
	"errors"
	"net/http"
	"time"
)

// DesktopToImageRequest has the nine fields of desktop-to-image. Source: vendor page; limits definitions.
type DesktopToImageRequest struct {
	// ImageName is required: 1 to 128 of CJK characters, ASCII letters and digits, white space, hyphen, underscore, full
	// stop, without white space at either end. The service is not known to keep names unique.
	ImageName string `json:"image_name"`
	// ImageDescription is 0 to 1,024 of the same characters.
	ImageDescription string `json:"image_description,omitempty"`
	// DesktopID is required. The desktop restarts, and is unusable while the image is made (user guide).
	DesktopID string `json:"desktop_id"`
	// ExecuteSysprep seals the system first, which deletes the user profiles on the source desktop. The service's own
	// default is true, so the field is always sent. It is sent as a Boolean, although the vendor's sample has a string.
	ExecuteSysprep bool `json:"execute_sysprep"`
	// ImageTags are at most 1,000; keys and values at most 1,024 characters.
	ImageTags []ImageTag `json:"image_tags,omitempty"`
	// EnterpriseProjectID is "" or "0" for the default one, else a UUID.
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	// IsClearData wipes user data; it has an effect only without ExecuteSysprep. Default false.
	IsClearData bool `json:"is_clear_data,omitempty"`
	// MaxRAM and MinRAM are the memory that the image allows, in MB, as strings. "" sets no limit.
	MaxRAM string `json:"max_ram,omitempty"`
	MinRAM string `json:"min_ram,omitempty"`
}

// ImageTag is a tag that a new image gets. Both fields are sent, even if empty.
type ImageTag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// DesktopToImage starts a job that captures a desktop as a private image. The answer does not name the image: find it
// by its name when the job has ended.
//
// It is a write: sent at most once, signed with signedAt (see [Client.Rebuild]). Do not repeat it unless
// [Error.MayHaveExecuted] is false: a repeated call makes two images.
func (c *Client) DesktopToImage(ctx context.Context, signedAt time.Time, r DesktopToImageRequest) (Accepted, error) {
	err := CheckID("desktop_id", r.DesktopID)
	if r.ImageName == "" {
		err = errors.Join(err, errors.New("image_name is empty: give a name"))
	}
	return c.write(ctx, "desktop-to-image", signedAt, r, err)
}

// write sends one write and reads its answer. faults are those of the request; nil if it is valid.
func (c *Client) write(
	ctx context.Context, operation string, signedAt time.Time, request any, faults error,
) (Accepted, error) {
	if signedAt.IsZero() {
		faults = errors.Join(faults, errors.New("the signing date is zero: give the date of the write's record"))
	}
	body, err := encodeBody(request)
	if faults = errors.Join(faults, err); faults != nil {
		c.DropTurn() // a turn that is left behind would belong to a later write
		return Accepted{}, invalid(operation, faults)
	}
	a, err := c.do(ctx, call{
		operation: operation, method: http.MethodPost, path: []string{"desktops", operation}, body: body, write: true,
		signedAt: signedAt,
	})
	if err != nil {
		return Accepted{}, err
	}
	return c.accepted(a)
}
