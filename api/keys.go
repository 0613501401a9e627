package api

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/time/rate"

	"github.com/onramphq/onramp/schema"
)

// Role is what a key may do.
type Role string

// The roles.
const (
	// RoleWrite is for the SDKs, browsers among them, where everybody can read the key: it sends events, and evaluates the flags of
	// the one user for whom a service has given the page a signed token.
	RoleWrite Role = "write"
	// RoleRead is for services: it reads the profile and the flags of any user, and results.
	RoleRead Role = "read"
	// RoleAdmin may do all of it.
	RoleAdmin Role = "admin"
)

// reloadEvery is how often the file is looked at: a key that is taken out stops working within it.
const reloadEvery = 5 * time.Second

// Rates of a key that names none, in events or requests a second, and what it may do at once: the largest batch.
const (
	defaultRate = 1000
	leastBurst  = maxBatchItems
)

// keyName is a token of a subject too: what a write key sends is published under the name of its key.
const keyName = `^[a-z][a-z0-9_-]{0,62}$`

// Keyring knows who may ask. Safe for concurrent use; made by OpenKeyring, kept up to date by Follow.
//
// Keys are kept as SHA-256. A slow hash protects passwords, which can be guessed; a key is 128 random bits and cannot, while a
// slow hash on every request would let strangers use up the processor. Looking the hash up in a map tells its timing to nobody
// who can use it: a caller cannot choose a hash.
type Keyring struct {
	path   string
	logger *slog.Logger
	held   atomic.Pointer[keyTable]
}

// keyTable is one reading of the file.
type keyTable struct {
	source  [sha256.Size]byte
	keys    map[[sha256.Size]byte]*apiKey
	byID    map[string]*apiKey
	origins []string
}

type apiKey struct {
	id    string // the beginning of its hash: which of the keys, for those that are no secret
	name  string
	role  Role
	rate  float64
	limit *rate.Limiter
}

// KeyName reports whether a key may be called so.
func KeyName(name string) bool { return regexp.MustCompile(keyName).MatchString(name) }

// NewKey returns a key of 128 random bits, and its hash as it stands in the file.
func NewKey(role Role) (key, hash string) {
	key = "onr_" + string(role) + "_" + strings.ToLower(rand.Text())
	sum := sha256.Sum256([]byte(key))
	return key, hex.EncodeToString(sum[:])
}

// OpenKeyring reads the file. Errors: invalid, with everything that is wrong with it.
func OpenKeyring(path string, logger *slog.Logger) (*Keyring, error) {
	k := &Keyring{path: path, logger: logger}
	if err := k.reload(); err != nil {
		return nil, err
	}
	return k, nil
}

// Follow reads the file again when it has changed, until ctx ends. A file with a mistake changes nothing and is logged.
func (k *Keyring) Follow(ctx context.Context) error {
	ticker := time.NewTicker(reloadEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if err := k.reload(); err != nil {
				k.logger.ErrorContext(ctx, "keys not read again; the former ones stay", slog.Any("error", err))
			}
		}
	}
}

func (k *Keyring) reload() error {
	raw, err := os.ReadFile(k.path)
	if err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "read keys", Err: err}
	}
	before, sum := k.held.Load(), sha256.Sum256(raw)
	if before != nil && before.source == sum {
		return nil
	}
	table, err := readKeys(raw)
	if err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "keys " + k.path, Err: err}
	}
	table.source = sum
	if before != nil {
		for hash, key := range table.keys {
			if known, ok := before.keys[hash]; ok && known.rate == key.rate {
				key.limit = known.limit // a reload is no way around a limit
			}
		}
		k.logger.Info("keys read again", slog.Int("keys", len(table.keys)))
	}
	k.held.Store(table)
	return nil
}

func readKeys(raw []byte) (*keyTable, error) {
	var file struct {
		Origins []string `yaml:"origins"`
		Keys    []struct {
			Name   string  `yaml:"name"`
			Role   Role    `yaml:"role"`
			SHA256 string  `yaml:"sha256"`
			Rate   float64 `yaml:"rate"`
		} `yaml:"keys"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil {
		return nil, fmt.Errorf("not read: %w", err)
	}
	table := &keyTable{keys: make(map[[sha256.Size]byte]*apiKey, len(file.Keys)), byID: make(map[string]*apiKey, len(file.Keys)), origins: file.Origins}
	var problems []error
	problem := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, origin := range file.Origins {
		if u, err := url.Parse(origin); origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Scheme+"://"+u.Host != origin) {
			problem("origin %q must be scheme://host[:port] and nothing after it, or *", schema.Clean(origin))
		}
	}
	if len(file.Keys) == 0 {
		problem("there is no key: make one with onramp key")
	}
	names := make(map[string]bool)
	for i, entry := range file.Keys {
		var hash [sha256.Size]byte
		decoded, err := hex.DecodeString(entry.SHA256)
		copy(hash[:], decoded)
		switch {
		case !KeyName(entry.Name):
			problem("key %d: name must be a lower-case letter and at most 62 lower-case letters, digits, - and _", i+1)
		case names[entry.Name]:
			problem("key %s: the name stands twice", entry.Name)
		case !slices.Contains([]Role{RoleWrite, RoleRead, RoleAdmin}, entry.Role):
			problem("key %s: role must be write, read or admin", entry.Name)
		case err != nil || len(decoded) != sha256.Size:
			problem("key %s: sha256 must be 64 hexadecimal digits, as onramp key prints them", entry.Name)
		case table.keys[hash] != nil:
			problem("key %s: is the same key as %s", entry.Name, table.keys[hash].name)
		case entry.Rate < 0 || entry.Rate > 1e6:
			problem("key %s: rate must lie between 0 (which means %d) and 1000000 a second", entry.Name, defaultRate)
		default:
			names[entry.Name] = true
			key := newAPIKey(entry.Name, entry.Role, entry.Rate)
			key.id = base64.RawURLEncoding.EncodeToString(hash[:9])
			table.keys[hash], table.byID[key.id] = key, key
		}
	}
	return table, errors.Join(problems...)
}

func newAPIKey(name string, role Role, perSecond float64) *apiKey {
	if perSecond == 0 {
		perSecond = defaultRate
	}
	return &apiKey{name: name, role: role, rate: perSecond, limit: rate.NewLimiter(rate.Limit(perSecond), max(leastBurst, int(math.Ceil(perSecond))))}
}

func (k *Keyring) find(secret string) (*apiKey, bool) {
	key, ok := k.held.Load().keys[sha256.Sum256([]byte(secret))]
	return key, ok
}

// byID finds a key that was presented before, and may have been taken out since.
func (k *Keyring) byID(id string) (*apiKey, bool) {
	key, ok := k.held.Load().byID[id]
	return key, ok
}

func (k *Keyring) origins() []string { return k.held.Load().origins }

// may reports whether the key does what a route asks for.
func (a *apiKey) may(roles ...Role) bool {
	return a.role == RoleAdmin || slices.Contains(roles, a.role)
}

// take takes n from what the key may do in this second. Where that is used up it says how long to wait.
func (a *apiKey) take(now time.Time, n int) (wait time.Duration, ok bool) {
	reservation := a.limit.ReserveN(now, n)
	if !reservation.OK() {
		return time.Second, false
	}
	if wait = reservation.DelayFrom(now); wait > 0 {
		reservation.CancelAt(now)
		return wait, false
	}
	return 0, true
}
