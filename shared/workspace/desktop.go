package workspace

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"strings"
)

// Description is a desktop in its published form, and without personal data: users and their groups, names of the
// computer (which naming rules make from user names), addresses, sid, tags, and fields that this version does not know.
type Description struct {
	DesktopID  string
	JSON       json.RawMessage
	Impersonal json.RawMessage
}

// Describe makes the description of a decoded desktop.
func Describe(d Desktop) (Description, error) {
	all, err := encodeObject(d)
	if err != nil {
		return Description{}, fmt.Errorf("write desktop %s: %w", printable(d.DesktopID), err)
	}
	v := reflect.ValueOf(&d).Elem()
	for i := range v.NumField() {
		if f := v.Type().Field(i); f.Tag.Get("personal") != "" || f.Type == extraType {
			v.Field(i).SetZero()
		}
	}
	impersonal, err := encodeObject(d)
	if err != nil {
		return Description{}, fmt.Errorf("write desktop %s: %w", printable(d.DesktopID), err)
	}
	return Description{DesktopID: d.DesktopID, JSON: all, Impersonal: impersonal}, nil
}

// statusDeleting is what [Desktop.State] returns for a desktop without a status: it is being deleted (Terraform
// #2458).
const statusDeleting = "DELETING"

// Desktop is DesktopDetailInfo. Any field may be absent. Source: vendor page; a field marked K is only in the Go SDK,
// a field marked O only in the definitions.
type Desktop struct {
	DesktopID    string    `json:"desktop_id"`
	ComputerName string    `json:"computer_name" personal:"yes"` // letter case may be changed by the image (Terraform #7115)
	OSHostName   string    `json:"os_host_name" personal:"yes"`  // K
	Addresses    Addresses `json:"addresses" personal:"yes"`
	IPAddresses  []string  `json:"ip_addresses" personal:"yes"`
	IPv4         string    `json:"ipv4" personal:"yes"` // K
	IPv6         string    `json:"ipv6" personal:"yes"` // K

	UserList      []string `json:"user_list" personal:"yes"`
	UserGroupList []string `json:"user_group_list" personal:"yes"`
	DesktopType   string   `json:"desktop_type"` // DEDICATED; K: SHARED, POOLED

	// Metadata: charging_mode, image_name, metering.image_id (the image that the desktop runs),
	// metering.resourcespeccode, metering.resourcetype, os_bit, os_type, desktop_os_version and others.
	Metadata map[string]string `json:"metadata"`

	Flavor     *Flavor `json:"flavor"`
	Status     string  `json:"status" empty:"keep"`      // as received; use State
	TaskStatus string  `json:"task_status" empty:"keep"` // "" without a task
	Process    *int64  `json:"process"`                  // percent of the running task, 0 to 100; nil without one (K, O)

	InMaintenanceMode *bool `json:"in_maintenance_mode"` // K
	IsSupportInternet *bool `json:"is_support_internet"` // K
	IsFreeze          *bool `json:"is_freeze"`           // K
	Isolated          *bool `json:"isolated"`            // K

	Created          Time            `json:"created"`
	SecurityGroups   []SecurityGroup `json:"security_groups"` // sometimes missing (Terraform #3787)
	LoginStatus      string          `json:"login_status"`    // UNREGISTER, REGISTERED, CONNECTED, DISCONNECTED
	UserName         string          `json:"user_name" personal:"yes"`
	AttachUserInfos  []AttachUser    `json:"attach_user_infos" personal:"yes"`
	UserGroup        string          `json:"user_group"` // sudo, default, administrators, users
	OUName           string          `json:"ou_name"`
	OSVersion        string          `json:"os_version"`
	AvailabilityZone string          `json:"availability_zone"`

	ProductID        string `json:"product_id"`
	OrderID          string `json:"order_id"`
	SID              string `json:"sid" personal:"yes"`
	SubnetID         string `json:"subnet_id"`          // O, K
	BillResourceID   string `json:"bill_resource_id"`   // O, K
	RootResourceID   string `json:"root_resource_id"`   // K
	ShareResourceSKU string `json:"share_resource_sku"` // K
	Domain           string `json:"domain"`             // K

	RootVolume  *Volume  `json:"root_volume"`
	DataVolumes []Volume `json:"data_volumes"`
	SiteType    string   `json:"site_type"`
	SiteName    string   `json:"site_name"`
	Product     *Product `json:"product"`
	Tags        []Tag    `json:"tags" personal:"yes"`

	InternetMode        string       `json:"internet_mode"`      // NAT, EIP, BOTH
	InternetModeList    []string     `json:"internet_mode_list"` // K
	IsAttachingEIP      *bool        `json:"is_attaching_eip"`
	AttachState         string       `json:"attach_state"` // ATTACHED, UNATTACH, ATTACHING, …
	EnterpriseProjectID string       `json:"enterprise_project_id"`
	HourPackageInfo     *HourPackage `json:"hour_package_info"` // K

	Extra Extra `json:"-"`
}

// UnmarshalJSON reads tolerantly; it fails only on what is no object.
func (d *Desktop) UnmarshalJSON(data []byte) error { return decodeObject(data, d) }

