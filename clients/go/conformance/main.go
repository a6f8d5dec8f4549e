// Command conformance carries out script.json with the client one folder up; README.md of clients/ says what each step
// means.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	swarmd "swarmd.example/client"
	"swarmd.example/client/generated/swarmpb"
)

// object is an object of JSON: values of requests, results, expectations.
type object = map[string]any

// step is one step of the script, without the values that go into its requests as they are: those are in all.
type step struct {
	Do              string   `json:"do"`
	Name            string   `json:"name"`
	Only            string   `json:"only"`
	Expect          object   `json:"expect"`
	ExpectError     object   `json:"expect_error"`
	RetrySeconds    float64  `json:"retry_seconds"`
	DeadlineSeconds *float64 `json:"deadline_seconds"`
	WithoutToken    bool     `json:"without_token"`
	SwarmID         string   `json:"swarm_id"`
	RequestID       string   `json:"request_id"`
	Chunks          []object `json:"chunks"`
	Messages        []object `json:"messages"`
	SaveBatches     string   `json:"save_batches"`
	SameBatchesAs   string   `json:"same_batches_as"`
	After           string   `json:"after"`
	ReadChanges     *int     `json:"read_changes"`
	UntilFinished   bool     `json:"until_finished"`
	SaveRevision    string   `json:"save_revision"`

	all object
}

// run is one run of the script.
type run struct {
	client, withoutToken *swarmd.Client
	input                *bufio.Reader
	revisions            map[string]int64
	batches              map[string][]string
}

// wrong is an error of a step whose calls went well and gave something that they should not.
type wrong string

func (w wrong) Error() string { return string(w) }

func main() {
	failed, err := carryOutAll()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if failed || err != nil {
		os.Exit(1)
	}
}

func carryOutAll() (failed bool, err error) {
	if len(os.Args) != 2 {
		return false, errors.New("usage: conformance SCRIPT")
	}
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return false, err
	}
	var script struct{ Steps []json.RawMessage }
	if err := json.Unmarshal(text, &script); err != nil {
		return false, err
	}
	config, err := swarmd.ConfigFromEnvironment()
	if err != nil {
		return false, err
	}
	r := &run{input: bufio.NewReader(os.Stdin), revisions: map[string]int64{}, batches: map[string][]string{}}
	if r.client, err = swarmd.Connect(config); err != nil {
		return false, err
	}
	transport := "tcp"
	if strings.HasPrefix(config.Address, "unix:") {
		transport = "unix"
	}
	config.Token = ""
	if r.withoutToken, err = swarmd.Connect(config); err != nil {
		return false, err
	}
	for _, text := range script.Steps {
		var s step
		err := errors.Join(json.Unmarshal(text, &s), json.Unmarshal(text, &s.all))
		if s.Only != "" && s.Only != transport {
			continue
		}
		if err == nil {
			err = r.carryOut(&s)
		}
		if err != nil {
			failed = true
			fmt.Printf("failed %s: %v\n", s.Name, err)
		} else {
			fmt.Printf("ok %s\n", s.Name)
		}
	}
	return failed, nil
}

