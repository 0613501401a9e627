package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"time"

	"github.com/onramphq/onramp/activities"
)

// fromEnvironment stands in a header for a variable of the environment: secrets do not belong into the file.
var fromEnvironment = regexp.MustCompile(`\$\{env\.([A-Z_][A-Z0-9_]*)\}`)

// readProviders reads who is asked about users: a YAML mapping of names to url, headers, timeout, max_age, traits and allow_private. They
// come in the order of their names.
func readProviders(path string) ([]*activities.Provider, error) {
	if path == "" {
		return nil, nil
	}
	var entries map[string]struct {
		URL          string            `yaml:"url"`
		Headers      map[string]string `yaml:"headers"`
		Timeout      time.Duration     `yaml:"timeout"`
		MaxAge       time.Duration     `yaml:"max_age"` //nolint:tagliatelle // snake_case as in playbooks
		Traits       map[string]string `yaml:"traits"`
		AllowPrivate bool              `yaml:"allow_private"` //nolint:tagliatelle // as above
	}
	if err := readSettings("enrichment", path, &entries); err != nil {
		return nil, &usageError{err}
	}
	providers := make([]*activities.Provider, 0, len(entries))
	var problems []error
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		entry := entries[name]
		for header, value := range entry.Headers {
			entry.Headers[header] = fromEnvironment.ReplaceAllStringFunc(value, func(text string) string {
				variable := fromEnvironment.FindStringSubmatch(text)[1]
				secret, set := os.LookupEnv(variable)
				if !set {
					problems = append(problems, fmt.Errorf("provider %s: header %s: the variable %s is not set", name, header, variable))
				}
				return secret
			})
		}
		provider, err := activities.NewProvider(name, activities.ProviderConfig{
			URL: entry.URL, Headers: entry.Headers, Timeout: entry.Timeout, MaxAge: entry.MaxAge, Traits: entry.Traits, AllowPrivate: entry.AllowPrivate,
		})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		providers = append(providers, provider)
	}
	if err := errors.Join(problems...); err != nil {
		return nil, usagef("enrichment %s: %w", path, err)
	}
	return providers, nil
}
