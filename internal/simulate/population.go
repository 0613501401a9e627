package simulate

import (
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Config describes a population.
type Config struct {
	Users int
	Seed  uint64
	// Lift is the planted truth: the relative difference of the probability to activate under the personalized flow.
	Lift float64
	// Personalized answers whether a user gets the personalized flow: the assignment that the engine will make.
	Personalized func(userID string) bool
}

// Event is something a user does, at a time after the start of the simulation, in days as the playbook counts them.
type Event struct {
	UserID     string
	ID         string
	Name       string
	At         time.Duration
	Properties json.RawMessage
	Traits     json.RawMessage
}

// Kind is a way of behaving.
type Kind string

// The kinds, after the segments they end in.
const (
	Engaged Kind = "engaged"  // through within three days
	Slow    Kind = "slow"     // needs a reminder, completes on day four or five
	DropOff Kind = "drop_off" // looks at a feature and goes
	AtRisk  Kind = "at_risk"  // signs up, opens a ticket, hardly comes back
)

// SignUpSpan is the time over which users sign up; Horizon the time after which nobody does anything and every deadline of
// the playbook within two weeks has passed.
const (
	SignUpSpan = 4 * day
	Horizon    = 15 * day
)

const day = 24 * time.Hour

// kinds holds shares, and the probability to activate under the standard flow.
func kinds() []struct {
	kind                Kind
	share, activateBase float64
} {
	return []struct {
		kind                Kind
		share, activateBase float64
	}{{Engaged, 0.42, 0.62}, {Slow, 0.22, 0.40}, {DropOff, 0.22, 0.12}, {AtRisk, 0.14, 0.06}}
}

// Population returns every event of every user in order of time.
func Population(cfg Config) []Event {
	events := make([]Event, 0, 8*cfg.Users)
	for n := range cfg.Users {
		// A generator per user: adding users changes nobody who was there.
		rng := rand.New(rand.NewPCG(cfg.Seed, uint64(n))) //nolint:gosec // a simulation wants repeatable, not secret
		p := &person{rng: rng, id: fmt.Sprintf("demo-%d-%05d", cfg.Seed, n+1)}
		p.live(cfg)
		events = append(events, p.events...)
	}
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return events
}

type person struct {
	rng    *rand.Rand
	id     string
	start  time.Duration
	events []Event
}

// live lets one person sign up and behave. Times are days after signing up; between what a rule compares lies a good
// margin, so that milliseconds of travel never change a segment.
func (p *person) live(cfg Config) {
	p.start = time.Duration(p.rng.Float64() * float64(SignUpSpan))
	p.add(0, "signed_up", fmt.Sprintf(`{"plan":%q}`, pick(p.rng, "free", "team", "business")), p.traits())
	draw := p.rng.Float64()
	luck := p.rng.Float64() // decides activation: the same draw under either flow
	for _, k := range kinds() {
		if draw >= k.share {
			draw -= k.share
			continue
		}
		p.behave(k.kind)
		chance := k.activateBase
		if cfg.Personalized(p.id) {
			chance *= 1 + cfg.Lift
		}
		if luck < chance {
			p.add(p.between(5.2, 6.2), "activated", `{}`, nil)
		}
		return
	}
}

func (p *person) behave(kind Kind) {
	switch kind {
	case Engaged:
		p.add(p.between(0.1, 0.5), "profile_completed", `{}`, nil)
		p.features(3+p.rng.IntN(3), 0.5, 2)
		p.add(p.between(0.8, 1.8), "teammate_invited", `{"role":"member"}`, nil)
		p.add(p.between(1.9, 2.6), "onboarding_completed", `{}`, nil)
	case Slow:
		p.features(1, 0.2, 0.8)
		p.add(p.between(1.2, 1.6), "profile_completed", `{}`, nil)
		p.features(2, 2.2, 3.4)
		p.add(p.between(4.4, 5), "onboarding_completed", `{}`, nil)
	case DropOff:
		p.add(p.between(0.1, 0.6), "feature_viewed", p.feature(), nil)
		p.add(p.between(0.1, 0.6), "profile_completed", `{}`, nil)
		if p.rng.Float64() < 0.3 { // comes back when asked to
			p.add(p.between(3.2, 3.7), "feature_viewed", p.feature(), nil)
		}
	case AtRisk:
		p.add(p.between(0.3, 1), "support_ticket_opened", fmt.Sprintf(`{"topic":%q}`, pick(p.rng, "import", "billing", "login")), nil)
	}
}

func (p *person) features(n int, from, to float64) {
	for range n {
		at := p.between(from, to)
		p.add(at, "feature_viewed", p.feature(), nil)
		p.add(at+0.02, "feature_used", p.feature(), nil)
	}
}

func (p *person) feature() string {
	return fmt.Sprintf(`{"feature":%q}`, pick(p.rng, "reports", "dashboards", "alerts", "exports"))
}

func (p *person) traits() json.RawMessage {
	return fmt.Appendf(nil, `{"industry":%q,"role":%q,"company_size":%d,"marketing_consent":%t}`,
		pick(p.rng, "finance", "health", "education", "retail"), pick(p.rng, "admin", "analyst", "manager"),
		5*(1+p.rng.IntN(100)), p.rng.Float64() < 0.8)
}

func (p *person) between(from, to float64) float64 { return from + p.rng.Float64()*(to-from) }

func (p *person) add(days float64, name, properties string, traits json.RawMessage) {
	p.events = append(p.events, Event{
		UserID: p.id, ID: fmt.Sprintf("%s-%02d", p.id, len(p.events)+1), Name: name,
		At: p.start + time.Duration(days*float64(day)), Properties: json.RawMessage(properties), Traits: traits,
	})
}

func pick(rng *rand.Rand, from ...string) string { return from[rng.IntN(len(from))] }
