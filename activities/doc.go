// Package activities is where Onramp touches the world on behalf of a user's workflow: it delivers actions and records
// outcomes. An activity decides nothing. Each can run more than once, so each carries an identity that its receiver knows
// again: the action id of a delivery, the outcome id of a record.
//
//	Delivery.DeliverAction   one action: to NATS, local; to a webhook, remote and retried for days
//	Delivery.TryAction       the first attempt at a webhook        local: the task waits for a receiver that is quick
//	Record.CommitDecision    outcomes and profile to JetStream    local: costs no further transaction
//	Identity.TakeOver        ends the workflow of somebody who becomes one with the user, and brings what it knew
package activities
