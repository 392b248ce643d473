package workspace

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// MaxCheckImages is the greatest number of desktops in one check-images call (definitions).
const MaxCheckImages = 500

// ImageInfo is DesktopImageInfo: the entry of one desktop in the answer of check-images. ImageID is empty if the image
// no longer exists. The whole entry may be missing as well, and an entry may name a desktop that was not requested. So
// index the answer by DesktopID, and treat a desktop without an entry as unknown. DesktopID has the letter case of the
// request. Source: vendor page.
type ImageInfo struct {
	DesktopID string `json:"desktop_id"`
	ImageID   string `json:"image_id"`
	ImageName string `json:"image_name"`
	ImageType string `json:"image_type"` // an open set: gold, private, market, shared, …
	OSType    string `json:"os_type"`    // compare with SameOSType
	Extra     Extra  `json:"-"`
}

// CheckImages returns which image each of 1 to 500 desktops runs, in one call. It is a read although it is a POST and
// counts towards the write rate; it may be repeated. The entries are as received: unsorted, possibly several for a
// desktop, and possibly for desktops that were not requested.
func (c *Client) CheckImages(ctx context.Context, desktopIDs []string) ([]ImageInfo, error) {
	a, err := c.checkImages(ctx, desktopIDs)
	if err != nil {
		return nil, err
	}
	infos, err := decodeCheckImages(a.body)
	if err != nil {
		return nil, c.badAnswer(a, err)
	}
	asked := askedAs(desktopIDs)
	for i := range infos {
		infos[i].DesktopID = asked(infos[i].DesktopID)
	}
	return infos, nil
}

// askedAs returns a function that gives an id of an answer the letter case in which it was requested: the service may
// write it in another one.
func askedAs(requested []string) func(id string) string {
	asked := make(map[string]string, len(requested))
	for _, id := range requested {
		asked[strings.ToLower(id)] = id
	}
	return func(id string) string { return cmp.Or(asked[strings.ToLower(id)], id) }
}

// ImageDescription is an ImageInfo in the one form in which it is published. DesktopID has the letter case of the request,
// and JSON that of the answer.
type ImageDescription struct {
	DesktopID, ImageID string
	JSON               json.RawMessage
}

// DescribeImages is CheckImages for a caller that publishes the answer, see [Client.DescribeDesktop].
func (c *Client) DescribeImages(ctx context.Context, desktopIDs []string) ([]ImageDescription, error) {
	a, err := c.checkImages(ctx, desktopIDs)
	if err != nil {
		return nil, err
	}
	asked := askedAs(desktopIDs)
	if described, ok := copyImages(a.body); ok {
		for i := range described {
			described[i].DesktopID = asked(described[i].DesktopID)
		}
		return described, nil
	}
	infos, err := decodeCheckImages(a.body)
	if err != nil {
		return nil, c.badAnswer(a, err)
	}
	described := make([]ImageDescription, len(infos))
	for i, info := range infos {
		raw, err := encodeObject(info)
		if err != nil {
			return nil, fmt.Errorf("write the image of desktop %s: %w", printable(info.DesktopID), err)
		}
		described[i] = ImageDescription{DesktopID: asked(info.DesktopID), ImageID: info.ImageID, JSON: raw}
	}
	return described, nil
}

func (c *Client) checkImages(ctx context.Context, desktopIDs []string) (answer, error) {
	const op = "check-images"
	if err := checkIDs(desktopIDs, MaxCheckImages, true); err != nil {
		return answer{}, invalid(op, err)
	}
	body, err := encodeBody(struct {
		DesktopIDs []string `json:"desktop_ids"`
	}{desktopIDs})
	if err != nil {
		return answer{}, invalid(op, err)
	}
	return c.do(ctx, call{operation: op, method: http.MethodPost, path: []string{"desktops", "check-images"}, body: body})
}

func decodeCheckImages(body []byte) ([]ImageInfo, error) {
	fields, err := answerFields(body)
	if err != nil {
		return nil, err
	}
	raw, given := fields["image_infos"]
	if !given {
		return nil, errEmpty
	}
	return decodeList[ImageInfo]("image_infos", raw)
}

// Image is ImageInfo of the list of images: an image that desktops can be made from. It has no status, description,
// tags or source desktop. Source: definitions; CreatedAt and KMSID are from the Go SDK.
type Image struct {
	ID           string `json:"id"`
	Name         string `json:"name"`
	ImageType    string `json:"image_type"`   // gold, private
	OSType       string `json:"os_type"`      // Linux, Windows, Other; compare with SameOSType
	Architecture string `json:"architecture"` // arm, x86
	OSVersion    string `json:"os_version"`
	DiskFormat   string `json:"disk_format"` // vhd, raw, qcow2, zvhd2
	MinRAM       *int64 `json:"min_ram"`     // MB
	MinDisk      *int64 `json:"min_disk"`    // GB
	ProductCode  string `json:"product_code"`
	CreatedAt    Time   `json:"created_at"`
	KMSID        string `json:"kms_id"`
	Extra        Extra  `json:"-"`
}

// ImagesQuery filters [Client.ListImages]; empty fields are not sent. There is no filter by name, and others are not used. Source: definitions;
// the sort fields are from the Go SDK.
type ImagesQuery struct {
	ImageType string // gold or private; market images are not listed here
	ImageID   string
	SortField string // name, created_at
	SortType  string // asc, desc
}

// Images is the answer to [Client.ListImages].
type Images struct {
	Images []Image
	// Complete reports whether it is certain that nothing is missing. Never conclude from an image's absence without it.
	Complete bool
	// Date is the service's clock at the first page, zero if a page came without one.
	Date time.Time
}

// ListImages lists images. It reads pages of 100 up to the service's last offset, 5,000. It may be repeated. An image
// that appears on two pages is listed once.
func (c *Client) ListImages(ctx context.Context, q ImagesQuery) (Images, error) {
	query := url.Values{}
	for name, value := range map[string]string{
		"image_type": q.ImageType, "image_id": q.ImageID, "sort_field": q.SortField, "sort_type": q.SortType,
	} {
		if value != "" {
			query.Set(name, value)
		}
	}
	l, err := listAll(ctx, c, listing[Image]{
		call:   call{operation: "list-images", method: http.MethodGet, path: []string{"images"}, query: query},
		decode: decodeImages, id: func(i Image) string { return i.ID }, limit: 100, lastOffset: 5000,
	})
	return Images{Images: l.items, Complete: l.complete, Date: l.date}, err
}

func decodeImages(body []byte) (page[Image], error) { return decodePage[Image](body, "images") }

// decodeList reads a list of objects; null is an empty list.
func decodeList[T any](name string, raw json.RawMessage) ([]T, error) {
	elements, err := list(raw)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	out := make([]T, 0, len(elements))
	for i, element := range elements {
		if isNull(element) {
			continue
		}
		var item T
		if err := decodeObject(element, &item); err != nil {
			return nil, fmt.Errorf("%s[%d]: %w", name, i, err)
		}
		out = append(out, item)
	}
	return out, nil
}
