package activities

// CheckPublic is what a webhook asks about the address it is about to dial.
func CheckPublic(address string) error { return checkPublic(address) }

// Bounds of one attempt.
const (
	MaxAnswerBytes = maxAnswerBytes
	MaxRetryAfter  = maxRetryAfter
)