// MarshalJSON writes the one published form, unknown fields included.
func (d Desktop) MarshalJSON() ([]byte, error) { return encodeObject(d) }

// State returns the status in capitals, whatever case the service uses (it has changed, Terraform #3654): ACTIVE,
// SHUTOFF, HIBERNATED, ERROR, or DELETING if the status is empty or missing. Other words are returned as they are.
func (d Desktop) State() string {
	if status := strings.ToUpper(strings.TrimSpace(d.Status)); status != "" {
		return status
	}
	return statusDeleting
}

// HasTask reports whether a task runs on the desktop. It stays false for a while after a write was accepted, so false
// alone is no evidence that nothing runs (Terraform #3997).
func (d Desktop) HasTask() bool { return strings.TrimSpace(d.TaskStatus) != "" }

// ImageID is the image that the desktop runs: metering.image_id of its metadata, "" if it is missing.
func (d Desktop) ImageID() string { return d.Metadata["metering.image_id"] }

// LogValue names only the desktop and its state: user names, addresses and tags stay out of logs.
func (d Desktop) LogValue() slog.Value {
	return slog.GroupValue(slog.String("desktop_id", printable(d.DesktopID)), slog.String("status", printable(d.State())),
		slog.String("task_status", printable(d.TaskStatus)))
}

// SameOSType compares two os_type words without case, and treats Other and Others as equal: the vendor uses both.
func SameOSType(a, b string) bool {
	word := func(s string) string {
		s = strings.ToLower(strings.TrimSpace(s))
		if s == "others" {
			return "other"
		}
		return s
	}
	return word(a) == word(b)
}

// Addresses are a desktop's addresses by the id of their network. The list form of the vendor's sample becomes one group
// named "".
type Addresses map[string][]Address

// readAddresses reads the map of the definitions and the list of the sample.
func readAddresses(raw json.RawMessage) (Addresses, error) {
	networks := map[string]json.RawMessage{"": raw}
	if firstByte(raw) != '[' {
		var err error
		if networks, err = members(raw); err != nil {
			return nil, err
		}
	}
	out := make(Addresses, len(networks))
	for network, raw := range networks {
		var group []Address
		if err := setObjects(reflect.ValueOf(&group).Elem(), raw); err != nil {
			return nil, err
		}
		out[network] = group
	}
	return out, nil
}

// GetDesktop describes one desktop. It may be repeated.
//
// If the answer holds exactly one desktop, it is returned as received, even if its desktop_id is not the requested one
// (the vendor's own example does that): compare DesktopID before relying on it. An empty list is [NotFound]; from a
// list of several, GetDesktop returns the one with the requested id. The vendor's sample has a list of one, its
// definitions an object.
func (c *Client) GetDesktop(ctx context.Context, desktopID string) (Desktop, error) {
	a, err := c.getDesktop(ctx, desktopID)
	if err != nil {
		return Desktop{}, err
	}
	desktop, err := decodeDesktop(a.body, desktopID)
	if err != nil {
		return Desktop{}, c.badAnswer(a, err)
	}
	return desktop, nil
}

// DescribeDesktop is GetDesktop for a caller that publishes the desktop. If the JSON of the service already has the
// published form, it is passed through, with the order of its fields and with its empty fields.
func (c *Client) DescribeDesktop(ctx context.Context, desktopID string) (Description, error) {
	a, err := c.getDesktop(ctx, desktopID)
	if err != nil {
		return Description{}, err
	}
	if d, ok := copyDesktop(a.body); ok {
		return d, nil
	}
	desktop, err := decodeDesktop(a.body, desktopID)
	if err != nil {
		return Description{}, c.badAnswer(a, err)
	}
	return Describe(desktop)
}

func (c *Client) getDesktop(ctx context.Context, desktopID string) (answer, error) {
	const op = "get-desktop"
	if err := CheckID("desktop_id", desktopID); err != nil {
		return answer{}, invalid(op, err)
	}
	return c.do(ctx, call{operation: op, method: http.MethodGet, path: []string{"desktops", desktopID}})
}

// errGone is the error of a 200 with an empty list of desktops.
var errGone = errors.New("the answer's list of desktops is empty: the desktop does not exist")

func decodeDesktop(body []byte, desktopID string) (Desktop, error) {
	fields, err := answerFields(body)
	if err != nil {
		return Desktop{}, err
	}
	raw := fields["desktop"]
	if len(raw) == 0 || isNull(raw) {
		return Desktop{}, errEmpty
	}
	elements, err := list(raw)
	if err != nil {
		return Desktop{}, fmt.Errorf("desktop: %w", err)
	}
	if len(elements) == 0 {
		return Desktop{}, errGone
	}
	for _, element := range elements {
		var d Desktop
		if err := decodeObject(element, &d); err != nil {
			return Desktop{}, fmt.Errorf("desktop: %w", err)
		}
		if len(elements) == 1 || d.DesktopID == desktopID {
			if reflect.ValueOf(d).IsZero() {
				return Desktop{}, errEmpty
			}
			return d, nil
		}
	}
	return Desktop{}, fmt.Errorf("desktop: %d entries, and none with desktop_id %q", len(elements), desktopID)
}
