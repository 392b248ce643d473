package workspace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// MaxRebuild is the most desktops that one rebuild call takes (definitions, by a vendor extension).
const MaxRebuild = 100

// RebuildRequest has the eight fields of the vendor page, and three that only the definitions and the Go SDK have.
type RebuildRequest struct {
	// DesktopIDs are 1 to 100, each once. Whether one bad id refuses the whole batch is not known.
	DesktopIDs []string `json:"desktop_ids"`
	// ImageType is required: gold (public), private or market (KooGallery); the schema leaves it open.
	ImageType string `json:"image_type"`
	// ImageID is required; the vendor page calls it the template's id.
	ImageID string `json:"image_id"`
	// OSType: Linux, Windows, Other. The vendor gives no values for it here.
	OSType string `json:"os_type,omitempty"`
	// DelayTime is the minutes that users get to save their work, 0 to 2,147,483,647. Nil does not send it.
	DelayTime *int `json:"delay_time,omitempty"`
	// Message is shown to the users, at most 400 characters.
	Message string `json:"message,omitempty"`
	// OrderID is needed where a desktop billed by period gets a billed image.
	OrderID string `json:"order_id,omitempty"`
	// EnterpriseProjectID is "" or "0" for the default one.
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	// EncryptType is KEEP (default), UNENCRYPTED or ENCRYPTED. Definitions and Go SDK only.
	EncryptType string `json:"encrypt_type,omitempty"`
	// KMSID is required with ENCRYPTED. Definitions and Go SDK only.
	KMSID string `json:"kms_id,omitempty"`
	// HandleType is ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE or FOR_EXPAND_AND_ALL, words about pools. Definitions and Go SDK
	// only.
	HandleType string `json:"handle_type,omitempty"`
}

// Rebuild starts a job that remakes the system disks of desktops from an image. The disks are wiped.
//
// It is a write: sent at most once by this package, and not to be repeated unless [Error.MayHaveExecuted] is false.
// Twice means wiped twice. signedAt is the X-Sdk-Date of the signature, to the second, in the service's clock: take
// [Client.ServiceNow] and store it before the call. While it is younger than Options.SignatureWindow the service may
// still take a copy of this request that is on its way; when it is older, it cannot. A date that is already outside the
// window is [NotSent], without a call. With a [Token] the date has no effect, and nothing fences the request.
func (c *Client) Rebuild(ctx context.Context, signedAt time.Time, r RebuildRequest) (Accepted, error) {
	errs := []error{checkIDs("desktop_ids", r.DesktopIDs, MaxRebuild, false), CheckID("image_id", r.ImageID)}
	if r.ImageType == "" {
		errs = append(errs, errors.New("image_type is empty: give gold, private or market"))
	}
	if r.DelayTime != nil && (*r.DelayTime < 0 || *r.DelayTime > math.MaxInt32) {
		errs = append(errs, fmt.Errorf("delay_time %d: give 0 to %d minutes", *r.DelayTime, math.MaxInt32))
	}
	if err := errors.Join(errs...); err != nil {
		return Accepted{}, invalid("rebuild", err)
	}
	return c.write(ctx, "rebuild", signedAt, r)
}
