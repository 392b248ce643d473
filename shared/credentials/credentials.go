// Package credentials makes the Workspace credentials that the configuration describes.
package credentials

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"recompose/shared/config"
	"recompose/shared/workspace"
)

// Of returns the credentials of the configuration. It sends nothing: the first call that needs a token or keys fetches
// them. onCall, if not nil, is called after each request of such a fetch.
func Of(c *config.Config, onCall func(workspace.CallInfo)) (workspace.Auth, error) {
	switch {
	case c.ByLogin():
		auth, err := workspace.NewLogin(workspace.LoginOptions{
			Endpoint: c.IAM(), User: c.IAMUser, Password: string(c.IAMPassword), Domain: c.IAMDomain,
			ProjectID: c.ProjectID, OnCall: onCall,
		})
		if err != nil {
			return nil, fmt.Errorf("RECOMPOSE_IAM_USER: %w", err)
		}
		return auth, nil
	case c.ByAgency():
		auth, err := workspace.NewAgency(workspace.AgencyOptions{Endpoint: string(c.MetadataEndpoint), OnCall: onCall})
		if err != nil {
			return nil, fmt.Errorf("RECOMPOSE_AGENCY: %w", err)
		}
		return auth, nil
	case c.AuthToken != "":
		return workspace.Token(c.AuthToken), nil
	default:
		return workspace.AKSK{
			AccessKey: c.AK, SecretKey: string(c.SK), SecurityToken: string(c.SecurityToken),
		}, nil
	}
}

// Name identifies credentials without showing them: it is equal in all processes with the same credentials. The names
// of a login and an agency include version. A login that IAM has refused is not repeated, so a new version of its
// secret shows that IAM may accept it now; and an agency is that of one server.
func Name(a workspace.Auth, version string) string {
	var text string
	switch a := a.(type) {
	case workspace.AKSK:
		text = "recompose key\n" + a.AccessKey + "\n" + a.SecretKey + "\n" + a.SecurityToken
	case workspace.Token:
		text = "recompose token\n" + string(a)
	case *workspace.Renewing:
		text = a.Digest() + "\n" + version
	}
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:12])
}
