package main

import "os"

// colored reports whether to write in color: to a person's screen, unless the person asked for none (no-color.org).
func colored(stream any) bool {
	return os.Getenv("NO_COLOR") == "" && isTerminal(stream)
}
