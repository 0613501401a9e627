package outcome

import (
	"context"

	"github.com/onramphq/onramp/experiment"
)

func (s *Store) Keep(ctx context.Context, a *experiment.Analysis, engine string) (string, error) {
	return "tmp", nil
}

func (s *Store) Misplaced(ctx context.Context, key string) (int64, error) { return 0, nil }
