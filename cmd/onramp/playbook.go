package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/onramphq/onramp/examples"
	"github.com/onramphq/onramp/playbook"
)

// readBundle reads a playbook from a folder of YAML files, or from one file.
func readBundle(path string) (playbook.Bundle, error) {
	info, err := os.Stat(path)
	if err != nil {
		return playbook.Bundle{}, usagef("playbook %s: %w", path, errors.Unwrap(err))
	}
	if !info.IsDir() {
		text, err := os.ReadFile(path) //nolint:gosec // the caller names the file
		if err != nil {
			return playbook.Bundle{}, fmt.Errorf("read playbook: %w", err)
		}
		return playbook.Bundle{Scale: 1, Files: map[string]string{filepath.Base(path): string(text)}}, nil
	}
	return readFS(os.DirFS(path), path, 1)
}

// checkedBundle reads a playbook and makes sure that it compiles, before anything is started for it.
func checkedBundle(path string) (*playbook.Bundle, error) {
	b, err := readBundle(path)
	if err != nil {
		return nil, err
	}
	if _, err := playbook.Compile(b); err != nil {
		return nil, explainProblems(path, err)
	}
	return &b, nil
}

func readFS(files fs.FS, name string, scale float64) (playbook.Bundle, error) {
	b := playbook.Bundle{Scale: scale, Files: make(map[string]string)}
	entries, err := fs.ReadDir(files, ".")
	if err != nil {
		return b, fmt.Errorf("read playbook %s: %w", name, err)
	}
	for _, entry := range entries {
		if ext := filepath.Ext(entry.Name()); entry.IsDir() || (ext != ".yaml" && ext != ".yml") || strings.HasSuffix(entry.Name(), scenarioSuffix) {
			continue
		}
		text, err := fs.ReadFile(files, entry.Name())
		if err != nil {
			return b, fmt.Errorf("read playbook %s: %w", name, err)
		}
		b.Files[entry.Name()] = string(text)
	}
	if len(b.Files) == 0 {
		return b, usagef("playbook %s: the folder holds no .yaml files", name)
	}
	return b, nil
}

// example returns the playbook of the case study, which the program carries.
func example(scale float64) (playbook.Bundle, error) {
	const name = "saas-onboarding"
	files, err := fs.Sub(examples.Files, name)
	if err != nil {
		return playbook.Bundle{}, fmt.Errorf("read example %s: %w", name, err)
	}
	return readFS(files, name, scale)
}

// explainProblems adds what to do to the problems of a playbook.
func explainProblems(path string, err error) error {
	problems, ok := errors.AsType[playbook.Problems](err)
	if !ok {
		return err
	}
	return fmt.Errorf("playbook %s has %d problems:\n%s\nMend them, then check again with: onramp validate %s",
		path, len(problems), indent(problems.Error()), path)
}

func indent(text string) string { return "  " + strings.ReplaceAll(text, "\n", "\n  ") }

type validateCommand struct {
	Playbook string `arg:"" help:"Folder of YAML files, or one file. Example: onramp validate examples/saas-onboarding"`
	JSON     bool   `name:"json" help:"Print one JSON document."`
}

// Run checks the playbook.
func (c *validateCommand) Run(_ context.Context, io stdio) error {
	bundle, err := readBundle(c.Playbook)
	if err != nil {
		return err
	}
	compiled, err := playbook.Compile(bundle)
	if c.JSON {
		return c.writeJSON(io, bundle, err)
	}
	if err != nil {
		return explainProblems(c.Playbook, err)
	}
	say(io.out, "%s is well: version %s, %d events, %d segments, %d journeys, %d aggregates a user\n",
		compiled.Name, compiled.Hash, len(compiled.Plan.Events), len(compiled.Segments), len(compiled.Journeys), len(compiled.Set.Slots()))
	return nil
}

func (c *validateCommand) writeJSON(io stdio, bundle playbook.Bundle, err error) error {
	problems, isProblems := errors.AsType[playbook.Problems](err)
	if err != nil && !isProblems {
		return err
	}
	if problems == nil {
		problems = playbook.Problems{}
	}
	encoder := json.NewEncoder(io.out)
	encoder.SetIndent("", "  ")
	if encodeErr := encoder.Encode(map[string]any{"version": bundle.Hash(), "problems": problems}); encodeErr != nil {
		return fmt.Errorf("write result: %w", encodeErr)
	}
	if err != nil {
		return fmt.Errorf("playbook %s has %d problems", c.Playbook, len(problems))
	}
	return nil
}
