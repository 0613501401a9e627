package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/activities"
)

// readWebhooks reads the receivers of webhook actions: a YAML mapping of names to url and secret_file or secret.
func readWebhooks(path string) (map[string]*activities.Webhook, error) {
	if path == "" {
		return map[string]*activities.Webhook{}, nil
	}
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return nil, usagef("webhooks: %w", err)
	}
	defer file.Close() //nolint:errcheck // read only
	var entries map[string]struct {
		URL          string `yaml:"url"`
		Secret       string `yaml:"secret"`
		SecretFile   string `yaml:"secret_file"`   //nolint:tagliatelle // snake_case as in playbooks
		AllowPrivate bool   `yaml:"allow_private"` //nolint:tagliatelle // as above

		Concurrency int           `yaml:"concurrency"`
		Cooldown    time.Duration `yaml:"cooldown"`
	}
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(&entries); err != nil {
		return nil, fmt.Errorf("webhooks %s: %w", path, err)
	}
	webhooks := make(map[string]*activities.Webhook, len(entries))
	var problems []error
	for name, entry := range entries {
		if entry.SecretFile != "" {
			secret, err := os.ReadFile(entry.SecretFile)
			if err != nil {
				problems = append(problems, fmt.Errorf("webhook %s: %w", name, err))
				continue
			}
			entry.Secret = string(secret)
		}
		webhook, err := activities.NewWebhook(name, activities.WebhookConfig{URL: entry.URL, Secret: entry.Secret, AllowPrivate: entry.AllowPrivate, Concurrency: entry.Concurrency, Cooldown: entry.Cooldown})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		webhooks[name] = webhook
	}
	return webhooks, errors.Join(problems...)
}
