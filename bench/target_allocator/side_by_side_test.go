// The Target Allocator of the OpenTelemetry Operator, on the targets of bench/allocator.py: what it takes to read the groups
// of its discovery and to give every target a collector, and which targets move. Put beside its own benchmark_test.go and run
// by scripts/bench-target-allocator. It prints one JSON object a line.

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/open-telemetry/opentelemetry-operator/cmd/otel-allocator/internal/allocation"
	"github.com/open-telemetry/opentelemetry-operator/cmd/otel-allocator/internal/target"
)

const (
	jobs     = 50
	inAGroup = 20
	runs     = 5
)

type row struct {
	Strategy   string    `json:"strategy"`
	Targets    int       `json:"targets"`
	Collectors int       `json:"collectors"`
	What       string    `json:"what"`
	Seconds    []float64 `json:"seconds,omitempty"`
	// Moved over the mean of all, which is what has to move, of each run.
	Moved []float64 `json:"moved,omitempty"`
	Value float64   `json:"value,omitempty"`
}

func address(number int) string {
	return fmt.Sprintf("10.%d.%d.%d:%d", number/62500%250, number/250%250, number%250, 9100+number/15625000)
}

func groupsOf(numbers [][]int) map[string][]*targetgroup.Group {
	found := make(map[string][]*targetgroup.Group, len(numbers))
	for job, of := range numbers {
		var groups []*targetgroup.Group
		for some := range slices.Chunk(of, inAGroup) {
			group := &targetgroup.Group{Labels: model.LabelSet{"env": "p"}}
			for _, number := range some {
				group.Targets = append(group.Targets, model.LabelSet{model.AddressLabel: model.LabelValue(address(number))})
			}
			groups = append(groups, group)
		}
		found[fmt.Sprintf("s%02d", job)] = groups
	}
	return found
}

func collectors(many int, but string) map[string]*allocation.Collector {
	found := map[string]*allocation.Collector{}
	for n := range many {
		if name := fmt.Sprintf("collector-%d", n); name != but {
			found[name] = allocation.NewCollector(name, "")
		}
	}
	return found
}

func owners(allocator allocation.Allocator) map[target.ItemHash]string {
	found := map[target.ItemHash]string{}
	for hash, item := range allocator.TargetItems() {
		found[hash] = item.CollectorName
	}
	return found
}

func TestSideBySide(t *testing.T) {
	ctrl.SetLogger(logr.New(log.NullLogSink{}))
	out := json.NewEncoder(os.Stdout)
	for _, size := range []int{100_000, 1_000_000} {
		if limit, err := strconv.Atoi(os.Getenv("TARGETS_MOST")); err == nil && size > limit {
			continue
		}
		for _, many := range []int{20, 1000} {
			for _, strategy := range []string{"consistent-hashing", "least-weighted"} {
				for _, one := range measured(t, strategy, size, many) {
					one.Strategy, one.Targets, one.Collectors = strategy, size, many
					if err := out.Encode(one); err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
}

func measured(t *testing.T, strategy string, size, many int) []row {
	logger := ctrl.Log.WithName(strategy)
	allocator, err := allocation.New(strategy, logger)
	if err != nil {
		t.Fatal(err)
	}
	discoverer, err := target.NewDiscoverer(logger, nil, nil, nil, allocator.SetTargets)
	if err != nil {
		t.Fatal(err)
	}
	allocator.SetCollectors(collectors(many, ""))
	numbers := make([][]int, jobs)
	for n := range size {
		numbers[n/(size/jobs)] = append(numbers[n/(size/jobs)], n)
	}
	reload := func() float64 {
		discoverer.UpdateTsets(groupsOf(numbers))
		began := time.Now()
		discoverer.Reload()
		return time.Since(began).Seconds()
	}
	rows := []row{{What: "every target for the first time", Seconds: []float64{reload()}}}
	var same, single, churn, dies, comes, joins []float64
	var needless, back, moved []float64
	for run := range runs {
		same = append(same, reload())
		numbers[0][0] += size
		single = append(single, reload())
		for _, of := range numbers {
			for i := range len(of) / 100 {
				of[(i*100+run)%len(of)] += size
			}
		}
		churn = append(churn, reload())
	}
	timed := func(many int, but string) (float64, map[target.ItemHash]string, map[target.ItemHash]string) {
		before, began := owners(allocator), time.Now()
		allocator.SetCollectors(collectors(many, but))
		took := time.Since(began).Seconds()
		return took, before, owners(allocator)
	}
	share := float64(size) / float64(many)
	for range runs { // one that has something dies, and comes back; then one more joins, and is gone
		victim := owners(allocator)[slices.Min(slices.Collect(maps.Keys(owners(allocator))))]
		took, before, after := timed(many, victim)
		dies, needless = append(dies, took), append(needless, float64(changed(before, after))/share)
		took, before, after = timed(many, "")
		comes, back = append(comes, took), append(back, float64(changed(before, after))/share)
		took, before, after = timed(many+1, "")
		joins = append(joins, took)
		moved = append(moved, float64(changed(before, after))/(float64(size)/float64(many+1)))
		timed(many, "")
	}
	fullest := 0
	for _, count := range counted(owners(allocator)) {
		fullest = max(fullest, count)
	}
	return append(rows,
		row{What: "read again, nothing changed", Seconds: same},
		row{What: "one target changed", Seconds: single},
		row{What: "1 % changed, in every job", Seconds: churn},
		row{What: "one dies", Seconds: dies, Moved: needless},
		row{What: "it comes back", Seconds: comes, Moved: back},
		row{What: "one more joins", Seconds: joins, Moved: moved},
		row{What: "fullest over mean", Value: float64(fullest) / share},
	)
}

func counted(owners map[target.ItemHash]string) map[string]int {
	found := map[string]int{}
	for _, name := range owners {
		found[name]++
	}
	return found
}

func changed(before, after map[target.ItemHash]string) int {
	count := 0
	for hash, name := range after {
		if before[hash] != name {
			count++
		}
	}
	return count
}
