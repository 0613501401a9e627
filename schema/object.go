package schema

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// ReadObject reads one JSON object of a foreign shape as strictly as DecodeEvent reads an event, and returns its members as they
// stand. Errors are *Rejection.
func ReadObject(raw []byte) (map[string]json.RawMessage, error) {
	if !utf8.Valid(raw) {
		return nil, reject(ReasonInvalidUTF8, "", "the text is not valid UTF-8")
	}
	return collect(raw)
}

// ReadEnvelope is ReadObject for an object that carries others: its own names must be unique, and what its values hold is left
// to whoever reads them, so that one broken item costs none of the others.
func ReadEnvelope(raw []byte) (map[string]json.RawMessage, error) {
	return collect(raw, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
}

// ReadItems returns the elements of an array as they stand, as leniently as ReadEnvelope.
func ReadItems(field string, raw []byte) ([]json.RawMessage, error) {
	dec := jsontext.NewDecoder(bytes.NewReader(raw), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
	if dec.PeekKind() != '[' {
		return nil, reject(ReasonWrongType, field, "is not an array")
	}
	if _, err := dec.ReadToken(); err != nil {
		return nil, syntaxRejection(err, dec.InputOffset())
	}
	var items []json.RawMessage
	for dec.PeekKind() != ']' {
		value, err := dec.ReadValue()
		if err != nil {
			return nil, syntaxRejection(err, dec.InputOffset())
		}
		items = append(items, json.RawMessage(bytes.Clone(value)))
	}
	return items, nil
}

func collect(raw []byte, options ...jsontext.Options) (map[string]json.RawMessage, error) {
	members := make(map[string]json.RawMessage)
	err := readMembers(raw, func(name string, value jsontext.Value) error {
		if _, twice := members[name]; twice {
			return reject(ReasonDuplicateKey, Clean(name), "stands twice in one object")
		}
		members[name] = json.RawMessage(bytes.Clone(value))
		return nil
	}, options...)
	if err != nil {
		return nil, err
	}
	return members, nil
}

// readMembers hands the members of one object, with nothing after it, to take, which must not keep a value.
func readMembers(raw []byte, take func(name string, value jsontext.Value) error, options ...jsontext.Options) error {
	dec := borrowDecoder(raw, options...)
	defer returnDecoder(dec)
	if dec.PeekKind() != '{' {
		if _, err := dec.ReadValue(); err != nil {
			return syntaxRejection(err, dec.InputOffset())
		}
		return reject(ReasonNotAnObject, "", "a JSON object is wanted")
	}
	if _, err := dec.ReadToken(); err != nil { // the opening brace
		return syntaxRejection(err, dec.InputOffset())
	}
	for dec.PeekKind() != '}' {
		name, err := dec.ReadToken()
		if err != nil {
			return syntaxRejection(err, dec.InputOffset())
		}
		field := name.String()
		value, err := dec.ReadValue()
		if err != nil {
			return syntaxRejection(err, dec.InputOffset())
		}
		if err := take(field, value); err != nil {
			return err
		}
	}
	if _, err := dec.ReadToken(); err != nil { // the closing brace
		return syntaxRejection(err, dec.InputOffset())
	}
	if _, err := dec.ReadToken(); !errors.Is(err, io.EOF) {
		return reject(ReasonTrailingData, "", "something follows the object at byte %d", dec.InputOffset())
	}
	return nil
}

// decoders are used again: each has a buffer and a stack of names, which together cost more than most events.
var decoders = sync.Pool{New: func() any { return new(pooledDecoder) }} //nolint:gochecknoglobals // a pool: nothing in it is looked at

type pooledDecoder struct {
	jsontext.Decoder

	raw bytes.Reader
}

func borrowDecoder(raw []byte, options ...jsontext.Options) *pooledDecoder {
	dec := decoders.Get().(*pooledDecoder) //nolint:errcheck,forcetypeassert // New makes nothing else
	dec.raw.Reset(raw)
	dec.Reset(&dec.raw, options...)
	return dec
}

func returnDecoder(dec *pooledDecoder) {
	dec.raw.Reset(nil) // keeps nobody's event
	decoders.Put(dec)
}
