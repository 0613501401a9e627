package truth_test

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain lets rapid draw more than its hundred cases: here they are cheap. With -short, as under the race detector, it draws fewer.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "rapid.checks" })
	checks := "300"
	if testing.Short() {
		checks = "40"
	}
	if !asked {
		if err := flag.Set("rapid.checks", checks); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
