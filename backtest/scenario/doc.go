// Package scenario tests a playbook by example: what is given, at which moments, and what must follow, to the millisecond. Pure: a
// scenario of a month takes milliseconds.
//
//	text ──▶ Parse ──▶ Scenario ──▶ Run ──▶ Report (passed, or a time line of expected against got)
//
// A file `*.scenario.yaml` holds one scenario a document:
//
//	scenario: a reminder after a day without a profile
//	zone: Europe/Berlin              # of times without an offset. Defaults to UTC
//	start: 2026-03-02T09:00:00Z      # what +0h means. Defaults to 2026-03-02T00:00:00Z
//	user: u1                         # or variants: {onboarding_flow: control}, for a user who gets them
//	given:
//	  - {at: +0h, event: signed_up, traits: {industry: finance}}
//	  - {at: +30h, event: profile_completed, received: +80h}
//	  - {at: +40h, playbook: ../v2}  # from here on this version is in force
//	expect:
//	  - {at: +24h, action: send_reminder, with: {item: profile}}
//	  - {at: +48h, in: [active], not_in: [new_user]}
//	never: [{action: reengage}, {started: comeback}]
//	only: [actions]
//	until: +30d
//
// A moment is an offset from start (+1d12h, +500ms, -3d) or a time. What is expected must happen at exactly its moment. Of the
// kinds that only names, nothing else may happen; it defaults to actions and suppressions.
package scenario
