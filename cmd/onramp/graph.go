package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/onramphq/onramp/playbook"
)

type graphCommand struct {
	Playbook string `arg:"" help:"Folder of YAML files, or one file."`
	Journey  string `help:"Draw this journey alone."`
	Format   string `enum:"mermaid,svg" default:"mermaid" help:"Text that documentation tools draw, or an image: ${enum}."`
	Output   string `short:"o" help:"Write to this file instead of the screen."`
}

// Help is shown by onramp graph --help.
func (*graphCommand) Help() string {
	return "Example: onramp graph examples/saas-onboarding --format svg -o journeys.svg\n\n" +
		"Draws who enters a journey, its steps with every way between them, and what ends it. Mermaid text is drawn by many tools that show Markdown; the SVG needs nothing else."
}

// Run draws the journeys.
func (c *graphCommand) Run(_ context.Context, io stdio) error {
	compiled, err := compiledPlaybook(c.Playbook)
	if err != nil {
		return err
	}
	journeys := compiled.Journeys
	if c.Journey != "" {
		j := compiled.Journey(c.Journey)
		if j == nil {
			return usagef("--journey %s: the playbook has the journeys: %s", c.Journey, strings.Join(journeyKeys(compiled), ", "))
		}
		journeys = []*playbook.Journey{j}
	}
	if len(journeys) == 0 {
		return usagef("playbook %s has no journeys to draw", c.Playbook)
	}
	if c.Format == "svg" {
		return writeTo(c.Output, io.out, compiled.SVG(nil, journeys...))
	}
	return writeTo(c.Output, io.out, compiled.Mermaid(journeys...))
}

func journeyKeys(p *playbook.Playbook) []string {
	keys := make([]string, len(p.Journeys))
	for i, j := range p.Journeys {
		keys[i] = j.Key
	}
	slices.Sort(keys)
	return keys
}

// compiledPlaybook reads and compiles a playbook that must be right.
func compiledPlaybook(path string) (*playbook.Playbook, error) {
	bundle, err := readBundle(path)
	if err != nil {
		return nil, err
	}
	compiled, err := playbook.Compile(bundle)
	if err != nil {
		return nil, explainProblems(path, err)
	}
	return compiled, nil
}

// writeTo writes a text to the file of that name, or to the screen where there is none.
func writeTo(path string, screen io.Writer, text string) error {
	if path == "" {
		if _, err := io.WriteString(screen, text); err != nil {
			return fmt.Errorf("write: %w", err)
		}
		return nil
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil { //nolint:gosec // the caller names a file for others to read
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
