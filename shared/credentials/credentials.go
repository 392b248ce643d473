// Package credentials makes of the configuration what proves to the Workspace service who calls.
package credentials

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"recompose/shared/config"
	"recompose/shared/workspace"
)

// Of returns the proof that the configuration names. It sends nothing: a login or the metadata is asked by the first
// call that needs it. onCall, where it is not nil, is given each of these requests.
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

// Name names credentials: it is the same in all processes that have the same ones, and shows nothing of them. The version is
// part of the name of a login and of an agency. A login that IAM has refused is not repeated, and so its secret, put anew,
// is what shows that IAM may take it by now; and an agency is that of one server.
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
