package main

import (
	"bufio"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"syscall"
)

// What the engine must not forget is a file of lines of JSON, each of which says what changed. A line is on disk before
// anybody is told, and then it is applied to what is in memory; a new engine applies them all again. A last line that is
// cut off was told nobody, and is removed. The caller of every method holds the engine's lock.

const (
	newsKept     = 1_000_000 // messages; a daemon that was away while more happened would not hear of the oldest
	compactBytes = 64 << 20  // a smaller file is not worth it
)

// attempt is one that is not over.
type attempt struct {
	Place       int64 // they start in this order
	Swarm       string
	Task        int64
	Attempt     int32
	Name        string
	Command     string
	Array       int64
	Cores       int32
	Seconds     float64           // how long it may run; 0: as long as it likes
	Directory   string            `json:",omitempty"` // where it starts; empty: anywhere
	Environment map[string]string `json:",omitempty"` // added to its own
	Running     bool              // it was given to its process, or is about to be
	Boot        string            // when that was: of the machine
	Ending      string            // why it is being ended: "cancelled" or "overran"
}

// news is one message of the stream.
type news struct {
	Swarm  string
	Update []byte // a StateUpdate
}

// batchKey names a batch.
type batchKey struct{ Swarm, Batch string }

// taken is the answer that a batch got.
type taken struct {
	batchKey
	Answer   []byte    // a QueueBatchResponse
	GaveUp   bool      // it was said of the batch that it will not be taken
	Attempts []attempt `json:",omitempty"`
}

// change is one line of the file.
type change struct {
	Life      string           `json:",omitempty"`
	FirstNews int64            `json:",omitempty"` // what was told before it is not kept any more
	Batch     *taken           `json:",omitempty"`
	Started   []int64          `json:",omitempty"`
	Boot      string           `json:",omitempty"` // of those that started
	Ending    map[int64]string `json:",omitempty"`
	Ended     []int64          `json:",omitempty"`
	News      []news           `json:",omitempty"`
	Waiting   []attempt        `json:",omitempty"` // of an older file
}

type store struct {
	life      string // tells this file from one that was there before
	batches   map[batchKey]*taken
	attempts  map[int64]*attempt
	running   map[int64]*attempt // those of them that run
	queue     []int64            // the places of those that wait, and of some that do not any more, in their order
	news      []news
	firstNews int64
	lastPlace int64
	path      string
	file      *os.File
	size      int64 // of the file
	compactAt int64 // so large it may get before it is written anew
	broken    error // what a write failed with: its line may be there in part, and nothing may come behind it
}

func openStore(path string) (*store, error) {
	s := &store{
		path: path, compactAt: compactBytes,
		batches: map[batchKey]*taken{}, attempts: map[int64]*attempt{}, running: map[int64]*attempt{},
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	s.file = file
	if s.size, err = s.readAll(); err != nil {
		return nil, err
	}
	if err := file.Truncate(s.size); err != nil { // a line that was cut off
		return nil, err
	}
	if s.life == "" {
		name := make([]byte, 4)
		_, _ = rand.Read(name)
		return s, s.write(change{Life: hex.EncodeToString(name)})
	}
	s.compactWhenLarge()
	return s, nil
}

// readAll applies what is there, and gives back where the last whole line ends.
func (s *store) readAll() (int64, error) {
	reader := bufio.NewReader(s.file)
	var size int64
	for {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return size, nil
		}
		if err != nil {
			return size, err
		}
		var one change
		if err := json.Unmarshal(line, &one); err != nil {
			return size, fmt.Errorf("%s is damaged after %d bytes: %w", s.file.Name(), size, err)
		}
		s.apply(one)
		size += int64(len(line))
	}
}

// compactWhenLarge keeps the file from growing for ever: it may get twice as large as what counts.
func (s *store) compactWhenLarge() {
	if s.size <= s.compactAt {
		return
	}
	before, size := s.file, s.size
	if err := s.compact(); err != nil {
		if s.file != before {
			_ = s.file.Close()
		}
		_ = os.Remove(s.path + ".new")
		s.file, s.size = before, size // as good as it was
		s.compactAt = size + compactBytes
		return
	}
	_ = before.Close()
	s.compactAt = max(compactBytes, 2*s.size)
}

