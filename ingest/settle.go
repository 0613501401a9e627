package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/identity"
	"github.com/onramphq/onramp/internal/recent"
	"github.com/onramphq/onramp/internal/tracing"
	"github.com/onramphq/onramp/schema"
)

// queued is an event on its way, since arrived, with the message to acknowledge. links are to be written before it goes, once emptied is closed: the
// mailbox of who becomes one with the user by it is empty then; nil: it is already.
type queued struct {
	message jetstream.Msg
	event   schema.UserEvent
	links   []*identity.Link
	emptied <-chan struct{}
	arrived time.Time
	prompt  bool // somebody waits for it
}

// mailbox is what waits for one user, in stream order. At most one carrier works on it; where none does, its events may wait.
type mailbox struct {
	user    schema.JourneyStart
	current Playbook
	events  []queued
	emptied chan struct{} // closed when the mailbox is taken away; nil: nobody waits for that
	carried bool
	late    int           // so many of events came while mailboxes gathered, and it was not decided yet whether they wait
	timer   *time.Timer   // sends a carrier to what has waited long enough; nil: nothing waits, or it was sent
	hurry   chan struct{} // closed where something comes that may not wait while that carrier gives way; nil: it does not
}

// mailboxes let every user's events travel in order, one call at a time, while users do not wait for each other: a call that
// takes long holds up its own user, whose events gather meanwhile and share the next call.
type mailboxes struct {
	ingest   *Ingest
	slots    chan struct{} // one for each call in flight
	patient  chan struct{} // one for each of them whose events could wait
	carriers sync.WaitGroup
	mu       sync.Mutex
	byToken  map[string]*mailbox
	closed   bool
	book     *identity.Book // who has become whom, up to the message that is being sorted
	patience *recent.Map[string, known]
	pace     *pace

	gathering time.Time  // since when mailboxes fill and no carrier is sent; zero: they do not
	gathered  []*mailbox // to which one may have to be sent
}

func newMailboxes(i *Ingest, book *identity.Book) *mailboxes {
	return &mailboxes{
		ingest: i, slots: make(chan struct{}, i.cfg.Concurrency), patient: make(chan struct{}, max(1, i.cfg.Concurrency/givingWayEach)), byToken: make(map[string]*mailbox), book: book,
		patience: recent.New[string, known](patienceKept), pace: newPace(),
	}
}

// put adds an event to its user's mailbox, and sends a carrier to it unless one works on it or nothing in it matters yet.
func (m *mailboxes) put(ctx context.Context, user schema.JourneyStart, q queued, current Playbook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ingest.stats.queued.Add(1)
	if from := m.byToken[q.event.From]; from != nil { // what comes for them from now on is the user's: the mailbox only empties
		if from.emptied == nil {
			from.emptied = make(chan struct{})
		}
		q.emptied = from.emptied
		m.dispatch(ctx, from, 0)
	}
	box := m.byToken[user.UserToken]
	if box == nil {
		m.ingest.stats.mailboxes.Add(1)
		box = &mailbox{user: user}
		m.byToken[user.UserToken] = box
	}
	box.events, box.current = append(box.events, q), current
	if m.gathering.IsZero() {
		m.dispatch(ctx, box, 1)
		return
	}
	if box.late++; box.late == 1 {
		m.gathered = append(m.gathered, box)
	}
}

// gatherFor bounds how long mailboxes fill before carriers are sent while a backlog is being read.
const gatherFor = 250 * time.Millisecond

// gather lets mailboxes fill, from now on until release: a backlog is read faster than it is carried away, and the first carriers would go
// with a batch of one event each.
func (m *mailboxes) gather() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gathering.IsZero() {
		m.gathering = time.Now()
	}
}

// due returns how long the mailboxes may go on filling; false where they do not.
func (m *mailboxes) due() (time.Duration, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(0, time.Until(m.gathering.Add(gatherFor))), !m.gathering.IsZero()
}

// release sends carriers to what has gathered.
func (m *mailboxes) release(ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gathering = time.Time{}
	for _, box := range m.gathered {
		late := box.late
		box.late = 0
		m.dispatch(ctx, box, late)
	}
	m.gathered = nil
}

