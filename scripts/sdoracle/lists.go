package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"strings"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"go.yaml.in/yaml/v2"
)

// What Prometheus makes of one list: the labels of its targets, or why it refuses the list.
type verdict struct {
	Error   string           `json:"error,omitempty"`
	Targets []model.LabelSet `json:"targets"`
}

// answerLists reads a list a line from standard input ("yml" or "json", a space, the list in base64), and writes what
// Prometheus makes of it, a line each.
func answerLists() {
	in := bufio.NewReader(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		ending, coded, _ := strings.Cut(strings.TrimSpace(line), " ")
		text, err := base64.StdEncoding.DecodeString(coded)
		check(err)
		check(encoder.Encode(judged(ending, text)))
		if in.Buffered() == 0 {
			check(out.Flush())
		}
	}
}

func judged(ending string, text []byte) (found verdict) {
	found.Targets = []model.LabelSet{}
	groups, err := readList(ending, text)
	if err != nil {
		found.Error = err.Error()
		return found
	}
	for _, group := range groups {
		for _, target := range group.Targets {
			found.Targets = append(found.Targets, group.Labels.Merge(target))
		}
	}
	return found
}

// As discovery/file reads a file with this ending.
func readList(ending string, text []byte) (groups []*targetgroup.Group, err error) {
	if ending == "json" {
		err = json.Unmarshal(text, &groups)
	} else {
		err = yaml.UnmarshalStrict(text, &groups)
	}
	if err != nil {
		return nil, err
	}
	for _, group := range groups {
		if group == nil {
			return nil, errors.New("nil target group item found")
		}
	}
	return groups, nil
}
