package rollout

import "strings"

// Desktop is what a plan and the look directly before a batch need to know of a desktop, from desktops.listed. An empty
// field is not known.
type Desktop struct {
	ID           string            `json:"id"`
	Name         string            `json:"name,omitempty"` // computer name
	Type         string            `json:"type,omitempty"` // DEDICATED, POOLED, SHARED
	Status       string            `json:"status,omitempty"`
	Task         string            `json:"task,omitempty"`  // not empty: busy
	Login        string            `json:"login,omitempty"` // UNREGISTER, REGISTERED, CONNECTED, DISCONNECTED
	Image        string            `json:"image,omitempty"`
	ImageType    string            `json:"image_type,omitempty"`
	OSType       string            `json:"os_type,omitempty"`
	Root         string            `json:"root,omitempty"` // id of the root volume
	Data         string            `json:"data,omitempty"` // hash of the data volumes
	Tags         map[string]string `json:"tags,omitzero"`  // nil: not known
	PoolID       string            `json:"pool_id,omitempty"`
	EPID         string            `json:"epid,omitempty"` // enterprise project
	ChargeMode   string            `json:"charge,omitempty"`
	UserAttached *bool             `json:"attached,omitempty"`
}

// InUse reports whether a user may be working on the desktop: connected, or disconnected with programs still open. A
// word that is not known, or none, counts as in use; a desktop that is off is not.
func (d Desktop) InUse() bool {
	switch d.Login {
	case "UNREGISTER", "REGISTERED":
		return false
	case "":
		return d.Status != "SHUTOFF"
	}
	return true
}

// sameImage reports whether two ids name one image: a spec may have an id in another letter case than the service.
func sameImage(a, b string) bool { return strings.EqualFold(a, b) }
