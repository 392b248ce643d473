package workspace

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
)

// MaxFindDesktops is the greatest number of ids in one list call (definitions).
const MaxFindDesktops = 100

// ListedDesktop is what this package reads of a desktop in the list of desktops. The item is DesktopDetailInfo, see
// [Desktop]; a list of thousands is kept in memory, so this type has fewer fields. A field that is absent or null stays
// nil or "": a list that is empty but not nil was empty in the answer.
type ListedDesktop struct {
	DesktopID           string            `json:"desktop_id"`
	ComputerName        string            `json:"computer_name"`
	DesktopType         string            `json:"desktop_type"`
	Metadata            map[string]string `json:"metadata"`
	Status              string            `json:"status"`
	TaskStatus          string            `json:"task_status"`
	LoginStatus         string            `json:"login_status"`
	InMaintenanceMode   *bool             `json:"in_maintenance_mode"`
	Created             Time              `json:"created"`
	UserName            string            `json:"user_name"`
	AttachUserInfos     []AttachUser      `json:"attach_user_infos"`
	AttachState         string            `json:"attach_state"`
	OSVersion           string            `json:"os_version"`
	AvailabilityZone    string            `json:"availability_zone"`
	ProductID           string            `json:"product_id"`
	OrderID             string            `json:"order_id"`
	Product             *Product          `json:"product"`
	RootVolume          *Volume           `json:"root_volume"`
	DataVolumes         []Volume          `json:"data_volumes"`
	Tags                []Tag             `json:"tags"`
	PoolID              string            `json:"pool_id" also:"desktop_pool_id"` // K, of a sibling list only
	EnterpriseProjectID string            `json:"enterprise_project_id"`
	SubnetID            string            `json:"subnet_id"`
}

// DesktopsQuery filters [Client.ListDesktops]; empty fields are not sent. The filter by tag is left out: no client
// is known to use it.
type DesktopsQuery struct {
	ImageID             string
	Status              string
	EnterpriseProjectID string
	PoolID              string
	ComputerName        string
	UserAttached        *bool
}

