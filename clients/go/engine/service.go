package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"swarmd.example/client/generated/swarmpb"
)

const (
	lookEvery = 50 * time.Millisecond // how often it is looked what has ended
	killAfter = 5 * time.Second       // between TERM and KILL
)

// engine is the service, and what it does.
type engine struct {
	swarmpb.UnimplementedGatewayServiceServer
	root  string
	cores int32

	mutex  sync.Mutex // of all that follows
	store  *store
	told   chan struct{} // closed when there is news
	ending map[int64]time.Time

	work   chan struct{} // something may be there to do
	failed chan error    // the disk
}

func newEngine(kept *store, root string, cores int32) *engine {
	return &engine{
		root: root, cores: cores, store: kept, told: make(chan struct{}), ending: map[int64]time.Time{},
		work: make(chan struct{}, 1), failed: make(chan error, 1),
	}
}

// QueueBatch is on disk before it is answered; the same batch again gets the same answer.
func (e *engine) QueueBatch(_ context.Context, request *swarmpb.QueueBatchRequest) (*swarmpb.QueueBatchResponse, error) {
	batch := request.GetBatch()
	if len(batch.GetTasks()) != len(batch.GetTaskIds()) {
		return nil, status.Error(codes.InvalidArgument, "batch.tasks: give the batch in the FULL view")
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	key := batchKey{request.GetSwarmId(), batch.GetBatchId()}
	if known := e.store.batches[key]; known != nil {
		if known.GaveUp {
			why := "batch " + batch.GetBatchId() + " was asked after before it came, and given up"
			return nil, status.Error(codes.FailedPrecondition, why)
		}
		return answerOf(known)
	}
	answer := &swarmpb.QueueBatchResponse{Refusals: e.refusals(batch)}
	bytes, err := proto.Marshal(answer)
	if err != nil {
		return nil, err
	}
	line := change{Batch: &taken{batchKey: key, Answer: bytes, Attempts: e.attemptsOf(request, answer)}}
	if err := e.write(line); err != nil {
		return nil, err
	}
	e.wake()
	return answer, nil
}

// FindBatch takes a batch that is not known now never from now on, should it still be on its way.
func (e *engine) FindBatch(_ context.Context, request *swarmpb.FindBatchRequest) (*swarmpb.FindBatchResponse, error) {
	e.mutex.Lock()
	defer e.mutex.Unlock()
	key := batchKey{request.GetSwarmId(), request.GetBatchId()}
	known := e.store.batches[key]
	if known == nil {
		if err := e.write(change{Batch: &taken{batchKey: key, GaveUp: true}}); err != nil {
			return nil, err
		}
	}
	if known == nil || known.GaveUp {
		return &swarmpb.FindBatchResponse{Outcome: swarmpb.FindBatchResponse_OUTCOME_NOT_QUEUED}, nil
	}
	answer, err := answerOf(known)
	if err != nil {
		return nil, err
	}
	found := swarmpb.FindBatchResponse{Outcome: swarmpb.FindBatchResponse_OUTCOME_QUEUED, Refusals: answer.GetRefusals()}
	return &found, nil
}

// CancelTasks: those that wait never start; those that run are ended; others are over already.
func (e *engine) CancelTasks(
	_ context.Context, request *swarmpb.GatewayServiceCancelTasksRequest,
) (*swarmpb.GatewayServiceCancelTasksResponse, error) {
	type key struct {
		task    int64
		attempt int32
	}
	if len(request.GetTaskIds()) != len(request.GetAttempts()) {
		return nil, status.Error(codes.InvalidArgument, "attempts: give one for each of task_ids")
	}
	wanted := map[key]bool{}
	for place, task := range request.GetTaskIds() {
		wanted[key{task, request.GetAttempts()[place]}] = true
	}
	e.mutex.Lock()
	defer e.mutex.Unlock()
	line := change{Ending: map[int64]string{}}
	for place, each := range e.store.attempts {
		if each.Swarm != request.GetSwarmId() || !wanted[key{each.Task, each.Attempt}] {
			continue
		}
		if each.Running {
			line.Ending[place] = "cancelled"
		} else {
			line.Ended = append(line.Ended, place)
		}
	}
	if len(line.Ending)+len(line.Ended) > 0 {
		if err := e.write(line); err != nil {
			return nil, err
		}
		e.wake()
	}
	return &swarmpb.GatewayServiceCancelTasksResponse{}, nil
}

// WatchUpdates sends the news after a place. The first message comes at once: with it the daemon knows its place.
func (e *engine) WatchUpdates(
	request *swarmpb.WatchUpdatesRequest, stream swarmpb.GatewayService_WatchUpdatesServer,
) error {
	e.mutex.Lock()
	seq := e.place(request.GetResumeToken())
	e.mutex.Unlock()
	interval := request.GetProgressInterval().AsDuration()
	if interval <= 0 {
		interval = time.Minute
	}
	if err := stream.Send(&swarmpb.WatchUpdatesResponse{ResumeToken: e.token(seq)}); err != nil {
		return err
	}
	for {
		e.mutex.Lock()
		found, first := e.store.newsAfter(seq)
		told := e.told
		e.mutex.Unlock()
		for place, each := range found {
			seq = first + int64(place) + 1
			update := &swarmpb.StateUpdate{}
			if err := proto.Unmarshal(each.Update, update); err != nil {
				return err
			}
			message := swarmpb.WatchUpdatesResponse{SwarmId: each.Swarm, Update: update, ResumeToken: e.token(seq)}
			if err := stream.Send(&message); err != nil {
				return err
			}
		}
		if len(found) > 0 {
			continue
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-told:
		case <-time.After(interval):
			if err := stream.Send(&swarmpb.WatchUpdatesResponse{ResumeToken: e.token(seq)}); err != nil {
				return err
			}
		}
	}
}

func (e *engine) token(seq int64) string { return e.store.life + ":" + strconv.FormatInt(seq, 10) }

// place: without a token from now on; with one that was not given by this engine, everything that there is.
func (e *engine) place(token string) int64 {
	if token == "" {
		return e.store.lastNews()
	}
	life, number, _ := strings.Cut(token, ":")
	seq, err := strconv.ParseInt(number, 10, 64)
	if life != e.store.life || err != nil {
		return 0
	}
	return seq
}

func (e *engine) refusals(batch *swarmpb.Batch) []*swarmpb.TaskRefusal {
	if cores := batch.GetTaskResources().GetCores(); cores > e.cores {
		why := fmt.Sprintf("cores: %d are more than the %d of this engine", cores, e.cores)
		return []*swarmpb.TaskRefusal{{TaskIds: batch.GetTaskIds(), Reason: why, Permanent: true}}
	}
	var bad []int64
	for _, task := range batch.GetTasks() {
		if strings.Contains(task.GetCommand(), "\x00") {
			bad = append(bad, task.GetTaskId())
		}
	}
	if bad == nil {
		return nil
	}
	return []*swarmpb.TaskRefusal{{TaskIds: bad, Reason: "its command contains a NUL character", Permanent: true}}
}

func (e *engine) attemptsOf(request *swarmpb.QueueBatchRequest, answer *swarmpb.QueueBatchResponse) []attempt {
	batch := request.GetBatch()
	refused := map[int64]bool{}
	for _, refusal := range answer.GetRefusals() {
		for _, task := range refusal.GetTaskIds() {
			refused[task] = true
		}
	}
	var made []attempt
	for _, task := range batch.GetTasks() {
		if !refused[task.GetTaskId()] {
			made = append(made, attempt{
				Place: e.store.lastPlace + int64(len(made)) + 1, Swarm: request.GetSwarmId(), Task: task.GetTaskId(),
				Attempt: task.GetAttempt(), Name: task.GetName(), Command: task.GetCommand(), Array: batch.GetArrayId(),
				Cores:     max(1, batch.GetTaskResources().GetCores()),
				Seconds:   batch.GetTaskResources().GetRuntime().AsDuration().Seconds(),
				Directory: request.GetWorkingDirectory(), Environment: request.GetEnvironment(),
			})
		}
	}
	return made
}

func answerOf(known *taken) (*swarmpb.QueueBatchResponse, error) {
	answer := &swarmpb.QueueBatchResponse{}
	return answer, proto.Unmarshal(known.Answer, answer)
}

// -- the loop ---------------------------------------------------------------------------------------------------------

// run looks what has ended and starts what fits, until the disk fails.
func (e *engine) run() error {
	e.mutex.Lock()
	for _, each := range sorted(e.store.running) {
		if what, _ := runOf(e.root, each).fate(); what == neverRan && each.Boot == bootID() && each.Ending == "" {
			e.start(each) // the engine was killed when it was about to
		}
	}
	e.mutex.Unlock()
	for {
		e.mutex.Lock()
		e.look()
		e.startWhatFits()
		e.mutex.Unlock()
		select {
		case err := <-e.failed:
			return err
		case <-e.work:
		case <-time.After(lookEvery):
		}
	}
}

// end is how an attempt was over.
type end struct {
	attempt
	status swarmpb.TaskStatus
	reason string
}

func (e *engine) look() {
	var ends []end
	for _, each := range sorted(e.store.running) {
		process := runOf(e.root, each)
		what, code := process.fate()
		if what == runs {
			e.seeToItsEnd(each, process)
		} else {
			ends = append(ends, endOf(each, process, what, code))
		}
	}
	e.record(ends)
}

// seeToItsEnd ends it when it is to end: with TERM and, when that does not help, with KILL.
func (e *engine) seeToItsEnd(each attempt, process run) {
	if each.Ending == "" {
		if each.Seconds > 0 && process.age().Seconds() > each.Seconds {
			_ = e.write(change{Ending: map[int64]string{each.Place: "overran"}})
		}
		return
	}
	since, known := e.ending[each.Place]
	if !known {
		since = time.Now()
		e.ending[each.Place] = since
	}
	number := syscall.SIGTERM
	if time.Since(since) > killAfter {
		number = syscall.SIGKILL
	}
	process.kill(number)
}

func endOf(each attempt, process run, what fate, code int) end {
	switch {
	case what == ended && code == 0:
		return end{each, swarmpb.TaskStatus_TASK_STATUS_DONE, ""}
	case each.Ending == "overran":
		why := fmt.Sprintf("it ran longer than the %g s that its resources allow", each.Seconds)
		return end{each, swarmpb.TaskStatus_TASK_STATUS_ADJUSTING_RESOURCES, why}
	case what == ended:
		why := strings.TrimSpace(fmt.Sprintf("exit code %d\n%s", code, process.tail()))
		return end{each, swarmpb.TaskStatus_TASK_STATUS_ERROR_RECOVERABLE, why}
	default:
		why := strings.TrimSpace("it was killed and left no exit code\n" + process.tail())
		return end{each, swarmpb.TaskStatus_TASK_STATUS_ERROR_RECOVERABLE, why}
	}
}

func (e *engine) record(ends []end) {
	if len(ends) == 0 {
		return
	}
	line := change{}
	var toTell []end
	for _, each := range ends {
		line.Ended = append(line.Ended, each.Place)
		delete(e.ending, each.Place)
		if each.Ending != "cancelled" {
			toTell = append(toTell, each)
		}
	}
	line.News = newsOf(toTell)
	_ = e.write(line)
}

func (e *engine) startWhatFits() {
	free := e.cores
	for _, each := range e.store.running {
		free -= each.Cores
	}
	starting := e.store.startable(free)
	if len(starting) == 0 {
		return
	}
	line := change{Boot: bootID()}
	var toTell []end
	for _, each := range starting {
		line.Started = append(line.Started, each.Place)
		toTell = append(toTell, end{each, swarmpb.TaskStatus_TASK_STATUS_RUNNING, ""})
	}
	line.News = newsOf(toTell)
	if e.write(line) != nil { // on disk first: what runs is never forgotten
		return
	}
	for _, each := range starting {
		e.start(each)
	}
}

func (e *engine) start(each attempt) {
	if err := runOf(e.root, each).start(each, e.wake); err != nil {
		why := "it could not be started: " + err.Error()
		e.record([]end{{each, swarmpb.TaskStatus_TASK_STATUS_ERROR_RECOVERABLE, why}})
	}
}

// newsOf is one message a swarm, the tasks of the same status in one group.
func newsOf(ends []end) []news {
	type groupKey struct {
		swarm, reason string
		status        swarmpb.TaskStatus
	}
	updates := map[string]*swarmpb.StateUpdate{}
	groups := map[groupKey]*swarmpb.TaskStatusGroup{}
	var swarms []string
	for _, each := range ends {
		update := updates[each.Swarm]
		if update == nil {
			update = &swarmpb.StateUpdate{}
			updates[each.Swarm] = update
			swarms = append(swarms, each.Swarm)
		}
		key := groupKey{each.Swarm, each.reason, each.status}
		group := groups[key]
		if group == nil {
			group = &swarmpb.TaskStatusGroup{Status: each.status, Reason: each.reason}
			groups[key] = group
			update.TaskStatuses = append(update.TaskStatuses, group)
		}
		group.TaskIds = append(group.TaskIds, each.Task)
		group.Attempts = append(group.Attempts, each.Attempt)
	}
	var made []news
	for _, swarm := range swarms {
		bytes, err := proto.Marshal(updates[swarm])
		if err == nil {
			made = append(made, news{swarm, bytes})
		}
	}
	return made
}

// write makes a change and tells those who watch. When the disk fails the engine ends: it would forget what it does.
func (e *engine) write(line change) error {
	if err := e.store.write(line); err != nil {
		select {
		case e.failed <- err:
		default:
		}
		return status.Error(codes.Internal, "what the engine must remember cannot be written: "+err.Error())
	}
	if len(line.News) > 0 {
		close(e.told)
		e.told = make(chan struct{})
	}
	return nil
}

func (e *engine) wake() {
	select {
	case e.work <- struct{}{}:
	default:
	}
}
