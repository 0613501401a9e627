package main

import (
	"io"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar on a person's screen and nothing where a program reads.
type progress struct{ bar *progressbar.ProgressBar }

func newProgress(w io.Writer, what string, total int64) *progress {
	if !isTerminal(w) {
		return &progress{}
	}
	return &progress{bar: progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(what),
		progressbar.OptionSetWidth(30), progressbar.OptionSetElapsedTime(true), progressbar.OptionClearOnFinish())}
}

// set shows how much is done. A bar that cannot be drawn is no reason to stop the work.
func (p *progress) set(done int64) {
	if p.bar != nil {
		p.bar.Set64(done) //nolint:errcheck // see above
	}
}

func (p *progress) done() {
	if p.bar != nil {
		p.bar.Finish() //nolint:errcheck // as in set
	}
}
