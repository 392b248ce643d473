package functions_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
	"recompose/shared/emulator"
	"recompose/shared/ledger"
	"recompose/shared/safety"
	"recompose/shared/testkit/awstest"
)

// call is a call of AWS by a function.
type call struct {
	function, action string
	on               any      // the resource as the template names it
	keys             []string // of the table
}

func (c call) String() string {
	return fmt.Sprintf("%s: %s on %v %v", c.function, c.action, c.on, c.keys)
}

// guard is AWS with the roles of the template: it refuses what they do not allow.
type guard struct {
	*httptest.Server
	roles map[string][]any // statements by function

	mu      sync.Mutex
	refused []string
	used    map[string]bool // actions of functions
}

func newGuard(t *testing.T, k *cloud) *guard {
	t.Helper()
	g := &guard{roles: map[string][]any{}, used: map[string]bool{}}
	tp := readTemplate(t)
	for _, f := range functions.Routes() {
		d := deployed{Function: f, id: tp.id(t, f.Name)}
		d.resource = func(word string) any { return tp.at("Resources", d.id+word, "Properties") }
		g.roles[f.Name] = d.statements(t, tp)
	}
	to, err := url.Parse(k.URL)
	require.NoError(t, err)
	proxy := httputil.NewSingleHostReverseProxy(to)
	who := regexp.MustCompile(`Credential=([a-z]+)/`)
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		c := call{}
		if match := who.FindStringSubmatch(r.Header.Get("Authorization")); match != nil {
			c.function = match[1]
		}
		c.read(tp.id(t, c.function), r.Header.Get("X-Amz-Target"), body)
		if g.allows(c) {
			proxy.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"AccessDeniedException","message":"the role of the template does not allow it"}`)
	}))
	t.Cleanup(g.Close)
	return g
}

// read reads what a request asks for.
func (c *call) read(id, target string, body []byte) {
	type key struct {
		PK struct{ S string } `json:"pk"`
	}
	var in struct {
		QueueURL  string `json:"QueueUrl"`
		Key, Item key
		Items     map[string]struct{ Keys []key } `json:"RequestItems"`
	}
	service, action, isJSON := strings.Cut(target, ".")
	if !isJSON { // SNS has forms
		form, _ := url.ParseQuery(string(body))
		c.action, c.on = "sns:"+strings.TrimSuffix(form.Get("Action"), "Batch"), ref("Topic")
		return
	}
	_ = json.Unmarshal(body, &in)
	action = strings.Replace(action, "VisibilityBatch", "Visibility", 1)
	switch {
	case service == "AmazonSQS":
		word := "Queue"
		if strings.HasSuffix(in.QueueURL, "-dead") {
			word = "DeadLetterQueue"
		}
		c.action, c.on = "sqs:"+action, attribute(id+word, "Arn")
	case strings.HasPrefix(service, "DynamoDB"):
		c.action, c.on = "dynamodb:"+action, theTable
		keys := []key{in.Key, in.Item}
		for _, t := range in.Items {
			keys = append(keys, t.Keys...)
		}
		for _, k := range keys {
			if k.PK.S != "" {
				c.keys = append(c.keys, k.PK.S)
			}
		}
	default:
		c.action, c.on = service+":"+action, ref("SecretArn")
	}
}

func (g *guard) allows(c call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	allowed := false
	for _, s := range g.roles[c.function] {
		actions, many := at(s, "Action").([]any)
		if !many {
			actions = []any{at(s, "Action")}
		}
		if !slices.Contains(actions, any(c.action)) || !reflect.DeepEqual(at(s, "Resource"), c.on) || !c.meets(at(s, "Condition")) {
			continue
		}
		if at(s, "Effect") == "Deny" {
			allowed = false
			break
		}
		allowed = true
	}
	g.used[c.function+" "+c.action] = true
	if !allowed {
		g.refused = append(g.refused, c.String())
	}
	return allowed
}

// meets reports whether the keys of a call meet the condition of a statement.
func (c call) meets(condition any) bool {
	operators, _ := condition.(map[string]any)
	for operator, of := range operators {
		patterns := at(of, "dynamodb:LeadingKeys")
		matches := 0
		for _, key := range c.keys {
			many, _ := patterns.([]any)
			if slices.ContainsFunc(many, func(p any) bool { return like(p, key) }) {
				matches++
			}
		}
		switch {
		case operator == "Null" && patterns == "false":
			if len(c.keys) == 0 {
				return false
			}
		case operator == "ForAllValues:StringLike":
			if matches < len(c.keys) {
				return false
			}
		case operator == "ForAnyValue:StringLike":
			if matches == 0 {
				return false
			}
		default: // of the secret's key, which is no part of the call
		}
	}
	return true
}

// unused returns the rights that no function has used, without those that Lambda itself needs.
func (g *guard) unused() (unused []string) {
	ofPrograms := regexp.MustCompile(`^(dynamodb|sns|secretsmanager):`)
	for function, statements := range g.roles {
		for _, s := range statements {
			actions, many := at(s, "Action").([]any)
			if !many {
				actions = []any{at(s, "Action")}
			}
			for _, a := range actions {
				right := function + " " + a.(string)
				if at(s, "Effect") == "Allow" && ofPrograms.MatchString(a.(string)) && !g.used[right] {
					unused = append(unused, right)
				}
			}
		}
	}
	return unused
}

// start runs a function's program with its role.
func (g *guard) start(t *testing.T, k *cloud, name string) *awstest.Sandbox {
	t.Helper()
	return k.start(t, name, map[string]string{"AWS_ENDPOINT_URL": g.URL, "AWS_ACCESS_KEY_ID": name})
}

// The real programs do all their work with the rights of their roles, and use each: a chain, each read, a rollout, messages that are
// given up on, a refused key and a loss of the ledger.
func TestTheRolesAllowWhatTheProgramsCall(t *testing.T) {
	t.Parallel()
	k := newCloud(t, emulator.Options{Desktops: 5, Speed: 2000})
	g := newGuard(t, k)
	ids := k.world.DesktopIDs()
	_, err := k.operators(t).SetList(t.Context(), safety.AllowList, ids, "ada@host")
	require.NoError(t, err)
	all := map[string]*awstest.Sandbox{}
	for _, name := range functions.Names() {
		all[name] = g.start(t, k, name)
	}
	k.serve(t, all)
	for range 2 { // a second delivery reads the record
		for name, data := range map[string]any{
			events.FnDesktopToImage: map[string]any{
				"image_name": "golden", "desktop_id": ids[0], "execute_sysprep": true,
				"then": map[string]any{"rebuild": map[string]any{"desktop_ids": ids[1:]}},
			},
			events.FnGetDesktop: events.GetDesktop{DesktopID: ids[1]}, events.FnListDesktops: events.ListDesktops{},
			events.FnListImages: events.ListImages{}, events.FnCheckImages: events.CheckImages{DesktopIDs: ids},
		} {
			k.Publish(command(t, name, "the "+name, data).Body, map[string]string{"type": events.CommandType(name)})
		}
	}
	for _, typ := range []string{
		events.TypeJobCompleted, events.TypeImagesChecked, events.TypeDesktopDescribed, events.TypeDesktopsListed, events.TypeImagesListed,
	} {
		k.until(t, typ)
	}
	spec, _ := k.smallRollout(t, "small")
	k.rolloutCommand(t, events.TypeRolloutStart, "start", events.RolloutCommand{Spec: spec})
	k.until(t, events.TypeRolloutCompleted)
	for _, s := range all {
		require.Empty(t, invoke(t, s, time.Minute, recordOf(events.FnWatchJob, "m", `{"specversion": "1.0", "id": ""}`)))
	}
	require.Empty(t, g.refused)

	k.Empty("recompose")
	require.Empty(t, invoke(t, g.start(t, k, events.FnWatchJob), time.Minute, k.accepted(t)))
	require.ErrorIs(t, k.ledger(t).Fit(t.Context(), ""), ledger.ErrLost, "watchjob has recorded it")
	k.SetSecret(testSecret, fmt.Sprintf(`{"AK": %q, "SK": "not-the-key-0001"}`, emulator.DefaultAccessKey))
	for _, f := range functions.Routes() {
		if f.NoCalls || f.Name == events.FnWatchJob {
			continue
		}
		_, refusal, err := k.ledger(t).Values().Get(t.Context(), safety.KeyKey)
		if err == nil {
			require.NoError(t, k.ledger(t).Values().Delete(t.Context(), safety.KeyKey, refusal))
		}
		require.Empty(t, invoke(t, g.start(t, k, f.Name), time.Minute, command(t, f.Name, "late", map[string]any{})))
		_, _, err = k.ledger(t).Values().Get(t.Context(), safety.KeyKey)
		require.NoError(t, err, "%s has recorded that the key is refused", f.Name)
	}
	require.Empty(t, g.refused)
	require.Empty(t, g.unused())
}
