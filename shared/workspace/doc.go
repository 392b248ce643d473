// Package workspace is a client of the Huawei Cloud Workspace REST API: the calls that capture a cloud desktop as an
// image, rebuild desktops from an image, and look at desktops, images and jobs.
//
// Two of its calls change something and cannot be taken back: [Client.DesktopToImage] and [Client.Rebuild]. The service
// gives them no client token, so this package never sends either twice by itself: no retry, no redirect, no replay by
// net/http. Each is signed with a date that the caller chooses and keeps, because the age of a signature is the only
// thing by which the service refuses a request that was delayed. After an error, [Error.MayHaveExecuted] tells whether
// it is certain that nothing was done.
//
// All other calls only read and may be repeated at will.
//
// Answers are read tolerantly: the vendor's own pages disagree with its definitions, and both with what was observed.
// Whatever form came in, marshalling gives one form; fields that this package does not know are kept in Extra and
// passed on under their names. A field whose value cannot be what it should be (an object where a text belongs) is left
// empty and kept in Extra as well. Nothing is refused for its length or range.
//
// Where comments name a source: "vendor page" is one of the published API pages, "definitions" the OpenAPI
// definitions of the service, "Go SDK" huaweicloud-sdk-go-v3, "Terraform" the observed behaviour of
// terraform-provider-huaweicloud.
package workspace
