package emulator

import (
	"cmp"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Wrong passwords in a row lock the user.
const (
	lockUserAfter = 5
	lockUserFor   = 15 * time.Minute
)

// issuedToken is a token that the token call issued.
type issuedToken struct {
	Token   string    `json:"token"`
	Expires time.Time `json:"expires"`
}

// loginRequest is the part of IAM's login request that is read.
type loginRequest struct {
	Auth struct {
		Identity struct {
			Methods  []string `json:"methods"`
			Password struct {
				User struct {
					Name     string `json:"name"`
					Password string `json:"password"`
					Domain   struct {
						Name string `json:"name"`
					} `json:"domain"`
				} `json:"user"`
			} `json:"password"`
		} `json:"identity"`
		Scope struct {
			Project struct {
				Name string `json:"name"`
				ID   string `json:"id"`
			} `json:"project"`
		} `json:"scope"`
	} `json:"auth"`
}

// iamError is IAM's own envelope.
func iamError(status int, title, message string) *answer {
	return &answer{status: status, body: map[string]any{
		"error": map[string]any{"code": status, "message": message, "title": title},
	}}
}

// login issues a token for the configured name and password. Any project name is treated as this project; an id must
// be this project's.
func (s *Server) login(req *request, now time.Time) *answer {
	var in loginRequest
	if err := json.Unmarshal(req.body, &in); err != nil {
		return iamError(http.StatusBadRequest, "Bad Request", "The request body is invalid.")
	}
	user, project := in.Auth.Identity.Password.User, in.Auth.Scope.Project
	if !slices.Contains(in.Auth.Identity.Methods, "password") {
		return iamError(http.StatusBadRequest, "Bad Request", "The method password is missing.")
	}
	if user.Name != s.cfg.IAMUser || user.Domain.Name != s.cfg.IAMDomain {
		return iamError(http.StatusUnauthorized, "Unauthorized", "The username or password is wrong.")
	}
	if now.Before(s.user.LockedUntil) {
		return iamError(http.StatusUnauthorized, "Unauthorized", "The user is locked.")
	}
	if subtle.ConstantTimeCompare([]byte(user.Password), []byte(s.cfg.IAMPassword)) != 1 {
		ans := iamError(http.StatusUnauthorized, "Unauthorized", "The username or password is wrong.")
		ans.user = &keyState{Failures: s.user.Failures + 1}
		if ans.user.Failures >= lockUserAfter {
			ans.user = &keyState{LockedUntil: now.Add(lockUserFor)}
		}
		return ans
	}
	if project.ID != "" && project.ID != s.cfg.ProjectID || project.ID == "" && project.Name == "" {
		return iamError(http.StatusUnauthorized, "Unauthorized", "The token must be scoped to a project of the user.")
	}
	token := issuedToken{Token: "MIIEmulated" + strings.Repeat(randomHex(), 64), Expires: now.Add(s.cfg.TokenLifetime)}
	var unlocked *keyState
	if s.user != (keyState{}) {
		unlocked = &keyState{}
	}
	domain := map[string]string{"id": plainID("domain", 0), "name": s.cfg.IAMDomain}
	return &answer{
		status: http.StatusCreated,
		header: map[string]string{"X-Subject-Token": token.Token},
		token:  &token,
		user:   unlocked,
		body: map[string]any{"token": map[string]any{
			"methods":    []string{"password"},
			"issued_at":  now.UTC().Format("2006-01-02T15:04:05.000000Z"),
			"expires_at": token.Expires.UTC().Format("2006-01-02T15:04:05.000000Z"),
			"project":    map[string]any{"id": s.cfg.ProjectID, "name": cmp.Or(project.Name, "emulated-1"), "domain": domain},
			"user":       map[string]any{"id": plainID("iam-user", 0), "name": s.cfg.IAMUser, "domain": domain},
			"roles":      []any{},
			"catalog":    []any{},
		}},
	}
}
