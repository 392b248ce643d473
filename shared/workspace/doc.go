// Package workspace is a client of the Huawei Cloud Workspace REST API: the calls that capture a cloud desktop as an
// image, rebuild desktops from an image, and look at desktops, images and jobs.
//
// Two of its calls change something and cannot be undone: [Client.DesktopToImage] and [Client.Rebuild]. The service
// has no client token for them, so this package never sends either twice by itself: no retry, no redirect, no replay
// by net/http. Each is signed with a date that the caller chooses and keeps, because the service refuses a delayed
// request only by the age of its signature. After an error, [Error.MayHaveExecuted] reports whether the service may
// have executed the call.
//
// All other calls only read and may be repeated.
//
// Answers are read tolerantly: the vendor's own pages disagree with its definitions, and both disagree with observed
// answers. Marshalling gives one form, whichever form was received; fields that this package does not know are kept in
// Extra and written back under their names. A field whose value has the wrong type (an object in place of a string) is
// left empty and kept in Extra as well. No value is refused for its length or range.
//
// Where comments name a source: "vendor page" is one of the published API pages, "definitions" the OpenAPI
// definitions of the service, "Go SDK" huaweicloud-sdk-go-v3, "Terraform" the observed behaviour of
// terraform-provider-huaweicloud.
package workspace
