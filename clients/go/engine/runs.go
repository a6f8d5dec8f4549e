package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The processes of attempts outlive the engine, and the next engine finds out what became of them.
//
// Each attempt has a folder. Its process holds a lock on the file "lock" there from the moment that it exists, and the
// kernel takes the lock away when it is gone, however it went: that, and not a number that may be somebody else's by
// now, says whether it runs. Before its command begins it makes "started", and when that has ended it writes "exit", as
// soon as there is room for it.

const (
	tailBytes = 2048
	wrapper   = `
echo $$ >"$1/started" || exit 1
sh -c "$2"
code=$?
until echo $code >"$1/exit.new" && mv "$1/exit.new" "$1/exit"; do [ -d "$1" ] || exit 1; sleep 1; done
`
)

// bootID tells this boot of the machine from others; empty where the system does not say. After another boot the files
// of an attempt may be older than what happened.
func bootID() string {
	text, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(text))
}

// fate is what has become of an attempt's process.
type fate int

const (
	runs     fate = iota // or is about to
	ended                // with an exit code
	lost                 // killed together with the shell around it
	neverRan             // it was not started, so it may be
)

// run is the process of one attempt, whoever started it.
type run struct{ folder string }

func runOf(root string, of attempt) run {
	digest := sha256.Sum256([]byte(of.Swarm)) // a swarm's id may be anything
	return run{filepath.Join(root, hex.EncodeToString(digest[:8]), fmt.Sprintf("%d.%d", of.Task, of.Attempt))}
}

// start begins it; over is called when it has ended, should this engine live so long.
func (r run) start(of attempt, over func()) error {
	if _, err := os.Stat(of.Directory); of.Directory != "" && err != nil {
		return err
	}
	if err := os.MkdirAll(r.folder, 0o700); err != nil {
		return err
	}
	var files []*os.File
	for _, name := range []string{"lock", "out", "err"} {
		file, err := os.Create(filepath.Join(r.folder, name))
		if err != nil {
			return err
		}
		defer file.Close() // the lock is the child's as well, and stays when it is let go of here
		files = append(files, file)
	}
	if err := syscall.Flock(int(files[0].Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return err
	}
	command := exec.Command("/bin/sh", "-c", wrapper, "sh", r.folder, of.Command)
	command.Stdout, command.Stderr = files[1], files[2]
	command.ExtraFiles = files[:1]
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	command.Dir = of.Directory
	command.Env = os.Environ()
	for name, value := range of.Environment {
		command.Env = append(command.Env, name+"="+value)
	}
	command.Env = append(command.Env,
		"SWARM_TASK_ID="+strconv.FormatInt(of.Task, 10),
		"SWARM_ATTEMPT="+strconv.Itoa(int(of.Attempt)),
		"SWARM_TASK_NAME="+of.Name,
		"SWARM_ARRAY_ID="+strconv.FormatInt(of.Array, 10),
	)
	if err := command.Start(); err != nil {
		return err
	}
	go func() {
		_ = command.Wait() // or it would stay a zombie; its end is read from the folder
		over()
	}()
	return nil
}

// fate says what has become of it, and its exit code when it has one.
func (r run) fate() (fate, int) {
	held := r.holdsLock()
	code, hasEnded, err := r.code() // after the lock: it was written before that was let go
	switch {
	case err != nil:
		return runs, 0 // or does not: it is looked at again
	case hasEnded:
		return ended, code
	case held:
		return runs, 0
	case r.exists("started"):
		return lost, 0
	default:
		return neverRan, 0
	}
}

func (r run) holdsLock() bool {
	lock, err := os.Open(filepath.Join(r.folder, "lock"))
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist) // only a file that is not there says that nobody holds it
	}
	defer lock.Close()
	return syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil
}

// code is the exit code, when there is one already; an error says that this cannot be seen now.
func (r run) code() (int, bool, error) {
	text, err := os.ReadFile(filepath.Join(r.folder, "exit"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	code, err := strconv.Atoi(strings.TrimSpace(string(text)))
	return code, err == nil, nil
}

func (r run) exists(name string) bool {
	_, err := os.Stat(filepath.Join(r.folder, name))
	return !errors.Is(err, fs.ErrNotExist)
}

// age is how long it has run.
func (r run) age() time.Duration {
	found, err := os.Stat(filepath.Join(r.folder, "started"))
	if err != nil {
		return 0
	}
	return time.Since(found.ModTime())
}

// kill sends a signal to it and all that it started. To be called only while it runs.
func (r run) kill(number syscall.Signal) {
	text, err := os.ReadFile(filepath.Join(r.folder, "started"))
	if err != nil {
		return // it is about to start: next time
	}
	if leader, err := strconv.Atoi(strings.TrimSpace(string(text))); err == nil && leader > 1 {
		_ = syscall.Kill(-leader, number)
	}
}

// tail is the last of what it said on standard error.
func (r run) tail() string {
	file, err := os.Open(filepath.Join(r.folder, "err"))
	if err != nil {
		return ""
	}
	defer file.Close()
	if size, err := file.Seek(0, io.SeekEnd); err == nil {
		_, _ = file.Seek(max(0, size-tailBytes), io.SeekStart)
	}
	text, _ := io.ReadAll(io.LimitReader(file, tailBytes))
	return strings.TrimSpace(strings.ToValidUTF8(string(text), "?"))
}
