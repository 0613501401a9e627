package schema

// ReadPlain is the quick reader of events, nil where it leaves the event to the other.
func ReadPlain(raw []byte) *Event { return readPlain(raw) }

// ReadMembers is the other, which reads whatever is an event.
func ReadMembers(raw []byte) (*Event, error) {
	var event Event
	if err := readMembers(raw, event.set); err != nil {
		return nil, err
	}
	return &event, nil
}
