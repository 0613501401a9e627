package main

import "context"

type replayCommand struct{}

// Run is filled in by the next change.
func (*replayCommand) Run(context.Context) error { return nil }
