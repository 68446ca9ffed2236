// What Prometheus' own discovery makes of a configuration: sdoracle CONFIG. Of lists of targets: sdoracle lists (see lists.go).
//
// CONFIG has discovery blocks (consul_sd_configs, dns_sd_configs) by the name of a job. What the discovery manager hands on
// is written to standard output, each time as one line of JSON: by job a list of label sets.
package main

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery"
	_ "github.com/prometheus/prometheus/discovery/consul"
	_ "github.com/prometheus/prometheus/discovery/dns"
	"go.yaml.in/yaml/v2"
)

type job struct {
	Configs discovery.Configs `yaml:"-"`
}

func (j *job) UnmarshalYAML(unmarshal func(interface{}) error) error {
	return discovery.UnmarshalYAMLWithInlineConfigs(j, unmarshal)
}

func check(err error) {
	if err != nil {
		slog.Error("sdoracle", "error", err.Error())
		os.Exit(2)
	}
}

func main() {
	if os.Args[1] == "lists" {
		answerLists()
		return
	}
	text, err := os.ReadFile(os.Args[1])
	check(err)
	var jobs map[string]job
	check(yaml.UnmarshalStrict(text, &jobs))
	wanted := map[string]discovery.Configs{}
	for name, one := range jobs {
		wanted[name] = one.Configs
	}
	ctx := context.Background()
	registry := prometheus.NewRegistry()
	metrics, err := discovery.CreateAndRegisterSDMetrics(registry)
	check(err)
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	manager := discovery.NewManager(ctx, logger, registry, metrics, discovery.Updatert(50*time.Millisecond))
	go func() { check(manager.Run()) }()
	check(manager.ApplyConfig(wanted))
	out := json.NewEncoder(os.Stdout)
	for sets := range manager.SyncCh() {
		found := map[string][]model.LabelSet{}
		for name, groups := range sets {
			found[name] = []model.LabelSet{}
			for _, group := range groups {
				for _, target := range group.Targets {
					found[name] = append(found[name], target.Merge(group.Labels))
				}
			}
		}
		check(out.Encode(found))
	}
}
