package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of a list command.
const (
	MaxListed      = 100 // ids in desktop_ids of listdesktops: the service's own limit for one call
	maxFilterTags  = 20  // the service's limit of tags on a desktop
	maxTagKey      = 128 // characters of a desktop tag's key
	maxTagValue    = 255 // characters of a desktop tag's value
	maxListedNames = 64  // entries in fields
)

// DesktopStatuses are the known words of a desktop's status. The service keeps the list open.
var DesktopStatuses = []string{"ACTIVE", "SHUTOFF", "HIBERNATED", "ERROR"}

// RowFields are the names that the field fields of listdesktops may have. A row has desktop_id, status and task_status
// in any case. Without fields, a row has all of these but attach_user_infos: that one names people.
var RowFields = []string{
	"computer_name", "desktop_type", "login_status", "image_id", "image_name", "image_type", "os_type", "os_version",
	"product_id", "order_id", "charge_mode", "charging_mode", "root_volume", "data_volumes", "tags", "pool_id",
	"enterprise_project_id", "subnet_id", "availability_zone", "in_maintenance_mode", "attach_state", "user_attached",
	"attach_user_infos", "created",
}

// RowUsers is the one of RowFields that names people.
const RowUsers = "attach_user_infos"

// ListDesktops requests the desktops that are named and match every filter; without both, all. It changes nothing and
// may be repeated. Filters are sent to the service, and checked by recompose on each desktop that it returns.
type ListDesktops struct {
	ProjectID           string            `json:"project_id,omitempty"`
	DesktopIDs          []string          `json:"desktop_ids,omitempty"` // at most 100, each once
	ImageID             string            `json:"image_id,omitempty"`    // the image that the desktop runs
	Status              string            `json:"status,omitempty"`      // compared without letter case
	EnterpriseProjectID string            `json:"enterprise_project_id,omitempty"`
	PoolID              string            `json:"pool_id,omitempty"`
	Tags                map[string]string `json:"tags,omitempty"` // all must be on the desktop; never sent to the service
	UserAttached        *bool             `json:"user_attached,omitempty"`
	ComputerName        string            `json:"computer_name,omitempty"` // the whole name, compared without letter case
	Fields              []string          `json:"fields,omitempty"`        // of each row, from RowFields
}

// ListImages requests the images that match every filter; without filters, all gold and private ones. It changes
// nothing and may be repeated. The service does not list market images.
type ListImages struct {
	ProjectID string `json:"project_id,omitempty"`
	ImageType string `json:"image_type,omitempty"` // gold (public) or private
	Name      string `json:"name,omitempty"`       // the whole name; compared by recompose
	ImageID   string `json:"image_id,omitempty"`
}

// DesktopsListed is one page of the answer to listdesktops. The page with last true is the end of the command; the
// pages before it are no ends and have no causationid. The pages of a command are numbered from 1 to that of the last,
// and hold each desktop once.
type DesktopsListed struct {
	Command  CommandRef   `json:"command"`
	Page     int          `json:"page"`              // from 1
	Last     bool         `json:"last"`              // this is the last page
	Total    int          `json:"total"`             // desktops on all pages; 0 before the last page
	Desktops []DesktopRow `json:"desktops"`          // in the order of desktop_ids, else in the order of their creation
	Missing  []string     `json:"missing,omitempty"` // on the last page: desktop_ids that the service does not know
	ReadAt   time.Time    `json:"read_at,omitzero"`  // when the reading began: no row is older
}

