package main

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func opened(t *testing.T, path string) *store {
	t.Helper()
	kept, err := openStore(path)
	if err != nil {
		t.Fatal(err)
	}
	return kept
}

func written(t *testing.T, kept *store, lines ...change) {
	t.Helper()
	for _, line := range lines {
		if err := kept.write(line); err != nil {
			t.Fatal(err)
		}
	}
}

// some: three attempts, of which one waits, one runs and is to end, and one is over; two batches; some news.
func some(t *testing.T, kept *store) {
	t.Helper()
	attempts := []attempt{
		{Place: 1, Swarm: "s", Task: 1, Attempt: 1, Command: "true", Environment: map[string]string{"A": "b"}},
		{Place: 2, Swarm: "s", Task: 2, Attempt: 3, Command: "false", Cores: 2, Seconds: 1.5, Directory: "/"},
		{Place: 3, Swarm: "s", Task: 3, Attempt: 1},
	}
	written(t, kept,
		change{Batch: &taken{batchKey: batchKey{"s", "b"}, Answer: []byte("answer"), Attempts: attempts}},
		change{Batch: &taken{batchKey: batchKey{"s", "late"}, GaveUp: true}},
		change{Started: []int64{2, 3}, Boot: "boot", News: []news{{"s", []byte("one")}}},
		change{Ending: map[int64]string{2: "cancelled"}},
		change{Ended: []int64{3}, News: []news{{"s", []byte("two")}, {"s", []byte("three")}}},
	)
}

func same(t *testing.T, kept, other *store) {
	t.Helper()
	if kept.life != other.life || kept.lastNews() != other.lastNews() || kept.firstNews != other.firstNews {
		t.Errorf("life and news: %v %v, %v %v", kept.life, kept.lastNews(), other.life, other.lastNews())
	}
	for name, pair := range map[string][2]any{
		"batches": {kept.batches, other.batches}, "attempts": {kept.attempts, other.attempts}, "news": {kept.news, other.news},
		"running": {sorted(kept.running), sorted(other.running)},
	} {
		if !reflect.DeepEqual(pair[0], pair[1]) {
			t.Errorf("%s: %v, %v", name, pair[0], pair[1])
		}
	}
}

func TestTheNextEngineKnowsAllOfIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.jsonl")
	kept := opened(t, path)
	some(t, kept)
	same(t, kept, opened(t, path))
}

func TestAFileThatGrewIsWrittenAnewWithAllThatCounts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.jsonl")
	kept := opened(t, path)
	some(t, kept)
	for range 1000 {
		written(t, kept, change{Ending: map[int64]string{2: "cancelled"}})
	}
	before := kept.size
	kept.compactAt = 1
	written(t, kept, change{News: []news{{"s", []byte("four")}}})
	if found, _ := os.Stat(path); found.Size() >= before/10 || found.Size() != kept.size {
		t.Errorf("it had %d bytes, and has %d; %d are known", before, found.Size(), kept.size)
	}
	same(t, kept, opened(t, path))
	written(t, kept, change{Started: []int64{1}, Boot: "boot", News: []news{{"s", []byte("five")}}})
	same(t, kept, opened(t, path))
}

func TestAFileThatCannotBeWrittenAnewGoesOn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.jsonl")
	kept := opened(t, path)
	if err := os.Mkdir(path+".new", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(path+".new", "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	kept.compactAt = 1
	some(t, kept)
	same(t, kept, opened(t, path))
}

func TestALineThatWasCutOffIsRemoved(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.jsonl")
	kept := opened(t, path)
	some(t, kept)
	whole, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append(whole, `{"Ended":[1`...), 0o600); err != nil {
		t.Fatal(err)
	}
	same(t, kept, opened(t, path))
	if found, _ := os.ReadFile(path); string(found) != string(whole) {
		t.Errorf("there is %q behind it", found[len(whole):])
	}
}

func TestADamagedLineIsNotPassedOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "engine.jsonl")
	some(t, opened(t, path))
	whole, _ := os.ReadFile(path)
	if err := os.WriteFile(path, append([]byte("{]\n"), whole...), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openStore(path); err == nil {
		t.Error("it is read")
	}
}

func TestThoseThatComeFirstStartFirstAndNoneIsPassedOver(t *testing.T) {
	kept := opened(t, filepath.Join(t.TempDir(), "engine.jsonl"))
	var attempts []attempt
	for place := range int64(6) {
		attempts = append(attempts, attempt{Place: place + 1, Task: place + 1, Cores: 1 + int32(place%3)})
	}
	written(t, kept, change{Batch: &taken{Attempts: attempts}}, change{Ended: []int64{1}})
	for _, step := range []struct {
		free int32
		want []int64
	}{{1, nil}, {3, []int64{2}}, {4, []int64{3, 4}}, {8, []int64{5, 6}}, {8, nil}} {
		var places []int64
		for _, each := range kept.startable(step.free) {
			places = append(places, each.Place)
		}
		if !reflect.DeepEqual(places, step.want) {
			t.Errorf("%d free: %v instead of %v", step.free, places, step.want)
		}
		written(t, kept, change{Started: places})
	}
}

func TestNewsIsGivenFromAPlaceOn(t *testing.T) {
	kept := opened(t, filepath.Join(t.TempDir(), "engine.jsonl"))
	some(t, kept)
	found, first := kept.newsAfter(1)
	if first != 1 || len(found) != 2 || string(found[0].Update) != "two" {
		t.Errorf("%d: %v", first, found)
	}
	if found, first = kept.newsAfter(3); first != 3 || len(found) != 0 {
		t.Errorf("%d: %v", first, found)
	}
}
