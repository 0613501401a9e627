package results

import "github.com/onramphq/onramp/experiment"

// Results is an analysis as it is published: the JSON document of `onramp results --json` and of the API.
type Results struct {
	AnalysisID string `json:"analysis_id,omitempty"` // of the row that keeps it; empty where none was written
	Engine     string `json:"engine,omitempty"`      // version of the program
	*experiment.Analysis

	Journeys []JourneyFunnel `json:"journeys"` // in which the experiment was met
}

// JourneyFunnel is how far the users of each variant got in a journey after they had met the variant.
type JourneyFunnel struct {
	Journey string       `json:"journey"`
	Steps   []FunnelStep `json:"steps"`
}

// FunnelStep is a step and the users who reached it, in the order of Analysis.Arms.
type FunnelStep struct {
	Step  string  `json:"step"`
	Users []int64 `json:"users"`
}

// Overview is one line of a list of experiments.
type Overview struct {
	Experiment string                  `json:"experiment"`
	State      experiment.State        `json:"state"`
	Users      int64                   `json:"users"`
	Verdict    experiment.DecisionCode `json:"verdict"`
	Headline   string                  `json:"headline"`
}