// DesktopRow is a desktop in a list, under the vendor's names. A field that is absent is not known, or was not asked
// for: an absent image_id is no evidence that the image is gone, absent tags are no evidence that there are none, and
// an absent or unknown login_status must count as in use.
type DesktopRow struct {
	DesktopID           string      `json:"desktop_id"`
	Status              string      `json:"status"`      // as received; "" while the desktop is being deleted
	TaskStatus          string      `json:"task_status"` // "" without a task
	ComputerName        string      `json:"computer_name,omitempty"`
	DesktopType         string      `json:"desktop_type,omitempty"` // DEDICATED, SHARED, POOLED
	LoginStatus         string      `json:"login_status,omitempty"` // UNREGISTER, REGISTERED, CONNECTED, DISCONNECTED
	ImageID             string      `json:"image_id,omitempty"`     // metering.image_id of the metadata
	ImageName           string      `json:"image_name,omitempty"`   // image_name of the metadata
	ImageType           string      `json:"image_type,omitempty"`   // metering.imagetype of the metadata
	OSType              string      `json:"os_type,omitempty"`      // os_type of the metadata
	OSVersion           string      `json:"os_version,omitempty"`
	ProductID           string      `json:"product_id,omitempty"`
	OrderID             string      `json:"order_id,omitempty"`
	ChargeMode          string      `json:"charge_mode,omitempty"`   // of the product; its meaning differs by page
	ChargingMode        string      `json:"charging_mode,omitempty"` // of the metadata; as above
	RootVolume          *RowVolume  `json:"root_volume,omitempty"`
	DataVolumes         []RowVolume `json:"data_volumes,omitzero"` // [] if there are none
	Tags                []Tag       `json:"tags,omitzero"`         // [] if there are none
	PoolID              string      `json:"pool_id,omitempty"`
	EnterpriseProjectID string      `json:"enterprise_project_id,omitempty"`
	SubnetID            string      `json:"subnet_id,omitempty"`
	AvailabilityZone    string      `json:"availability_zone,omitempty"`
	InMaintenanceMode   *bool       `json:"in_maintenance_mode,omitempty"`
	AttachState         string      `json:"attach_state,omitempty"`
	UserAttached        *bool       `json:"user_attached,omitempty"`    // whether the desktop is assigned to a user or a group
	AttachUserInfos     []RowUser   `json:"attach_user_infos,omitzero"` // only if fields asks for it
	Created             string      `json:"created,omitempty"`          // UTC
}

// RowVolume is a disk of a desktop in a list.
type RowVolume struct {
	ID       string `json:"id,omitempty"`
	VolumeID string `json:"volume_id,omitempty"`
	Type     string `json:"type,omitempty"`
	Size     int64  `json:"size,omitempty"` // GB
}

// RowUser is a user or a group to whom a desktop is assigned.
type RowUser struct {
	UserID    string `json:"user_id,omitempty"`
	UserName  string `json:"user_name,omitempty"`
	UserGroup string `json:"user_group,omitempty"`
	Type      string `json:"type,omitempty"` // USER, GROUP
}

// ImagesListed is one page of the answer to listimages, see [DesktopsListed].
type ImagesListed struct {
	Command CommandRef    `json:"command"`
	Page    int           `json:"page"`
	Last    bool          `json:"last"`
	Total   int           `json:"total"`  // images on all pages; 0 before the last page
	Images  []ListedImage `json:"images"` // in the order of their names
}

// ListedImage is an image in a list, under the vendor's names. An absent field is not known.
type ListedImage struct {
	ID           string `json:"id"`
	Name         string `json:"name,omitempty"`
	ImageType    string `json:"image_type,omitempty"` // gold, private
	OSType       string `json:"os_type,omitempty"`
	OSVersion    string `json:"os_version,omitempty"`
	Architecture string `json:"architecture,omitempty"`
	DiskFormat   string `json:"disk_format,omitempty"`
	MinRAM       *int64 `json:"min_ram,omitempty"`  // MB
	MinDisk      *int64 `json:"min_disk,omitempty"` // GB
	ProductCode  string `json:"product_code,omitempty"`
	CreatedAt    string `json:"created_at,omitempty"` // UTC
	KMSID        string `json:"kms_id,omitempty"`
}

// MarshalJSON writes an empty list as a list, never as null.
func (d DesktopsListed) MarshalJSON() ([]byte, error) {
	type plain DesktopsListed
	if d.Desktops == nil {
		d.Desktops = []DesktopRow{}
	}
	return json.Marshal(plain(d))
}

// MarshalJSON writes an empty list as a list, never as null.
func (i ImagesListed) MarshalJSON() ([]byte, error) {
	type plain ImagesListed
	if i.Images == nil {
		i.Images = []ListedImage{}
	}
	return json.Marshal(plain(i))
}

