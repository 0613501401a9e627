package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/schema"
)

// Defaults of HandlerConfig.
const (
	defaultTimeout     = 30 * time.Second
	defaultConcurrency = 1
	defaultMaxDeliver  = 20
	lastNak            = time.Hour
)

// heartbeat is how often NATS says that it still has a request for actions. After two that are missing it is asked again: a request can be lost, and
// where an action comes before the NATS client has noted that it asked for it, the client leaves out the next.
const heartbeat = time.Second

// ErrRefused marks an action that can never be carried out: a handler wraps it, and the action is not handed to it again.
var ErrRefused = errors.New("the action is refused")

// errElsewhere is what a Memory says of an action that another process has in hand.
var errElsewhere = errors.New("another process has the action in hand")

// Memory remembers which actions were carried out.
type Memory interface {
	// Once calls do, unless the action of that id was carried out, and remembers that it was if do returns nil. An error of do is
	// returned as it is, and the action is not remembered. Once may be called from several goroutines and processes, also for one id.
	//
	// What remembers in the same transaction in which do writes carries out each action exactly once, whatever dies when: insert the id
	// into a table where it is the key, call do with the transaction in ctx, commit.
	Once(ctx context.Context, actionID string, do func(context.Context) error) error
}

// HandlerConfig says what to handle. Consumer, Action, Memory and Do are required.
type HandlerConfig struct {
	// Consumer is the name of the durable consumer: processes that share a name share the work.
	Consumer string
	// Action is the action's name in the playbook; * for all.
	Action string
	// Memory remembers what was done: one of the caller's own, or OpenMemory.
	Memory Memory
	// Do carries out one action. An error says that it was not, and it is handed out again later, after longer and longer waits; one that
	// wraps ErrRefused says that it never can be. ctx ends after Timeout.
	Do func(ctx context.Context, action schema.ActionRequest) error
	// Timeout is what one action may take. Defaults to 30 s.
	Timeout time.Duration
	// Concurrency is how many actions are in hand at once. Defaults to 1.
	Concurrency int
	// MaxDeliver is how often an action is handed out before it is given up: it is a dead letter then. Defaults to 20.
	MaxDeliver int
	// Logger is told of actions that were not carried out, by their ids. Defaults to nobody.
	Logger *slog.Logger
}

func (c HandlerConfig) withDefaults() HandlerConfig {
	c.Timeout, c.Concurrency = cmp.Or(c.Timeout, defaultTimeout), cmp.Or(c.Concurrency, defaultConcurrency)
	c.MaxDeliver = cmp.Or(c.MaxDeliver, defaultMaxDeliver)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func (c *HandlerConfig) validate() error {
	var problems []error
	for name, missing := range map[string]bool{"Consumer": c.Consumer == "", "Action": c.Action == "", "Memory": c.Memory == nil, "Do": c.Do == nil} {
		if missing {
			problems = append(problems, errors.New(name+" is missing"))
		}
	}
	if c.Timeout < 0 || c.Concurrency < 0 || c.MaxDeliver < 0 {
		problems = append(problems, errors.New("timeout, Concurrency and MaxDeliver must not be negative"))
	}
	if err := errors.Join(problems...); err != nil {
		return &schema.Error{Code: schema.CodeInvalid, Message: "handle actions", Err: err}
	}
	return nil
}

// Handle carries out actions until ctx ends, then what it has in hand, and returns nil. The consumer is made if it is not there and stays when
// Handle returns: actions wait for it. Errors: invalid for a configuration that cannot work; unavailable where the consumer cannot be had, or is
// taken away.
func (c *Client) Handle(ctx context.Context, cfg HandlerConfig) error {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return err
	}
	consumer, err := c.js.CreateOrUpdateConsumer(ctx, schema.ActionsStream, jetstream.ConsumerConfig{
		Durable: cfg.Consumer, FilterSubject: schema.ActionSubject(cfg.Action), AckPolicy: jetstream.AckExplicitPolicy,
		AckWait: 2 * cfg.Timeout, MaxDeliver: cfg.MaxDeliver, MaxAckPending: max(100, 2*cfg.Concurrency),
	})
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "open consumer " + schema.Clean(cfg.Consumer), Err: err}
	}
	messages, err := consumer.Messages(jetstream.PullMaxMessages(cfg.Concurrency), jetstream.PullHeartbeat(heartbeat), jetstream.WithMessagesErrOnMissingHeartbeat(false))
	if err != nil {
		return &schema.Error{Code: schema.CodeUnavailable, Message: "read consumer " + schema.Clean(cfg.Consumer), Err: err}
	}
	stop := context.AfterFunc(ctx, messages.Stop)
	defer stop()
	var inHand sync.WaitGroup
	defer inHand.Wait()
	room := make(chan struct{}, cfg.Concurrency)
	for {
		message, err := messages.Next()
		if errors.Is(err, jetstream.ErrMsgIteratorClosed) && ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return &schema.Error{Code: schema.CodeUnavailable, Message: "read consumer " + schema.Clean(cfg.Consumer), Err: err}
		}
		room <- struct{}{}
		inHand.Go(func() {
			defer func() { <-room }()
			cfg.carryOut(context.WithoutCancel(ctx), message) // what is begun is ended
		})
	}
}

