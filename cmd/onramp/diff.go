package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/onramphq/onramp/playbook"
)

type diffCommand struct {
	Old      string `arg:"" help:"The playbook in force: folder of YAML files, or one file."`
	New      string `arg:"" help:"The playbook to come."`
	JSON     bool   `name:"json" help:"Print one JSON document."`
	ExitCode bool   `help:"Exit with 1 where there are differences."`
}

// Help is shown by onramp diff --help.
func (*diffCommand) Help() string {
	return "Example: onramp diff playbook-in-force playbook --exit-code\n\n" +
		"Says what changes when a playbook comes into force in place of another: what was added, removed and changed, what that does to running experiments and to services that send events, and what becomes of the users who are inside a journey. Reads files alone; onramp apply --dry-run counts the users."
}

// Run compares two playbooks.
func (c *diffCommand) Run(_ context.Context, io stdio) error {
	before, err := compiledPlaybook(c.Old)
	if err != nil {
		return err
	}
	after, err := compiledPlaybook(c.New)
	if err != nil {
		return err
	}
	changes := playbook.Diff(before, after)
	if c.JSON {
		encoder := json.NewEncoder(io.out)
		encoder.SetIndent("", "  ")
		if changes == nil {
			changes = []playbook.Change{}
		}
		if err := encoder.Encode(map[string]any{"old": before.Hash, "new": after.Hash, "changes": changes}); err != nil {
			return fmt.Errorf("write changes: %w", err)
		}
	} else {
		say(io.out, "%s", diffText(before, after, changes))
	}
	if c.ExitCode && len(changes) > 0 {
		return errors.New("the playbooks differ")
	}
	return nil
}

// diffText says changes to a person: what, how it was and is, what follows.
func diffText(before, after *playbook.Playbook, changes []playbook.Change) string {
	if len(changes) == 0 {
		return fmt.Sprintf("no differences: version %s\n", after.Hash)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s: version %s → %s\n\n", after.Name, before.Hash, after.Hash)
	count := make(map[playbook.Severity]int)
	for _, change := range changes {
		count[change.Severity]++
		mark := ""
		if change.Severity != playbook.Info {
			mark = "  [" + string(change.Severity) + "]"
		}
		fmt.Fprintf(&b, "%s: %s%s\n", strings.TrimSpace(change.Kind+" "+nameOf(change)), change.What, mark)
		for _, line := range []struct{ sign, text string }{{"-", change.Old}, {"+", change.New}, {"→", change.Hint}} {
			if line.text != "" {
				fmt.Fprintf(&b, "  %s %s\n", line.sign, line.text)
			}
		}
	}
	fmt.Fprintf(&b, "\n%d breaking, %d warnings, %d more\n", count[playbook.Breaking], count[playbook.Warning], count[playbook.Info])
	return b.String()
}

// nameOf is a change's key, where it says more than the kind: there is one limit in a playbook.
func nameOf(c playbook.Change) string {
	if c.Key == c.Kind {
		return ""
	}
	return c.Key
}
