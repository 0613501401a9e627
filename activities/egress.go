package activities

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/onramphq/onramp/schema"
)

// Bounds of reaching somebody outside.
const (
	lookupTimeout = 2 * time.Second
	dialTimeout   = 3 * time.Second // of one address
	maxAddresses  = 4
)

// lookup finds the addresses of a name.
type lookup func(ctx context.Context, name string) ([]netip.Addr, error)

// egress is the way out of the operator's network: to public addresses and nowhere else, whatever a name resolves to.
type egress struct {
	find    lookup
	private bool // loopback and private addresses are reached too
}

func newEgress(private bool) *egress {
	return &egress{private: private, find: func(ctx context.Context, name string) ([]netip.Addr, error) {
		return net.DefaultResolver.LookupNetIP(ctx, "ip", name)
	}}
}

// client makes requests this way: no proxy, no redirect, TLS of this decade.
func (e *egress) client(timeout time.Duration, perHost int) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			DialContext: e.dial, MaxIdleConnsPerHost: perHost, ForceAttemptHTTP2: true,
			TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// dial tries the addresses of a name in turn. A name outside is taken as whole, so no search domain makes an inner one of it, and the
// check is on the address that is dialed, so a name that resolves anew cannot get around it.
func (e *egress) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", schema.Clean(address), err)
	}
	dialer := &net.Dialer{Timeout: dialTimeout}
	if !e.private {
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return checkPublic(address) }
	}
	addresses, err := e.addresses(ctx, host)
	if err != nil {
		return nil, err
	}
	failures := make([]error, 0, len(addresses))
	for _, addr := range addresses {
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
		if err == nil {
			return conn, nil
		}
		failures = append(failures, err)
	}
	return nil, errors.Join(failures...)
}

func (e *egress) addresses(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	name := host
	if !e.private {
		name = strings.TrimSuffix(host, ".") + "."
	}
	found, err := e.find(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("look up %s: %w", schema.Clean(host), err)
	}
	slices.SortStableFunc(found, func(a, b netip.Addr) int { return a.BitLen() - b.BitLen() }) // IPv4 first: it is what works where one does not
	return found[:min(len(found), maxAddresses)], nil
}

// numericHost is a name that resolvers take for an address: 127.1, 2130706433, 0x7f.1.
var numericHost = regexp.MustCompile(`^(0[xX][0-9a-fA-F]*|[0-9]+)(\.(0[xX][0-9a-fA-F]*|[0-9]+))*\.?$`)

// checkURL refuses what cannot be a receiver outside, at the moment it is written down. What a name resolves to is looked at again
// with every dial. private lets loopback and private addresses pass, any port, and plain http. The message tells what to write.
func checkURL(raw string, private bool) error {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return fmt.Errorf("%q is not a URL", schema.Clean(raw))
	}
	host := u.Hostname()
	addr, notAddr := netip.ParseAddr(host)
	switch {
	case u.User != nil:
		return errors.New("the URL must not hold a user name")
	case u.Scheme != "https" && (u.Scheme != "http" || !private):
		return errors.New("the URL must begin with https://")
	case strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || r == '%' }):
		return errors.New("the host must be ASCII; write a name of other letters in its xn-- form")
	case notAddr != nil && numericHost.MatchString(host):
		return errors.New("the host must be a name, or an address written out")
	case private:
		return nil
	case u.Port() != "" && u.Port() != "443" && u.Port() != "8443":
		return errors.New("the port must be 443 or 8443")
	case strings.EqualFold(strings.TrimSuffix(host, "."), "localhost"), notAddr == nil && !isPublic(addr):
		return errors.New("the host is not public; see allow_private")
	default:
		return nil
	}
}

// privateRanges are the addresses that are nobody's on the public network. netip's own predicates miss eight of them.
func privateRanges() []netip.Prefix {
	texts := []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
		"192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24",
		"224.0.0.0/4", "240.0.0.0/4",
		"::/8", // unspecified, loopback, every form in which an IPv4 address is embedded
		"100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	}
	ranges := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		ranges[i] = netip.MustParsePrefix(text)
	}
	return ranges
}

func isPublic(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	return !slices.ContainsFunc(privateRanges(), func(r netip.Prefix) bool { return r.Contains(addr) })
}

func checkPublic(address string) error {
	port, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("dial %s: %w", schema.Clean(address), err)
	}
	if !isPublic(port.Addr()) {
		return fmt.Errorf("dial %s: the address is not public", address)
	}
	return nil
}