func (q DesktopsQuery) values() url.Values {
	query := url.Values{}
	for name, value := range map[string]string{
		"image_id": q.ImageID, "status": q.Status, "enterprise_project_id": q.EnterpriseProjectID, "pool_id": q.PoolID,
		"computer_name": q.ComputerName,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	if q.UserAttached != nil {
		query.Set("user_attached", strconv.FormatBool(*q.UserAttached))
	}
	return query
}

// Desktops is the answer to [Client.ListDesktops] and [Client.FindDesktops].
type Desktops struct {
	Desktops []ListedDesktop
	// Complete reports whether it is certain that nothing is missing. Never conclude from a desktop's absence without it.
	Complete bool
	// Filtered reports that the filters were sent with the calls of this answer.
	Filtered bool
}

// Bounds of a list of desktops: 100,000 desktops are 200 pages, or 1,000 if the service caps the pages at 100.
const (
	desktopsPage  = 500
	desktopsPages = 2400
	desktopsEnd   = 1<<31 - 1
)

// ListDesktops lists desktops, ordered by their creation. It reads pages of 500, and advances by the number of rows
// received, because the service may return smaller pages. If the number of different desktops is not the total of the
// last page, because the list changed meanwhile or the total ignores the filters, it reads the list anew, up to four
// times in all and in the second half without the filters. Without a total, only two equal readings are complete: a row
// that is deleted while the list is read hides another one. It may be repeated.
//
// A desktop that does not match a filter may be in the answer: compare each yourself.
func (c *Client) ListDesktops(ctx context.Context, q DesktopsQuery) (Desktops, error) {
	var l listed[ListedDesktop]
	filtered, complete := false, false
	for walks := 0; walks < passes && !complete; walks += l.passes {
		query := url.Values{}
		if filtered = walks < passes/2; filtered {
			query = q.values()
		}
		before := l
		var err error
		if l, err = listAll(ctx, c, desktopsListing(query)); err != nil {
			return Desktops{Desktops: l.items}, err
		}
		complete = l.complete && (l.counted || walks > 0 && sameDesktops(before.items, l.items))
	}
	return Desktops{Desktops: l.items, Complete: complete, Filtered: filtered}, nil
}

func sameDesktops(a, b []ListedDesktop) bool {
	return slices.EqualFunc(a, b, func(a, b ListedDesktop) bool { return a.DesktopID == b.DesktopID })
}

// CountDesktops returns how many desktops match the filters according to the service, in one call; -1 if its answer has
// no total. The service may ignore a filter, and then counts more.
func (c *Client) CountDesktops(ctx context.Context, q DesktopsQuery) (int64, error) {
	l := desktopsListing(q.values())
	l.limit, l.call.patient = 1, pageWait
	p, _, err := l.page(ctx, c, 0)
	if err != nil || p.total == nil {
		return -1, err
	}
	return *p.total, nil
}

// FindDesktops lists the desktops with these ids, at most 100, in the order and the letter case of the ids. One that is not in a complete
// answer does not exist. It is not known whether the service accepts several ids in a call: those that it does not
// return are read one by one, and if it returns other desktops than the requested ones, all desktops are read.
func (c *Client) FindDesktops(ctx context.Context, ids []string) (Desktops, error) {
	if err := checkIDs(ids, MaxFindDesktops, true); err != nil {
		return Desktops{}, invalid("list-desktops", err)
	}
	found := make(map[string]ListedDesktop, len(ids))
	only, err := c.findDesktops(ctx, found, ids...)
	for _, id := range ids {
		if _, ok := found[id]; ok || err != nil || len(ids) == 1 {
			continue
		}
		if only, err = c.findDesktops(ctx, found, id); !only {
			break
		}
	}
	if err != nil {
		return Desktops{}, err
	}
	complete := only || len(found) == len(ids)
	if !complete {
		all, err := c.ListDesktops(ctx, DesktopsQuery{})
		if err != nil {
			return Desktops{}, err
		}
		complete = all.Complete
		keepAsked(found, all.Desktops, ids)
	}
	answer := Desktops{Complete: complete}
	for _, id := range ids {
		if d, ok := found[id]; ok {
			answer.Desktops = append(answer.Desktops, d)
		}
	}
	return answer, nil
}

// SomeDesktops lists the desktops with these ids, at most 100, by id, as far as one call shows them: those that it does not
// show may exist. The ids have the letter case of the request.
func (c *Client) SomeDesktops(ctx context.Context, ids []string) (map[string]ListedDesktop, error) {
	if err := checkIDs(ids, MaxFindDesktops, true); err != nil {
		return nil, invalid("list-desktops", err)
	}
	found := make(map[string]ListedDesktop, len(ids))
	_, err := c.findDesktops(ctx, found, ids...)
	return found, err
}

// findDesktops adds the desktops with these ids to found. only is false if the answer has others too.
func (c *Client) findDesktops(
	ctx context.Context, found map[string]ListedDesktop, ids ...string,
) (only bool, err error) {
	l := desktopsListing(url.Values{"desktop_id": ids})
	l.call.patient = pageWait
	p, _, err := l.page(ctx, c, 0)
	switch ClassOf(err) {
	case NotFound: // of one id: it does not exist
		return true, nil
	case Refused:
		if len(ids) > 1 {
			return true, nil
		}
	}
	if err != nil {
		return false, err
	}
	return keepAsked(found, p.items, ids), nil
}

// keepAsked adds the desktops with these ids to found, each in the letter case of the request. only is false if there are
// others too.
func keepAsked(found map[string]ListedDesktop, listed []ListedDesktop, ids []string) (only bool) {
	asked := askedAs(ids)
	only = true
	for _, d := range listed {
		if d.DesktopID = asked(d.DesktopID); slices.Contains(ids, d.DesktopID) {
			found[d.DesktopID] = d
		} else {
			only = false
		}
	}
	return only
}

func desktopsListing(query url.Values) listing[ListedDesktop] {
	query.Set("sort_field", "created")
	query.Set("sort_type", "ASC") // capitals here, small letters in the list of images
	return listing[ListedDesktop]{
		call: call{
			operation: "list-desktops", method: http.MethodGet, path: []string{"desktops", "detail"}, query: query,
		},
		decode: func(body []byte) (page[ListedDesktop], error) { return decodePage[ListedDesktop](body, "desktops") },
		id:     func(d ListedDesktop) string { return d.DesktopID },
		limit:  desktopsPage, lastOffset: desktopsEnd, most: desktopsPages,
	}
}

// Desktop is what the list shows of the desktop's state.
func (d ListedDesktop) Desktop() Desktop {
	return Desktop{DesktopID: d.DesktopID, Status: d.Status, TaskStatus: d.TaskStatus}
}

// ImageID is the image that the desktop runs: metering.image_id of its metadata, "" if it is missing.
func (d ListedDesktop) ImageID() string { return d.Metadata["metering.image_id"] }

// Attached reports whether the desktop is assigned to a user or a group; nil if the answer does not show it.
func (d ListedDesktop) Attached() *bool {
	var attached bool
	switch {
	case len(d.AttachUserInfos) > 0 || d.UserName != "":
		attached = true
	case d.AttachState != "":
		attached = word(d.AttachState) == "ATTACHED"
	case d.AttachUserInfos == nil:
		return nil
	}
	return &attached
}

// String names only the desktop: user names and tags stay out of logs.
func (d ListedDesktop) String() string { return fmt.Sprintf("desktop %s", printable(d.DesktopID)) }
