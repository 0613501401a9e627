package schema

import "strings"

// HeaderTrace is the header of W3C Trace Context, over NATS as over HTTP; every reader finds it in any case. Where a CloudEvent's extension of
// that name says something else, this one counts: it is of the message's own way, the extension of where the event began.
const HeaderTrace = "traceparent"

// Trace says where something stands in a distributed trace, as a traceparent of version 00:
//
//	00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
//	   trace id                         span that caused it  01: recorded
//
// Empty: in none. It is told of an event and of what follows from it, and decides nothing.
type Trace string

// Where the parts of a traceparent stand.
const (
	traceIDAt, spanIDAt, traceFlagsAt, traceEnd = 3, 36, 53, 55

	traceKnownFlags = 0b11 // recorded; its id is random
)

// ParseTrace reads a traceparent. One of a newer version is read as far as it is known here, and its unknown flags are dropped, as the
// specification wants. What is none gives an empty Trace: a trace that is broken must not cost the event.
func ParseTrace(text string) Trace {
	if len(text) < traceEnd || text[traceIDAt-1] != '-' || text[spanIDAt-1] != '-' || text[traceFlagsAt-1] != '-' {
		return ""
	}
	version, id, span, flags := text[:traceIDAt-1], text[traceIDAt:spanIDAt-1], text[spanIDAt:traceFlagsAt-1], text[traceFlagsAt:traceEnd]
	switch {
	case !isHex(version) || !isHex(id) || !isHex(span) || !isHex(flags) || version == "ff":
		return ""
	case strings.Trim(id, "0") == "" || strings.Trim(span, "0") == "":
		return ""
	case version == "00" && len(text) > traceEnd, len(text) > traceEnd && text[traceEnd] != '-':
		return ""
	}
	known := strings.IndexByte(hexDigits, flags[1]) & traceKnownFlags
	return Trace("00-" + id + "-" + span + "-0" + hexDigits[known:known+1])
}

const hexDigits = "0123456789abcdef"

func isHex(text string) bool { return strings.Trim(text, hexDigits) == "" }

// TraceOf reads the header of a message or a request, whatever its case. One that stands there more than once counts for nothing.
func TraceOf(header map[string][]string) Trace {
	found := ""
	for name, values := range header {
		if len(name) != len(HeaderTrace) || !strings.EqualFold(name, HeaderTrace) {
			continue
		}
		if len(values) != 1 || found != "" {
			return ""
		}
		found = values[0]
	}
	return ParseTrace(strings.TrimSpace(found))
}

// ID is the id of the trace, 32 hexadecimal digits by which logs, spans and rows are found; empty for none.
func (t Trace) ID() string {
	if len(t) != traceEnd {
		return ""
	}
	return string(t[traceIDAt : spanIDAt-1])
}