// compact writes a file with what still counts, and puts it in the place of the other.
func (s *store) compact() error {
	file, err := os.OpenFile(s.path+".new", os.O_RDWR|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	s.file, s.size = file, 0
	whole := change{Life: s.life, FirstNews: s.firstNews, News: s.news, Waiting: sorted(s.attempts)}
	if err := s.append(whole); err != nil {
		return err
	}
	for key, known := range s.batches {
		if err := s.append(change{Batch: &taken{batchKey: key, Answer: known.Answer, GaveUp: known.GaveUp}}); err != nil {
			return err
		}
	}
	if err := file.Sync(); err != nil {
		return err
	}
	return os.Rename(s.path+".new", s.path)
}

// write makes a change: on disk first.
func (s *store) write(one change) error {
	if s.broken == nil {
		s.broken = s.append(one)
	}
	if s.broken == nil {
		s.broken = syscall.Fdatasync(int(s.file.Fd()))
	}
	if s.broken == nil {
		s.apply(one)
		s.compactWhenLarge()
	}
	return s.broken
}

func (s *store) append(one change) error {
	line, err := json.Marshal(one)
	if err != nil {
		return err
	}
	written, err := s.file.Write(append(line, '\n'))
	s.size += int64(written)
	return err
}

func (s *store) apply(one change) {
	if one.Life != "" {
		s.life = one.Life
		s.firstNews = one.FirstNews
	}
	for _, each := range one.Waiting {
		s.put(each)
	}
	if one.Batch != nil {
		s.batches[one.Batch.batchKey] = one.Batch
		for _, each := range one.Batch.Attempts {
			s.put(each)
		}
		one.Batch.Attempts = nil
	}
	for _, place := range one.Started {
		each := s.attempts[place]
		each.Running, each.Boot = true, one.Boot
		s.running[place] = each
	}
	for place, why := range one.Ending {
		s.attempts[place].Ending = why
	}
	for _, place := range one.Ended {
		delete(s.attempts, place)
		delete(s.running, place)
	}
	s.news = append(s.news, one.News...)
	if excess := len(s.news) - newsKept; excess > newsKept/10 {
		s.news = append([]news(nil), s.news[excess:]...)
		s.firstNews += int64(excess)
	}
}

func (s *store) put(one attempt) {
	s.attempts[one.Place] = &one
	if one.Running {
		s.running[one.Place] = &one
	} else {
		s.queue = append(s.queue, one.Place)
	}
	s.lastPlace = max(s.lastPlace, one.Place)
}

// sorted gives back attempts in the order of their places.
func sorted(attempts map[int64]*attempt) []attempt {
	found := make([]attempt, 0, len(attempts))
	for _, each := range attempts {
		found = append(found, *each)
	}
	sort.Slice(found, func(i, j int) bool { return found[i].Place < found[j].Place })
	return found
}

// startable takes those that start next on so many free cores out of the queue.
func (s *store) startable(free int32) []attempt {
	var found []attempt
	for len(s.queue) > 0 {
		if each := s.attempts[s.queue[0]]; each != nil && !each.Running {
			if free -= each.Cores; free < 0 {
				break
			}
			found = append(found, *each)
		}
		s.queue = s.queue[1:]
	}
	return found
}

// lastNews is the number of messages that there ever were.
func (s *store) lastNews() int64 { return s.firstNews + int64(len(s.news)) }

// newsAfter is what was told after so many messages, at most 100 of it, and the number of the first of them.
func (s *store) newsAfter(seq int64) ([]news, int64) {
	from := max(seq, s.firstNews) - s.firstNews
	if from >= int64(len(s.news)) {
		return nil, seq
	}
	until := min(from+100, int64(len(s.news)))
	return append([]news(nil), s.news[from:until]...), s.firstNews + from
}

// lockState sees to it that one engine has a folder.
func lockState(folder string) (*os.File, error) {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(folder, "engine.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, fmt.Errorf("another engine has %s; give each its own with --state", folder)
	}
	return file, nil
}