// carryOut fails when the step does not come to what it should.
func (r *run) carryOut(s *step) error {
	patience, cancel := context.WithTimeout(context.Background(), seconds(s.RetrySeconds))
	defer cancel()
	result, err := swarmd.Retry(patience, func() (object, error) {
		limit := 30 * time.Second
		if s.DeadlineSeconds != nil {
			limit = seconds(*s.DeadlineSeconds)
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		return r.act(ctx, s)
	})
	var w wrong
	if errors.As(err, &w) {
		return err
	}
	if err != nil {
		failure := swarmd.FailureOf(err)
		if s.ExpectError == nil {
			return fmt.Errorf("it failed with %+v", failure)
		}
		got := object{
			"code": failure.Code, "reason": failure.Reason, "domain": failure.Domain, "field": failure.Field,
		}
		if found := difference(s.ExpectError, got, ""); found != "" {
			return fmt.Errorf("%s: it failed with %+v", found, failure)
		}
		return nil
	}
	if s.ExpectError != nil {
		return fmt.Errorf("it went well: %v", result)
	}
	// As JSON and back, so that numbers and lists are of the types that those of the script are.
	var plain any
	text, err := json.Marshal(result)
	if err := errors.Join(err, json.Unmarshal(text, &plain)); err != nil {
		return err
	}
	if found := difference(s.Expect, plain, ""); found != "" {
		return wrong(found)
	}
	return nil
}

func (r *run) act(ctx context.Context, s *step) (object, error) {
	client := r.client
	if s.WithoutToken {
		client = r.withoutToken
	}
	switch s.Do {
	case "create_swarm":
		return createSwarm(ctx, client, s)
	case "get_swarm":
		return getSwarm(ctx, client, s)
	case "list_swarms":
		return listSwarms(ctx, client)
	case "delete_swarm":
		_, err := client.Swarms.DeleteSwarm(ctx, &swarmpb.DeleteSwarmRequest{SwarmId: s.SwarmID})
		return object{}, err
	case "add_tasks":
		return addTasks(ctx, client, s)
	case "has_work":
		return hasWork(ctx, client, s)
	case "tick":
		return r.tick(ctx, client, s)
	case "apply_updates":
		return applyUpdates(ctx, client, s)
	case "watch":
		return r.watch(ctx, client, s)
	case "restart":
		fmt.Println("restart")
		if _, err := r.input.ReadString('\n'); err != nil {
			return nil, wrong("nobody said that the daemon is back")
		}
		return object{}, nil
	}
	return nil, wrong(fmt.Sprintf("%q is nothing that this client knows to do", s.Do))
}

func createSwarm(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	request := &swarmpb.CreateSwarmRequest{}
	if err := fill(request, s.all, "swarm", "request_id"); err != nil {
		return nil, err
	}
	answer, err := client.Swarms.CreateSwarm(ctx, request)
	if err != nil {
		return nil, err
	}
	swarm := answer.GetSwarm()
	return object{
		"swarm_id":                 swarm.GetSwarmId(),
		"max_concurrently_running": swarm.GetMaxConcurrentlyRunning(),
		"workflow_run_status":      short(swarm.GetWorkflowRunStatus()),
	}, nil
}

func getSwarm(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	answer, err := client.Swarms.GetSwarm(ctx, &swarmpb.GetSwarmRequest{SwarmId: s.SwarmID})
	if err != nil {
		return nil, err
	}
	counts := answer.GetSwarm().GetTaskCounts()
	return object{
		"total":   counts.GetTotal(),
		"done":    counts.GetDone(),
		"ready":   counts.GetReady(),
		"active":  counts.GetActive(),
		"outcome": short(answer.GetSwarm().GetOutcome()),
	}, nil
}

func listSwarms(ctx context.Context, client *swarmd.Client) (object, error) {
	answer, err := client.Swarms.ListSwarms(ctx, &swarmpb.ListSwarmsRequest{})
	if err != nil {
		return nil, err
	}
	ids := []string{}
	for _, swarm := range answer.GetSwarms() {
		ids = append(ids, swarm.GetSwarmId())
	}
	return object{"swarm_ids": ids}, nil
}

func addTasks(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	var chunks []*swarmpb.AddTasksRequest
	for _, values := range s.Chunks {
		chunk := &swarmpb.AddTasksRequest{}
		if err := fill(chunk, values); err != nil {
			return nil, err
		}
		chunks = append(chunks, chunk)
	}
	answer, err := client.AddTasks(ctx, s.SwarmID, s.RequestID, slices.Values(chunks))
	if err != nil {
		return nil, err
	}
	return object{
		"task_count":           answer.GetTaskCount(),
		"array_count":          answer.GetArrayCount(),
		"task_resources_count": answer.GetTaskResourcesCount(),
		"newly_ready_count":    answer.GetNewlyReadyCount(),
	}, nil
}

func hasWork(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	request := &swarmpb.HasWorkRequest{}
	if err := fill(request, s.all, "swarm_id", "wait_seconds"); err != nil {
		return nil, err
	}
	answer, err := client.Scheduler.HasWork(ctx, request)
	if err != nil {
		return nil, err
	}
	return object{
		"has_work":           answer.GetHasWork(),
		"ready_to_run_count": answer.GetReadyToRunCount(),
		"available_capacity": answer.GetAvailableCapacity(),
		"active_count":       answer.GetActiveCount(),
		"finished":           answer.GetFinished(),
	}, nil
}

func (r *run) tick(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	request := &swarmpb.TickRequest{}
	if err := fill(request, s.all, "swarm_id", "request_id", "view", "timeout_seconds"); err != nil {
		return nil, err
	}
	answer, err := client.Scheduler.Tick(ctx, request)
	if err != nil {
		return nil, err
	}
	batchIDs, batches, queued := []string{}, []object{}, []string{}
	for _, batch := range answer.GetBatches() {
		commands := []string{}
		for _, task := range batch.GetTasks() {
			commands = append(commands, task.GetCommand())
		}
		batchIDs = append(batchIDs, batch.GetBatchId())
		batches = append(batches, object{
			"array_id": text(batch.GetArrayId()),
			"task_ids": texts(batch.GetTaskIds()),
			"attempts": batch.GetAttempts(),
			"commands": commands,
		})
	}
	for _, group := range answer.GetUpdate().GetTaskStatuses() {
		if group.GetStatus() == swarmpb.TaskStatus_TASK_STATUS_QUEUED {
			queued = append(queued, texts(group.GetTaskIds())...)
		}
	}
	if s.SaveBatches != "" {
		r.batches[s.SaveBatches] = batchIDs
	}
	if s.SameBatchesAs != "" {
		if before, ok := r.batches[s.SameBatchesAs]; !ok || !slices.Equal(before, batchIDs) {
			return nil, wrong(fmt.Sprintf("the batches are %v, not %v", batchIDs, before))
		}
	}
	return object{
		"batches":            batches,
		"queued":             queued,
		"ready_to_run_count": answer.GetReadyToRunCount(),
		"timed_out":          answer.GetTimedOut(),
	}, nil
}

func applyUpdates(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	var updates []*swarmpb.ApplyUpdateRequest
	for _, values := range s.Messages {
		update, changes := &swarmpb.ApplyUpdateRequest{}, &swarmpb.StateUpdate{}
		err := errors.Join(fill(update, values, "sequence"), fill(changes, values, "task_statuses"))
		if err != nil {
			return nil, err
		}
		update.Update = changes
		updates = append(updates, update)
	}
	// The script wants all of them to be sent before an answer is read; a program would read at once.
	sent := make(chan struct{})
	stream := client.ApplyUpdates(ctx, s.SwarmID, func(yield func(*swarmpb.ApplyUpdateRequest) bool) {
		defer close(sent)
		slices.Values(updates)(yield)
	})
	select {
	case <-sent:
	case <-ctx.Done():
	}
	answers := []object{}
	for answer, err := range stream {
		if err != nil {
			return nil, err
		}
		answers = append(answers, updateAnswer(answer))
	}
	return object{"answers": answers}, nil
}

func updateAnswer(answer *swarmpb.ApplyUpdateResponse) object {
	result := object{
		"sequence":          text(answer.GetSequence()),
		"changed_count":     answer.GetChangedCount(),
		"newly_ready_count": answer.GetNewlyReadyCount(),
	}
	if failure := answer.GetError(); failure != nil {
		result["error"] = object{"code": code.Code(failure.GetCode()).String(), "reason": failure.GetReason()}
	}
	if len(answer.GetIgnored()) > 0 {
		ignored := []object{}
		for _, news := range answer.GetIgnored() {
			ignored = append(ignored, object{
				"task_ids": texts(news.GetTaskIds()),
				"status":   short(news.GetStatus()),
				"reason":   short(news.GetReason()),
			})
		}
		result["ignored"] = ignored
	}
	return result
}

func (r *run) watch(ctx context.Context, client *swarmd.Client, s *step) (object, error) {
	request := &swarmpb.WatchSwarmRequest{SwarmId: s.SwarmID, UntilFinished: s.UntilFinished}
	revision, known := int64(0), false
	if s.After != "" {
		if revision, known = r.revisions[s.After]; !known {
			return nil, wrong(fmt.Sprintf("no revision was saved as %q", s.After))
		}
		request.AfterRevision = proto.Int64(revision)
	}
	changes := []string{}
	result := object{"snapshot": nil}
	for message, err := range client.Watch(ctx, request) {
		if err != nil {
			return nil, err
		}
		switch event := message.GetEvent().(type) {
		case *swarmpb.WatchSwarmResponse_Snapshot:
			counts := event.Snapshot.GetSwarm().GetTaskCounts()
			result["snapshot"] = object{
				"total": counts.GetTotal(), "ready": counts.GetReady(), "done": counts.GetDone(),
			}
		case *swarmpb.WatchSwarmResponse_Change:
			if known && message.GetRevision() <= revision {
				return nil, wrong(fmt.Sprintf("revision %d comes after %d", message.GetRevision(), revision))
			}
			groups := []string{}
			for _, group := range event.Change.GetTaskStatuses() {
				ids := strings.Join(texts(group.GetTaskIds()), ",")
				groups = append(groups, short(group.GetStatus())+" "+ids)
			}
			changes = append(changes, strings.Join(groups, "; "))
		case *swarmpb.WatchSwarmResponse_End:
			result["end"], result["outcome"] = short(event.End.GetReason()), short(event.End.GetOutcome())
		}
		revision, known = message.GetRevision(), true
		if s.ReadChanges != nil && len(changes) == *s.ReadChanges {
			break // which cancels the stream
		}
	}
	if s.SaveRevision != "" && known {
		r.revisions[s.SaveRevision] = revision
	}
	result["changes"] = changes
	return result, nil
}

// fill puts values of the script into a message; without names all of them.
func fill(message proto.Message, values object, names ...string) error {
	chosen := object{}
	for name, value := range values {
		if len(names) == 0 || slices.Contains(names, name) {
			chosen[name] = value
		}
	}
	text, err := json.Marshal(protoJSON(chosen))
	if err == nil {
		err = protojson.Unmarshal(text, message)
	}
	if err != nil {
		return wrong(fmt.Sprintf("%s: %v", message.ProtoReflect().Descriptor().Name(), err))
	}
	return nil
}

// protoJSON writes the script's enum values and durations as protojson wants them.
func protoJSON(value any) any {
	switch value := value.(type) {
	case []any:
		written := []any{}
		for _, item := range value {
			written = append(written, protoJSON(item))
		}
		return written
	case object:
		written := object{}
		for name, item := range value {
			number, isNumber := item.(float64)
			switch duration, ok := strings.CutSuffix(name, "_seconds"); {
			case ok && isNumber:
				written[duration] = strconv.FormatFloat(number, 'f', -1, 64) + "s"
			case name == "status":
				written[name] = fmt.Sprintf("TASK_STATUS_%s", item)
			case name == "view":
				written[name] = fmt.Sprintf("BATCH_VIEW_%s", item)
			default:
				written[name] = protoJSON(item)
			}
		}
		return written
	}
	return value
}

// short is the name of an enum value without its prefix, which is that of the value UNSPECIFIED.
func short(value protoreflect.Enum) string {
	values := value.Descriptor().Values()
	known := values.ByNumber(value.Number())
	if known == nil {
		return text(int64(value.Number())) // of a newer daemon
	}
	prefix := strings.TrimSuffix(string(values.ByNumber(0).Name()), "UNSPECIFIED")
	return strings.TrimPrefix(string(known.Name()), prefix)
}

// difference says where the result is not what is wanted; it is empty when it is.
func difference(wanted, got any, where string) string {
	switch wanted := wanted.(type) {
	case object:
		if got, ok := got.(object); ok {
			for name, value := range wanted {
				if found := difference(value, got[name], where+"."+name); found != "" {
					return found
				}
			}
			return ""
		}
	case []any:
		if got, ok := got.([]any); ok && len(got) == len(wanted) {
			for place, value := range wanted {
				if found := difference(value, got[place], fmt.Sprintf("%s[%d]", where, place)); found != "" {
					return found
				}
			}
			return ""
		}
	}
	if reflect.DeepEqual(wanted, got) {
		return ""
	}
	return fmt.Sprintf("%s is %s, not %s", strings.TrimPrefix(where, "."), compact(got), compact(wanted))
}

func compact(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

func seconds(number float64) time.Duration { return time.Duration(number * float64(time.Second)) }

func text(id int64) string { return strconv.FormatInt(id, 10) }

func texts(ids []int64) []string {
	written := make([]string, 0, len(ids))
	for _, id := range ids {
		written = append(written, text(id))
	}
	return written
}