// DecodeListDesktops reads the data of a listdesktops command. The error is an *InvalidError with every fault.
func DecodeListDesktops(data json.RawMessage) (ListDesktops, error) {
	return decode(data, func(o *object) (c ListDesktops) {
		c.ProjectID = o.id("project_id", false)
		c.DesktopIDs = o.desktopIDs(false)
		if n := len(c.DesktopIDs); n > MaxListed {
			o.fault(o.at("desktop_ids"), fmt.Sprintf("%d ids", n), "must have at most %d ids; send several commands", MaxListed)
		}
		c.ImageID = o.id("image_id", false)
		c.Status = o.text("status", maxShortText)
		c.EnterpriseProjectID = o.shortID("enterprise_project_id", maxRebuildEPText)
		c.PoolID = o.id("pool_id", false)
		c.Tags = readTagFilter(o)
		c.UserAttached = o.flag("user_attached", true)
		c.ComputerName = o.text("computer_name", maxShortText)
		c.Fields = readRowFields(o)
		return c
	})
}

// DecodeListImages reads the data of a listimages command. The error is an *InvalidError with every fault.
func DecodeListImages(data json.RawMessage) (ListImages, error) {
	return decode(data, func(o *object) (c ListImages) {
		c.ProjectID = o.id("project_id", false)
		c.ImageType = o.choice("image_type", ListedImageTypes...)
		c.Name = o.text("name", maxShortText)
		c.ImageID = o.id("image_id", false)
		return c
	})
}

// ListedImageTypes are the types of images that the service lists.
var ListedImageTypes = []string{"gold", "private"}

// readTagFilter reads tags as an object of texts: {"ring": "a"}.
func readTagFilter(o *object) map[string]string {
	v, given := o.value("tags")
	if !given {
		return nil
	}
	if v[0] != '{' {
		o.fault(o.at("tags"), shorten(v), `must be an object of keys and values, such as {"ring": "a"}`)
		return nil
	}
	inside := openObject(v, o.at("tags"), o.faults)
	if n := len(inside.fields); n > maxFilterTags {
		o.fault(o.at("tags"), fmt.Sprintf("%d tags", n), "must have at most %d tags", maxFilterTags)
		return nil
	}
	tags := map[string]string{}
	for _, f := range inside.fields {
		key := string(f.name)
		at := inside.at(label(key))
		if n := utf8.RuneCountInString(key); n < 1 || n > maxTagKey {
			o.fault(at, "", "must have a key of 1 to %d characters", maxTagKey)
			continue
		}
		if text, ok := inside.readText(at, f.value, maxTagValue); ok {
			tags[key] = text
		}
	}
	if len(tags) == 0 {
		return nil
	}
	return tags
}

// readRowFields reads the names of fields, each once.
func readRowFields(o *object) []string {
	v, given := o.value("fields")
	if !given {
		return nil
	}
	if v[0] != '[' {
		o.fault(o.at("fields"), shorten(v), "must be a list of names")
		return nil
	}
	var names []string
	for _, r := range members(v) {
		at := o.at("fields") + indexed(len(names))
		name, is := unquoted(r)
		switch {
		case len(names) == maxListedNames:
			o.fault(o.at("fields"), "", "must have at most %d names", maxListedNames)
			return nil
		case !is || !slices.Contains(RowFields, name):
			o.fault(at, shorten(r), "must be one of %s", strings.Join(RowFields, ", "))
		case slices.Contains(names, name):
			o.fault(at, shorten(r), "is in the list twice; name each field once")
		}
		names = append(names, name)
	}
	return names
}

// maxPage is how many bytes the rows of a page may have: with the envelope, the command and the missing ids, the
// message stays below MaxMessage.
const (
	maxPage     = 200 * 1024
	maxPageRows = 500
)

// Pages divides the rows of a list into pages, in order. Without rows there is one page, which is empty.
func Pages[T any](rows []T) ([][]T, error) {
	var pages [][]T
	first, size := 0, 0
	for i, row := range rows {
		raw, err := json.Marshal(row)
		if err != nil {
			return nil, fmt.Errorf("write row %d of a list: %w", i, err)
		}
		if n := len(raw) + 1; i > first && (size+n > maxPage || i-first == maxPageRows) {
			pages = append(pages, rows[first:i])
			first, size = i, 0
		}
		size += len(raw) + 1
	}
	return append(pages, rows[first:]), nil
}