// dispatch sends a carrier to a mailbox that has none, at once or when its events have waited long enough, so many of them from now on. m.mu is
// held.
func (m *mailboxes) dispatch(ctx context.Context, box *mailbox, more int) {
	if box.hurry != nil {
		if _, ok := m.waitsUntil(box); !ok {
			close(box.hurry)
			box.hurry = nil
		}
	}
	if box.carried || m.closed {
		return
	}
	if wait := m.mayWait(box); wait > 0 {
		m.ingest.stats.waited.Add(int64(more))
		if box.timer == nil {
			box.timer = time.AfterFunc(wait, func() {
				m.mu.Lock()
				defer m.mu.Unlock()
				m.send(ctx, box, make(chan struct{}))
			})
		}
		return
	}
	m.send(ctx, box, nil)
}

// send sends a carrier to a mailbox that has none, which gives way until hurry is closed; nil: it does not. m.mu is held.
func (m *mailboxes) send(ctx context.Context, box *mailbox, hurry chan struct{}) {
	if box.timer != nil {
		box.timer.Stop()
		box.timer = nil
	}
	if box.carried || m.closed || len(box.events) == 0 {
		return
	}
	box.carried, box.hurry = true, hurry
	m.carriers.Go(func() {
		if hurry != nil {
			defer m.giveWay(ctx, hurry)()
		}
		m.carry(ctx, box.user)
	})
}

// close sends no carrier any more and waits for those that are under way. What waits stays unacknowledged: the next process gets it.
func (m *mailboxes) close() {
	m.mu.Lock()
	m.closed = true
	for _, box := range m.byToken {
		if box.timer != nil {
			box.timer.Stop()
		}
	}
	m.mu.Unlock()
	m.carriers.Wait()
}

// carry empties one mailbox, batch by batch, and takes it away when it is empty, or leaves it to its timer when what it holds may wait. After each
// batch it stands behind whoever waits for a place: one that stayed while more comes than can be carried would go on with the one or two events that
// came meanwhile, and the mailboxes that are full would wait for it.
func (m *mailboxes) carry(ctx context.Context, user schema.JourneyStart) {
	for m.more(ctx, user.UserToken) && m.enter(ctx) {
		batch, current := m.take(user.UserToken)
		if len(batch[0].links) > 0 {
			<-m.slots // who is waited for may need it
			if m.link(ctx, batch) != nil || !m.enter(ctx) {
				return
			}
		}
		m.pace.begin(user.UserToken, time.Now())
		patience := m.ingest.send(ctx, user, batch, current)
		m.pace.end(user.UserToken, time.Now())
		m.learn(user.UserToken, current, patience)
		<-m.slots
	}
}

// enter waits for a place among the calls in flight. It returns false where ctx ends first: what is in hand stays unacknowledged then, and
// the next process gets it.
func (m *mailboxes) enter(ctx context.Context) bool {
	select {
	case m.slots <- struct{}{}:
		return true
	case <-ctx.Done():
		return false
	}
}

// more reports whether there is something in a mailbox to carry now. The carrier who is told that there is not is done with it.
func (m *mailboxes) more(ctx context.Context, token string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	box := m.byToken[token]
	box.hurry = nil // it gives way no more
	switch {
	case ctx.Err() != nil:
		return false
	case len(box.events) == 0:
		m.ingest.stats.mailboxes.Add(-1)
		delete(m.byToken, token)
		if box.emptied != nil {
			close(box.emptied)
		}
		return false
	case m.mayWait(box) > 0:
		box.carried = false
		m.dispatch(ctx, box, len(box.events))
		return false
	}
	return true
}

// take takes the next batch out of a mailbox that has one.
func (m *mailboxes) take(token string) ([]queued, Playbook) {
	m.mu.Lock()
	defer m.mu.Unlock()
	box := m.byToken[token]
	n := m.ingest.batchSize(box.events)
	batch := box.events[:n]
	box.events = box.events[n:]
	m.ingest.stats.queued.Add(int64(-n))
	return batch, box.current
}

// settle sorts what comes until there is nothing more. A page that has a backlog behind it only fills the mailboxes.
func (i *Ingest) settle(ctx context.Context, messages <-chan jetstream.Msg, boxes *mailboxes) {
	for {
		var late <-chan time.Time
		if wait, gathering := boxes.due(); gathering {
			late = time.After(wait)
		}
		page, open := gather(messages, i.cfg.Page, late)
		switch {
		case !open:
			return
		case ctx.Err() != nil:
			continue // left unacknowledged: the next process gets them
		case len(page) > 0 && i.backlog(page) && i.held.count() < i.cfg.InHand:
			boxes.gather()
			i.settlePage(ctx, page, boxes)
			if wait, _ := boxes.due(); wait > 0 {
				continue
			}
		case len(page) > 0:
			i.settlePage(ctx, page, boxes)
		}
		boxes.release(ctx)
	}
}

