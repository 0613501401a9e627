package eventlog

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
)

// Sort orders records by event time, to the nanosecond, and those of one time as they stood in the log: by file in the
// order given to Read, then by line. Whatever order the records of one Read are in, the result is the same.
func Sort(records []Record) {
	slices.SortStableFunc(records, func(a, b Record) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.order, b.order), cmp.Compare(a.Line, b.Line))
	})
}

// Identify gives an event id to every record without one: "log-", a hash of user, event, exact time and properties, and
// the number of the occurrence among equals. Rows that look alike stay apart, and reading the same files again, or the
// same file grown longer at its end, gives the same ids. Ids that are there are kept. Call it once, on all records, after
// [Sort].
func Identify(records []Record) {
	seen := make(map[digest]int, len(records))
	for i := range records {
		r := &records[i]
		if r.Event.EventID != "" {
			continue
		}
		d := digestOf(r)
		seen[d]++
		r.Event.EventID = "log-" + hex.EncodeToString(d[:]) + "-" + strconv.Itoa(seen[d]) // at most 56 bytes
	}
}

// digest is half a SHA-256: 128 bits keep billions of events apart.
type digest [sha256.Size / 2]byte

func digestOf(r *Record) digest {
	var b []byte
	for _, part := range [][]byte{[]byte(r.Event.UserID), []byte(r.Event.EventName), canonical(r.Event.Properties)} {
		b = binary.BigEndian.AppendUint64(b, uint64(len(part))) // the length keeps ab+c and a+bc apart
		b = append(b, part...)
	}
	b = strconv.AppendInt(b, r.At.Unix(), 10) // seconds and nanoseconds: UnixNano ends in 2262
	b = append(b, '.')
	b = strconv.AppendInt(b, int64(r.At.Nanosecond()), 10)
	sum := sha256.Sum256(b)
	return digest(sum[:len(digest{})])
}

// canonical sorts the keys and settles the white space and the escapes; numbers stay as they are written, for RFC 8785
// would round them to float64. No properties and an empty object are the same.
func canonical(properties []byte) []byte {
	value := jsontext.Value(slices.Clone(properties))
	if err := value.Format(jsontext.ReorderRawObjects(true), jsontext.SpaceAfterColon(false), jsontext.SpaceAfterComma(false)); err != nil {
		return properties // not JSON, so not out of Read: any bytes hash as well
	}
	if string(value) == "{}" {
		return nil
	}
	return value
}
