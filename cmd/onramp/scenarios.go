package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/onramphq/onramp/backtest/scenario"
	"github.com/onramphq/onramp/playbook"
)

// scenarioSuffix ends the names of files that hold scenarios. They stand in a playbook's folder and are no part of it.
const scenarioSuffix = ".scenario.yaml"

type testCommand struct {
	Playbook string   `arg:"" help:"Playbook to test: folder of YAML files, or one file. Example: onramp test examples/saas-onboarding"`
	Files    []string `arg:"" optional:"" help:"Scenario files. Defaults to *.scenario.yaml in the playbook's folder and in its folder scenarios."`
	Name     string   `name:"run" placeholder:"PATTERN" help:"Run only scenarios whose name matches this regular expression."`
	JSON     bool     `name:"json" help:"Print one JSON document."`
}

// Help is shown by onramp test --help.
func (*testCommand) Help() string {
	return "Runs the scenarios of a playbook in virtual time: events and what must follow from them, to the millisecond. No server is needed. docs/backtest.md has the format."
}

// testReport is what came of all scenarios.
type testReport struct {
	Passed    int                `json:"passed"`
	Failed    int                `json:"failed"`
	Scenarios []*scenario.Report `json:"scenarios"`
}

// Run runs the scenarios. It fails where one of them does.
func (c *testCommand) Run(ctx context.Context, io stdio) error {
	pattern, err := regexp.Compile(c.Name)
	if err != nil {
		return usagef("--run: %w", err)
	}
	list, err := loadScenarios(c.Playbook, c.Files)
	if err != nil {
		return err
	}
	list = slices.DeleteFunc(list, func(s *scenario.Scenario) bool { return !pattern.MatchString(s.Name) })
	if len(list) == 0 {
		return usagef("no scenario of %s is named like %q", c.Playbook, c.Name)
	}
	report := testReport{Scenarios: []*scenario.Report{}}
	for _, s := range list {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped: %w", context.Cause(ctx))
		}
		began := time.Now()
		r := scenario.Run(s)
		report.Scenarios = append(report.Scenarios, r)
		if r.Passed {
			report.Passed++
		} else {
			report.Failed++
		}
		if !c.JSON {
			printScenario(io, r, time.Since(began))
		}
	}
	if c.JSON {
		if err := writeJSON(io.out, report); err != nil {
			return err
		}
	}
	if report.Failed > 0 {
		return fmt.Errorf("%d of %d scenarios failed", report.Failed, len(list))
	}
	if !c.JSON {
		say(io.out, "%d scenarios passed\n", report.Passed)
	}
	return nil
}

func printScenario(io stdio, r *scenario.Report, took time.Duration) {
	p := paint(colored(io.out))
	if r.Passed {
		say(io.out, "%s  %5.1f ms  %s\n", p.green("ok  "), float64(took.Microseconds())/1000, printable(r.Scenario))
		return
	}
	say(io.out, "%s  %5.1f ms  %s\n%s\n", p.red("FAIL"), float64(took.Microseconds())/1000, p.bold(printable(r.Scenario)), r.Text(bool(p)))
}

// loadScenarios reads the scenarios of a playbook, or those of the files given.
func loadScenarios(path string, files []string) ([]*scenario.Scenario, error) {
	book, err := compiledPlaybook(path)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		if files, err = scenarioFiles(path); err != nil {
			return nil, err
		}
	}
	var list []*scenario.Scenario
	var problems playbook.Problems
	for _, file := range files {
		text, err := os.ReadFile(file) //nolint:gosec // the caller names the file
		if err != nil {
			return nil, usagef("scenario: %w", err)
		}
		found, err := scenario.Parse(file, string(text), book, func(relative string) (*playbook.Playbook, error) {
			return compiledPlaybook(filepath.Join(filepath.Dir(file), relative))
		})
		more, wrong := errors.AsType[playbook.Problems](err)
		if err != nil && !wrong {
			return nil, err
		}
		list, problems = append(list, found...), append(problems, more...)
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("the scenarios have %d problems:\n%s", len(problems), indent(problems.Error()))
	}
	return list, nil
}

// scenarioFiles finds the scenario files of a playbook.
func scenarioFiles(path string) ([]string, error) {
	folder := path
	if info, err := os.Stat(path); err == nil && !info.IsDir() {
		folder = filepath.Dir(path)
	}
	var files []string
	for _, in := range []string{folder, filepath.Join(folder, "scenarios")} {
		entries, err := os.ReadDir(in)
		if err != nil && (in == folder || !errors.Is(err, os.ErrNotExist)) {
			return nil, fmt.Errorf("look for scenarios: %w", err)
		}
		for _, entry := range entries {
			if !entry.IsDir() && strings.HasSuffix(entry.Name(), scenarioSuffix) {
				files = append(files, filepath.Join(in, entry.Name()))
			}
		}
	}
	if len(files) == 0 {
		return nil, usagef("%s has no scenarios: write one into %s", path, filepath.Join(folder, "scenarios", "first"+scenarioSuffix))
	}
	return files, nil
}
