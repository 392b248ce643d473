package workspace

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// maxRebuild is the greatest number of desktops in one rebuild call (definitions, by a vendor extension).
const maxRebuild = 100

// RebuildRequest has the eight fields of the vendor page, and three that only the definitions and the Go SDK have.
type RebuildRequest struct {
	// DesktopIDs are 1 to 100, each once. It is not known whether one bad id makes the service refuse the whole batch.
	DesktopIDs []string `json:"desktop_ids"`
	// ImageType is required: gold (public), private or market (KooGallery); the schema allows any word.
	ImageType string `json:"image_type"`
	// ImageID is required; the vendor page calls it the template's id.
	ImageID string `json:"image_id"`
	// OSType: Linux, Windows, Other. The vendor lists no values for it here.
	OSType string `json:"os_type,omitempty"`
	// DelayTime is the time that users get to save their work, in minutes, 0 to 2,147,483,647. Nil does not send it.
	DelayTime *int `json:"delay_time,omitempty"`
	// Message is shown to the users, at most 400 characters.
	Message string `json:"message,omitempty"`
	// OrderID is required if a desktop that is billed by period gets a billed image.
	OrderID string `json:"order_id,omitempty"`
	// EnterpriseProjectID is "" or "0" for the default one.
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	// EncryptType is KEEP (default), UNENCRYPTED or ENCRYPTED. Definitions and Go SDK only.
	EncryptType string `json:"encrypt_type,omitempty"`
	// KMSID is required with ENCRYPTED. Definitions and Go SDK only.
	KMSID string `json:"kms_id,omitempty"`
	// HandleType is ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE or FOR_EXPAND_AND_ALL; these words concern pools. Definitions
	// and Go SDK only.
	HandleType string `json:"handle_type,omitempty"`
}

// Rebuild starts a job that remakes the system disks of desktops from an image. The disks are wiped.
//
// It is a write: this package sends it at most once. Do not repeat it unless [Error.MayHaveExecuted] is false: a
// repeated call wipes the disks twice. signedAt is the X-Sdk-Date of the signature, to the second, by the service's
// clock: take [Client.ServiceNow] and store it before the call. Until it is older than Options.SignatureWindow, the
// service may still accept a copy of this request that is in transit; after that, it cannot. A date outside the window
// is [NotSent], without a call. With a [Token] the date has no effect, and the request never expires.
func (c *Client) Rebuild(ctx context.Context, signedAt time.Time, r RebuildRequest) (Accepted, error) {
	errs := []error{checkIDs(r.DesktopIDs, maxRebuild, false), CheckID("image_id", r.ImageID)}
	if r.ImageType == "" {
		errs = append(errs, errors.New("image_type is empty: give gold, private or market"))
	}
	if r.DelayTime != nil && (*r.DelayTime < 0 || *r.DelayTime > math.MaxInt32) {
		errs = append(errs, fmt.Errorf("delay_time %d: give 0 to %d minutes", *r.DelayTime, math.MaxInt32))
	}
	return c.write(ctx, "rebuild", signedAt, r, errors.Join(errs...))
}
