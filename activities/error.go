package activities

import (
	"errors"
	"time"

	"go.temporal.io/sdk/temporal"

	"github.com/onramphq/onramp/schema"
)

// translate turns an error into what Temporal should do about it: what cannot succeed is not tried again. It is the only
// place where that is decided.
func translate(err error, retryAfter time.Duration) error {
	if err == nil {
		return nil
	}
	code := schema.CodeOf(err)
	options := temporal.ApplicationErrorOptions{Cause: err, NextRetryDelay: retryAfter}
	switch code {
	case schema.CodeInvalid, schema.CodeNotFound, schema.CodeConflict:
		options.NonRetryable = true
	case schema.CodeUnavailable, schema.CodeRateLimited, schema.CodeInternal:
	}
	return temporal.NewApplicationErrorWithOptions(err.Error(), string(code), options)
}

// Reason is the code of a failed activity, for the outcome that records the failure.
func Reason(err error) string {
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok {
		return e.Type()
	}
	return string(schema.CodeInternal)
}

// resultOf is the Result of an attempt that ended with a translated error.
func resultOf(err error) string {
	if err == nil {
		return ResultDelivered
	}
	if e, ok := errors.AsType[*temporal.ApplicationError](err); ok && e.NonRetryable() {
		return ResultRefused
	}
	return ResultRetried
}
