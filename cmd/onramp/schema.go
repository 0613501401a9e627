package main

import (
	"context"

	"github.com/onramphq/onramp/playbook"
)

type schemaCommand struct {
	Output string `short:"o" help:"Write to this file instead of the screen."`
}

// Help is shown by onramp schema --help.
func (*schemaCommand) Help() string {
	return "Example: onramp schema -o playbook.schema.json\n\n" +
		"An editor with a YAML language server completes and checks by it a file that begins with: # yaml-language-server: $schema=playbook.schema.json"
}

// Run prints the JSON Schema of playbook files.
func (c *schemaCommand) Run(_ context.Context, io stdio) error {
	return writeTo(c.Output, io.out, playbook.Schema())
}