// backlog reports whether more than a few events waited behind a page when it was handed out.
func (i *Ingest) backlog(page []jetstream.Msg) bool {
	meta, err := page[len(page)-1].Metadata()
	return err == nil && meta.NumPending > uint64(i.cfg.Page/10) //nolint:gosec // validated: positive
}

// settlePage sends every message of the page on its way: to its user's mailbox, to the dead letters, or straight to its
// acknowledgment.
func (i *Ingest) settlePage(ctx context.Context, page []jetstream.Msg, boxes *mailboxes) {
	current, err := i.awaitPlaybook(ctx)
	if err != nil {
		return
	}
	i.stats.received.Add(int64(len(page))) // before what becomes of them is counted: that is never more
	for _, message := range page {
		whose, event, err := i.whose(message, boxes.book)
		q := queued{message: message, event: event, arrived: time.Now(), prompt: message.Headers().Get(schema.HeaderPrompt) != ""}
		if whose.Link != nil {
			q.links = append(q.links, whose.Link)
		}
		if whose.Known != nil {
			q.links = append(q.links, whose.Known)
		}
		switch {
		case err != nil:
			i.bury(ctx, message, err)
		case whose.Past:
			i.ack(message)
		case whose.Link == nil && !current.Reads(event.EventName, len(event.Traits) > 0):
			if i.writeLinks(ctx, q.links) != nil {
				continue // told to stop: the next process gets it
			}
			i.stats.skipped.Add(1)
			i.ack(message)
		default:
			boxes.put(ctx, schema.JourneyStart{
				Version: schema.JourneyVersion, MaxHistory: schema.RunLength, UserID: whose.UserID, UserToken: whose.User, Enrich: i.cfg.Enrich,
			}, q, current)
		}
	}
	tell(i.cfg.Meters.Page, float64(len(page)))
}

// renew tells the server what is still in hand, the messages that wait behind the page included: those would be delivered
// again and again while Temporal is away.
func (i *Ingest) renew(ctx context.Context) {
	ticker := time.NewTicker(i.cfg.AckWait / 3)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			for _, message := range i.held.all() {
				if err := message.InProgress(); err != nil && !errors.Is(err, jetstream.ErrMsgAlreadyAckd) {
					i.logger.WarnContext(ctx, "message not renewed", slog.Any("error", err))
					break
				}
			}
		}
	}
}

// awaitPlaybook waits for the first playbook to be published: without one, nobody can say what an event means.
func (i *Ingest) awaitPlaybook(ctx context.Context) (Playbook, error) {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		current, err := i.current()
		if err == nil {
			return current, nil
		}
		i.logger.WarnContext(ctx, "events wait", slog.Any("error", err))
		select {
		case <-ctx.Done():
			return Playbook{}, ctx.Err()
		case <-time.After(delay):
		}
	}
}

// exhausted refuses a message that was delivered more than MaxDeliver times: each time a process died with it in hand.
func (i *Ingest) exhausted(message jetstream.Msg) error {
	meta, err := message.Metadata()
	if err != nil {
		return fmt.Errorf("read message metadata: %w", err)
	}
	attempts := i.stuck.attempts(meta)
	if attempts <= uint64(i.cfg.MaxDeliver) { //nolint:gosec // validated: 2 to 1000
		return nil
	}
	return &schema.Rejection{Reason: schema.ReasonUndeliverable, Message: fmt.Sprintf("delivered %d times and never settled", attempts)}
}

// send hands one batch of a user's events over and acknowledges it when it is durable. It returns what the workflow says of events to come.
func (i *Ingest) send(ctx context.Context, user schema.JourneyStart, events []queued, current Playbook) schema.Patience {
	batch := schema.EventBatch{Playbook: current.Hash, Revision: current.Revision, Events: make([]schema.UserEvent, len(events))}
	for k := range events {
		batch.Events[k] = events[k].event
	}
	span := i.sending(ctx, &user, &batch)
	patience, err := i.persist(ctx, user, batch)
	i.sent(ctx, span, &user, &batch, err)
	switch {
	case err == nil:
		i.stats.signals.Add(1)
		i.stats.signaled.Add(int64(len(events)))
		tell(i.cfg.Meters.Batch, float64(len(events)))
		now := time.Now().UnixMilli()
		for _, q := range events {
			tell(i.cfg.Meters.Delay, max(0, float64(now-q.event.ReceivedAt)/1000))
			i.ack(q.message)
		}
	case ctx.Err() != nil: // left unacknowledged: the next process gets them
	default:
		for _, q := range events {
			i.bury(ctx, q.message, &schema.Rejection{Reason: schema.ReasonUndeliverable, Message: err.Error()})
		}
	}
	return patience
}

