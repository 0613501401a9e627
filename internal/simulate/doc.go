// Package simulate makes up a population of sign-ups that behave as in the case study of examples/saas-onboarding, with a
// planted truth: whoever gets the personalized flow is more likely to activate, by a known factor. The same seed gives the
// same people and the same events. Pure: it decides who does what and when; publishing is the caller's.
package simulate
