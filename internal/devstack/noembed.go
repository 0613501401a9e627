//go:build noembed || !(linux || darwin)

package devstack

import (
	"context"
	"net"
)

// parts is empty: this build holds no servers.
type parts struct{}

// Start returns [ErrNotBuilt]: the embedded servers were left out of this build.
func Start(context.Context, Config) (*Stack, error) { return nil, ErrNotBuilt }

// Close does nothing in this build.
func (s *Stack) Close(context.Context) error { return nil }

// Failed never reports anything in this build.
func (s *Stack) Failed() <-chan error { return nil }

// KillClickHouse does nothing in this build.
func (s *Stack) KillClickHouse() {}

// ChildPID is 0 in this build.
func (s *Stack) ChildPID() int { return 0 }

// PersistenceRequests counts nothing in this build.
func (s *Stack) PersistenceRequests() (total int64, byOperation map[string]int64) { return 0, nil }

// InProcessConn returns [ErrNotBuilt].
func (s *Stack) InProcessConn() (net.Conn, error) { return nil, ErrNotBuilt }

// RunChild never handles anything in this build.
func RunChild([]string) (handled bool, code int) { return false, 0 }
