// Package listdesktops lists desktops: those that are named, those that match filters, or all.
//
//	recompose.command.listdesktops.v1 ─▶ GET /v2/{project_id}/desktops/detail ─▶ desktops.listed, an event a page
package listdesktops

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/verdict"
	"recompose/shared/workspace"
)

// API is the call that this function makes.
type API interface {
	ProjectID() string
	ListDesktops(ctx context.Context, q workspace.DesktopsQuery) (workspace.Desktops, error)
	FindDesktops(ctx context.Context, ids []string) (workspace.Desktops, error)
	CountDesktops(ctx context.Context, q workspace.DesktopsQuery) (int64, error)
}

// How often the list is read in another delivery if it changes while it is read, or if the rate limit ends the reading.
const (
	attempts  = 4
	firstWait = 10 * time.Second
	longest   = time.Minute
)

// New makes the function. A second delivery of a command publishes the pages of the first.
func New(api API, engine *once.Engine) queue.Function {
	return engine.Read(queue.Function{
		Name:  events.FnListDesktops,
		Types: []string{events.TypeListDesktops},
		Handle: func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
			cmd, err := events.DecodeListDesktops(c.Envelope.Data)
			if err != nil {
				return nil, queue.Invalid(err)
			}
			if err := queue.CheckProject(cmd.ProjectID, api.ProjectID()); err != nil {
				return nil, err
			}
			begun := engine.Now().UTC()
			answer, err := read(ctx, api, cmd)
			if err != nil {
				return nil, failed(err, len(answer.Desktops), c.Failures, engine)
			}
			if answer, err = samePool(ctx, api, cmd, answer); err != nil {
				return nil, failed(err, 0, c.Failures, engine)
			}
			if !answer.Complete {
				return nil, incomplete(len(answer.Desktops), c.Failures, engine)
			}
			return publish(c, cmd, begun, answer.Desktops, engine.Config.BlankPersonal)
		},
	}, kept)
}

// read reads the desktops that may match the command. Named desktops are read without the filters: whether one exists
// does not depend on them.
func read(ctx context.Context, api API, cmd events.ListDesktops) (workspace.Desktops, error) {
	if len(cmd.DesktopIDs) > 0 {
		return api.FindDesktops(ctx, cmd.DesktopIDs)
	}
	return api.ListDesktops(ctx, query(cmd))
}

func query(cmd events.ListDesktops) workspace.DesktopsQuery {
	return workspace.DesktopsQuery{
		ImageID: cmd.ImageID, Status: strings.ToUpper(cmd.Status), EnterpriseProjectID: cmd.EnterpriseProjectID,
		PoolID: cmd.PoolID, ComputerName: cmd.ComputerName, UserAttached: cmd.UserAttached,
	}
}

// samePool sets the pool of the desktops if the service names it for none of them. They are in the pool only if the
// service has applied the filter, and that is certain only if there are more desktops without it.
func samePool(
	ctx context.Context, api API, cmd events.ListDesktops, answer workspace.Desktops,
) (workspace.Desktops, error) {
	named := func(d workspace.ListedDesktop) bool { return d.PoolID != "" }
	if cmd.PoolID == "" || !answer.Complete || slices.ContainsFunc(answer.Desktops, named) || len(answer.Desktops) == 0 {
		return answer, nil
	}
	others := query(cmd)
	others.PoolID = ""
	all := int64(-1)
	if answer.Filtered {
		var err error
		if all, err = api.CountDesktops(ctx, others); err != nil {
			return answer, err
		}
	}
	if all <= int64(len(answer.Desktops)) {
		return answer, queue.Failed(events.KindBadAnswer, "pool_id: the service does not name the pool of %d desktops, "+
			"and does not show that it applies the filter; list by image_id or tags instead", len(answer.Desktops))
	}
	for i := range answer.Desktops {
		answer.Desktops[i].PoolID = cmd.PoolID
	}
	return answer, nil
}