func (i *Ingest) batchSize(events []queued) int {
	bytes := 0
	for n := range events {
		bytes += len(events[n].message.Data())
		if n > 0 && (n >= i.cfg.Batch || bytes > i.cfg.BatchBytes || len(events[n].links) > 0) {
			return n
		}
	}
	return len(events)
}

// persist tries until the batch is durable, ctx ends, or the error says that it never will be.
func (i *Ingest) persist(ctx context.Context, user schema.JourneyStart, batch schema.EventBatch) (schema.Patience, error) {
	for delay := firstRetry; ; delay = min(2*delay, lastRetry) {
		began := time.Now()
		patience, err := i.sender.Send(ctx, user, batch)
		tell(i.cfg.Meters.Signal, time.Since(began).Seconds())
		if err == nil || schema.CodeOf(err) == schema.CodeInvalid || ctx.Err() != nil {
			return patience, err
		}
		i.stats.retries.Add(1)
		i.logger.WarnContext(ctx, "batch not taken, trying again", slog.String("user_token", user.UserToken),
			slog.Uint64("sequence", batch.Events[0].Sequence), slog.Duration("delay", delay), slog.Any("error", err), tracing.Logged(batch.Events[0].Trace))
		select {
		case <-ctx.Done():
			return schema.Patience{}, ctx.Err()
		case <-time.After(delay):
		}
	}
}

func (i *Ingest) ack(message jetstream.Msg) {
	defer i.held.release(message)
	if err := message.Ack(); err != nil {
		// Delivered again then, and recognized: by the workflow as a repetition, by the dead letters by its message id.
		i.logger.Warn("message not acknowledged", slog.Any("error", err))
	}
}

// bury writes a message to the dead letters with its reason and acknowledges it. Where the dead letters do not take it, it
// is delivered again.
func (i *Ingest) bury(ctx context.Context, message jetstream.Msg, cause error) {
	rejection, ok := errors.AsType[*schema.Rejection](cause)
	if !ok {
		rejection = &schema.Rejection{Reason: schema.ReasonUndeliverable, Message: cause.Error()}
	}
	letter, sequence, err := i.deadLetter(message, rejection)
	if err == nil {
		_, err = i.js.PublishMsg(ctx, letter)
	}
	if err != nil {
		i.logger.ErrorContext(ctx, "dead letter not written", slog.String("reason", string(rejection.Reason)), slog.Uint64("sequence", sequence), slog.Any("error", err))
		i.held.release(message) // before it comes again
		if err := message.NakWithDelay(time.Second); err != nil {
			i.logger.WarnContext(ctx, "message not returned", slog.Uint64("sequence", sequence), slog.Any("error", err))
		}
		return
	}
	i.stats.reject(rejection.Reason)
	i.logger.WarnContext(ctx, "event refused", slog.String("reason", string(rejection.Reason)), slog.String("field", rejection.Field),
		slog.Uint64("sequence", sequence), slog.String("subject", schema.Clean(message.Subject())), tracedBy(message))
	i.ack(message)
}

func (i *Ingest) deadLetter(message jetstream.Msg, rejection *schema.Rejection) (*nats.Msg, uint64, error) {
	meta, err := message.Metadata()
	if err != nil {
		return nil, 0, fmt.Errorf("read message metadata: %w", err)
	}
	dead := schema.DeadLetter{
		Stream: meta.Stream, Sequence: meta.Sequence.Stream, Consumer: meta.Consumer, Subject: message.Subject(),
		Reason: rejection.Reason, Message: rejection.Error(), Attempts: i.stuck.attempts(meta), ReceivedAt: meta.Timestamp,
	}
	dead.Fill(message.Data(), message.Headers())
	letter := nats.NewMsg(schema.DeadLetterSubject(rejection.Reason))
	letter.Data = dead.Payload
	dead.WriteHeader(letter.Header.Set)
	letter.Header.Set(jetstream.MsgIDHeader, fmt.Sprintf("dead-%s-%d", meta.Stream, meta.Sequence.Stream))
	return letter, meta.Sequence.Stream, nil
}
