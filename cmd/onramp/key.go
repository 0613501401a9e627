package main

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/onramphq/onramp/api"
)

type keyCommand struct {
	Name string `required:"" help:"Name of the key; events that come with it are published under onramp.events.NAME."`
	Role string `enum:"write,read,admin" default:"write" help:"write: SDKs and browsers send events. read: services read profiles, flags and results. admin: both."`
	JSON bool   `name:"json" help:"Print one JSON document."`
}

// Help is shown by onramp key --help.
func (*keyCommand) Help() string {
	return "Example: onramp key --name web --role write\n\n" +
		"The key goes to standard error, its entry to standard output, so that onramp key --name web >> keys.yaml keeps the hash alone for --api-keys or ONRAMP_API_KEYS. To change a key, add the new one to the file, let its users take it over, and remove the old one: a running API reads the file again within seconds."
}

// Run makes one key. It writes no file: which process reads which file is the operator's to know.
func (c *keyCommand) Run(_ context.Context, io stdio) error {
	if !api.KeyName(c.Name) {
		return usagef("the name of a key is a lower-case letter and at most 62 lower-case letters, digits, - and _")
	}
	key, hash := api.NewKey(api.Role(c.Role))
	if !c.JSON {
		say(io.err, "The key, shown once and kept nowhere: %s\nIts entry for the file of keys:\n", key)
		say(io.out, "  - {name: %s, role: %s, sha256: %s}\n", c.Name, c.Role, hash)
		return nil
	}
	if err := json.NewEncoder(io.out).Encode(map[string]string{"key": key, "name": c.Name, "role": c.Role, "sha256": hash}); err != nil {
		return fmt.Errorf("print key: %w", err)
	}
	return nil
}