// failed is the verdict on an error after some rows. Our own rate limit delays a command without an end, except for one
// whose reading had begun: it would begin anew each time.
func failed(err error, rows, failures int, engine *once.Engine) error {
	if queue.IsVerdict(err) {
		return err
	}
	if rows > 0 && errors.Is(err, workspace.ErrLimited) {
		if failures < attempts {
			return queue.RetryFailed(engine.Paced(verdict.Backoff(failures, firstWait, longest)), err)
		}
		return queue.Failed(events.KindThrottled, "the rate limit of this worker ended %d readings of the list, the last "+
			"after %d desktops; raise RECOMPOSE_READS_PER_MINUTE or use filters: %v", failures+1, rows, err)
	}
	return queue.DividedBy(verdict.Read(err, failures), engine.Config.Pace)
}

// incomplete is the verdict on a list of which it is not certain that it has all desktops.
func incomplete(rows, failures int, engine *once.Engine) error {
	if failures < attempts {
		return queue.RetryFailed(engine.Paced(verdict.Backoff(failures, firstWait, longest)),
			fmt.Errorf("the list of desktops changes while it is read: %d rows", rows))
	}
	return queue.Failed(events.KindBadAnswer, "the list of desktops has %d rows and is not complete, in %d attempts of up "+
		"to 4 readings: its total_count differs or changes; send the command later, or name desktop_ids", rows, failures+1)
}

// publish returns the pages of the rows that match.
func publish(
	c queue.Command, cmd events.ListDesktops, begun time.Time, desktops []workspace.ListedDesktop, blank bool,
) ([]queue.Outcome, error) {
	rows := make([]events.DesktopRow, 0, len(desktops))
	there := make(map[string]bool, len(desktops))
	for _, d := range desktops {
		there[d.DesktopID] = true
		if d.DesktopID != "" && matches(cmd, d) {
			rows = append(rows, rowOf(d, cmd.Fields, blank))
		}
	}
	var missing []string
	for _, id := range cmd.DesktopIDs {
		if !there[id] {
			missing = append(missing, id)
		}
	}
	pages, err := events.Pages(rows)
	if err != nil {
		return nil, queue.Permanent(err)
	}
	outcomes := make([]queue.Outcome, len(pages))
	for i, page := range pages {
		data := events.DesktopsListed{Command: c.Ref(), Page: i + 1, Desktops: page, ReadAt: begun}
		about := append(c.AboutData("desktops.listed"), strconv.Itoa(i+1))
		if data.Last = i == len(pages)-1; data.Last {
			data.Total, data.Missing = len(rows), missing
			about = about[:len(about)-1]
		}
		outcomes[i] = queue.Outcome{Type: events.TypeDesktopsListed, About: about, Data: data}
	}
	return outcomes, nil
}

// matches checks every filter: the service may have ignored it. What is not known does not match.
func matches(cmd events.ListDesktops, d workspace.ListedDesktop) bool {
	if attached := d.Attached(); cmd.UserAttached != nil && (attached == nil || *attached != *cmd.UserAttached) {
		return false
	}
	for key, value := range cmd.Tags {
		if !slices.ContainsFunc(d.Tags, func(t workspace.Tag) bool { return t.Key == key && t.Value == value }) {
			return false
		}
	}
	same := func(wanted, value string) bool {
		return wanted == "" || strings.EqualFold(wanted, strings.TrimSpace(value))
	}
	return same(cmd.ImageID, d.ImageID()) &&
		(cmd.PoolID == "" || cmd.PoolID == d.PoolID) &&
		(cmd.EnterpriseProjectID == "" || project(cmd.EnterpriseProjectID) == project(d.EnterpriseProjectID)) &&
		same(cmd.Status, d.Status) && same(cmd.ComputerName, d.ComputerName)
}

// project is the id of an enterprise project; the default project is "0" or "".
func project(id string) string {
	if id == "0" {
		return ""
	}
	return id
}