// carryOut carries out one action and settles its message.
func (c *HandlerConfig) carryOut(ctx context.Context, message jetstream.Msg) {
	var action schema.ActionRequest
	if err := json.Unmarshal(message.Data(), &action); err != nil || action.ActionID == "" {
		c.settle("", message.TermWithReason("is no action"), errors.New("the message is no action"))
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	err := c.Memory.Once(ctx, action.ActionID, func(ctx context.Context) error { return c.Do(ctx, action) })
	switch {
	case err == nil:
		c.settle(action.ActionID, message.DoubleAck(ctx), nil)
	case errors.Is(err, ErrRefused):
		c.settle(action.ActionID, message.TermWithReason("refused"), err)
	default:
		c.settle(action.ActionID, message.NakWithDelay(wait(message)), err)
	}
}

// wait is longer with every delivery: 1 s, 2 s, 4 s, up to an hour.
func wait(message jetstream.Msg) time.Duration {
	meta, err := message.Metadata()
	if err != nil || meta.NumDelivered > 12 {
		return lastNak
	}
	return time.Second << (max(meta.NumDelivered, 1) - 1)
}

// settle logs what went wrong. A message that was not settled comes again, and Memory knows it.
func (c *HandlerConfig) settle(actionID string, unsettled, cause error) {
	if cause != nil {
		c.Logger.Warn("action not carried out", slog.String("action_id", actionID), slog.Any("error", cause))
	}
	if unsettled != nil {
		c.Logger.Warn("action not settled", slog.String("action_id", actionID), slog.Any("error", unsettled))
	}
}

// bucketMemory is a Memory in a key-value bucket.
type bucketMemory struct {
	kv    jetstream.KeyValue
	lease time.Duration
}

// What a bucketMemory says of an action.
const (
	stateBegun = "begun"
	stateDone  = "done"
)

// OpenMemory opens a Memory in the key-value bucket of that name, made if it is not there, that forgets what was done after keep; a week is
// more than the three days for which an action is tried. Processes that share the bucket share it. lease is after how long an action that was
// begun and never ended counts as not carried out, because its process died; it must be longer than HandlerConfig.Timeout.
//
// An action is carried out once, but for one case: where a process dies after it carried out the action and before it wrote that down, it
// is carried out again. Whoever cannot bear that writes a Memory over the database that the action changes.
//
// Errors: unavailable where the bucket cannot be had.
func (c *Client) OpenMemory(ctx context.Context, bucket string, keep, lease time.Duration) (Memory, error) {
	kv, err := c.js.CreateOrUpdateKeyValue(ctx, jetstream.KeyValueConfig{Bucket: bucket, TTL: keep, Storage: jetstream.FileStorage})
	if err != nil {
		return nil, &schema.Error{Code: schema.CodeUnavailable, Message: "open bucket " + schema.Clean(bucket), Err: err}
	}
	return &bucketMemory{kv, lease}, nil
}

// Once does as Memory says.
func (m *bucketMemory) Once(ctx context.Context, actionID string, do func(context.Context) error) error {
	revision, done, err := m.begin(ctx, actionID)
	if done || err != nil {
		return err
	}
	if err := do(ctx); err != nil {
		if gone := m.kv.Delete(ctx, actionID, jetstream.LastRevision(revision)); gone != nil {
			return errors.Join(err, fmt.Errorf("give action %s back: %w", actionID, gone)) // it is free when its lease ends
		}
		return err
	}
	if _, err := m.kv.Update(ctx, actionID, []byte(stateDone), revision); err != nil {
		return fmt.Errorf("remember action %s: %w", actionID, err)
	}
	return nil
}

// begin takes the action in hand, or reports that it was carried out.
func (m *bucketMemory) begin(ctx context.Context, actionID string) (revision uint64, done bool, err error) {
	revision, err = m.kv.Create(ctx, actionID, []byte(stateBegun))
	if !errors.Is(err, jetstream.ErrKeyExists) {
		return revision, false, err
	}
	entry, err := m.kv.Get(ctx, actionID)
	switch {
	case err != nil:
		return 0, false, fmt.Errorf("look up action %s: %w", actionID, err)
	case string(entry.Value()) == stateDone:
		return 0, true, nil
	case time.Since(entry.Created()) < m.lease:
		return 0, false, errElsewhere
	}
	if revision, err = m.kv.Update(ctx, actionID, []byte(stateBegun), entry.Revision()); err != nil {
		return 0, false, errors.Join(errElsewhere, err) // another was faster
	}
	return revision, false, nil
}
