package emulator

import (
	"cmp"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// The service caps a page silently. According to its text at 500, to its schema at 1000; a larger limit is refused.
const (
	desktopsCap  = 500
	desktopsMost = 1000
	smallCap     = 100 // with the quirk list-pages-capped
)

// listDesktops lists desktops with their details, in the order of their creation.
func (s *Server) listDesktops(req *request, quirks quirkSet, now time.Time) (*answer, *refusal) {
	q, bad := parseQuery(req.rawQuery)
	if bad != nil {
		return nil, bad
	}
	matches := q.desktopFilter(quirks)
	field := q.text("sort_field", 255, "created", "computer_name")
	direction := q.text("sort_type", 255, "ASC", "DESC")
	limit, offset := q.number("limit", desktopsCap, desktopsMost), q.number("offset", 0, 1<<31-1)
	if q.err != nil {
		return nil, q.err
	}
	list := []Desktop{}
	for i, d := range s.world.desktops {
		if i == 0 && quirks.has(quirkListDeleted) {
			continue
		}
		v := d.view(now)
		if matches(v) {
			list = append(list, v)
		}
	}
	slices.SortStableFunc(list, func(a, b Desktop) int {
		c := cmp.Compare(a.Created, b.Created)
		if field == "computer_name" {
			c = cmp.Compare(a.ComputerName, b.ComputerName)
		}
		if direction == "DESC" {
			c = -c
		}
		return c
	})
	if quirks.has(quirkListRandomOrder) {
		//nolint:gosec // an order, no secret
		rand.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	}
	total, most := len(list), desktopsCap
	if quirks.has(quirkListTotalOfAll) {
		total = len(s.world.desktops)
	}
	if quirks.has(quirkListPagesCapped) {
		most = smallCap
	}
	shown := slices.Clone(page(list, offset, min(limit, most)))
	for i := range shown {
		shown[i].Notes, shown[i].SecurityGroups = nil, nil // the detail of one desktop alone has security groups
		if !quirks.has(quirkListPoolID) {
			shown[i].PoolID = ""
		}
	}
	return &answer{status: http.StatusOK, body: map[string]any{"desktops": shown, "total_count": total}}, nil
}

// desktopFilter reads the filters of the definitions.
func (p *params) desktopFilter(quirks quirkSet) func(Desktop) bool {
	ids := p.values["desktop_id"]
	if len(ids) > 100 {
		p.fail("Parameter desktop_id must have at most 100 items, it has %d.", len(ids))
	}
	if quirks.has(quirkListFirstID) && len(ids) > 1 {
		ids = ids[:1]
	}
	imageID, status, enterprise := p.text("image_id", 255), p.text("status", 255), p.text("enterprise_project_id", 36)
	subnet, computer, user := p.text("subnet_id", 255), p.text("computer_name", 255), p.text("user_name", 255)
	ip, kind := p.text("desktop_ip", 255), p.text("desktop_type", 255, "DEDICATED", "POOLED", "SHARED")
	tags, pools, charge := p.text("tag", 255), p.text("pool_id", 255), p.text("charge_mode", 1, "0", "1")
	attached, maintained := p.text("user_attached", 5, "true", "false"), p.text("in_maintenance_mode", 5, "true", "false")
	return func(d Desktop) bool {
		if quirks.has(quirkListUnfiltered) {
			return true
		}
		is := func(wanted, value string) bool { return wanted == "" || wanted == value }
		return (len(ids) == 0 || slices.Contains(ids, d.DesktopID)) &&
			is(imageID, d.Metadata[metaImageID]) && is(status, d.Status) && is(enterprise, d.EnterpriseProjectID) &&
			is(subnet, d.SubnetID) && is(computer, d.ComputerName) && is(user, d.UserName) && is(kind, d.DesktopType) &&
			(ip == "" || slices.Contains(d.IPAddresses, ip)) && (tags == "" || hasTags(d, tags)) &&
			(pools == "" || slices.Contains(strings.Split(pools, ","), d.PoolID)) &&
			(charge == "" || d.Product != nil && d.Product.ChargeMode == charge) &&
			is(attached, strconv.FormatBool(len(d.AttachUserInfos) > 0)) &&
			is(maintained, strconv.FormatBool(d.InMaintenanceMode))
	}
}

// hasTags reports whether a desktop has all the tags in the form key1=value1,key2=value2. Whether the comma is and or
// or is not known.
func hasTags(d Desktop, wanted string) bool {
	for pair := range strings.SplitSeq(wanted, ",") {
		key, value, _ := strings.Cut(pair, "=")
		if !slices.Contains(d.Tags, Tag{Key: key, Value: value}) {
			return false
		}
	}
	return true
}
