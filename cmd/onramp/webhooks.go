package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/activities"
)

// readWebhooks reads the receivers of webhook actions: a YAML mapping of names to url and secret_file or secret, with the former secret
// while it is changed.
func readWebhooks(path string) (map[string]*activities.Webhook, error) {
	if path == "" {
		return map[string]*activities.Webhook{}, nil
	}
	var entries map[string]struct {
		URL          string `yaml:"url"`
		Secret       string `yaml:"secret"`
		SecretFile   string `yaml:"secret_file"`   //nolint:tagliatelle // snake_case as in playbooks
		AllowPrivate bool   `yaml:"allow_private"` //nolint:tagliatelle // as above

		FormerSecret     string `yaml:"former_secret"`      //nolint:tagliatelle // as above
		FormerSecretFile string `yaml:"former_secret_file"` //nolint:tagliatelle // as above

		Concurrency int           `yaml:"concurrency"`
		Cooldown    time.Duration `yaml:"cooldown"`
	}
	if err := readSettings("webhooks", path, &entries); err != nil {
		return nil, err
	}
	webhooks := make(map[string]*activities.Webhook, len(entries))
	var problems []error
	for name, entry := range entries {
		err := errors.Join(secretOf(&entry.Secret, entry.SecretFile), secretOf(&entry.FormerSecret, entry.FormerSecretFile))
		if err != nil {
			problems = append(problems, fmt.Errorf("webhook %s: %w", name, err))
			continue
		}
		webhook, err := activities.NewWebhook(name, activities.WebhookConfig{
			URL: entry.URL, Secret: entry.Secret, FormerSecret: entry.FormerSecret, AllowPrivate: entry.AllowPrivate,
			Concurrency: entry.Concurrency, Cooldown: entry.Cooldown,
		})
		if err != nil {
			problems = append(problems, err)
			continue
		}
		webhooks[name] = webhook
	}
	return webhooks, errors.Join(problems...)
}

// readSettings reads a YAML file of the operator's strictly. what is what it says, for a person.
func readSettings(what, path string, into any) error {
	file, err := os.Open(path) //nolint:gosec // the operator names the file
	if err != nil {
		return usagef("%s: %w", what, err)
	}
	defer file.Close() //nolint:errcheck // read only
	decoder := yaml.NewDecoder(file)
	decoder.KnownFields(true)
	if err := decoder.Decode(into); err != nil {
		return fmt.Errorf("%s %s: %w", what, path, err)
	}
	return nil
}

// secretOf reads a secret from its file, where there is one. The line break at its end is none of it.
func secretOf(secret *string, path string) error {
	if path == "" {
		return nil
	}
	raw, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	*secret = strings.TrimSpace(string(raw))
	return nil
}
