package outcome

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// insertTimeout bounds one insert: a server that hangs must look like one that is away.
const insertTimeout = 30 * time.Second

// column is a name and all values of it: a slice of what the column takes.
type column struct {
	name   string
	values any
}

// insert writes one block and returns when it is stored. The token names the content: a block whose token the table
// remembers is dropped, which is what makes a retry after a lost answer harmless. Rows also have keys, for when the table
// has forgotten.
func (s *Store) insert(ctx context.Context, table, token string, columns []column) (err error) {
	ctx, cancel := context.WithTimeout(ctx, insertTimeout)
	defer cancel()
	ctx = clickhouse.Context(ctx, clickhouse.WithSettings(clickhouse.Settings{
		"insert_deduplicate": 1, "insert_deduplication_token": token + ":" + table, "async_insert": 0,
	}))
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.name
	}
	batch, err := s.conn.PrepareBatch(ctx, "INSERT INTO "+table+" ("+strings.Join(names, ", ")+")")
	if err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	defer func() { err = errors.Join(err, batch.Close()) }()
	for i, c := range columns {
		if err := batch.Column(i).Append(c.values); err != nil {
			return fmt.Errorf("insert into %s: column %s: %w", table, c.name, err)
		}
	}
	if err := batch.Send(); err != nil {
		return fmt.Errorf("insert into %s: %w", table, err)
	}
	return nil
}

// token names the content of a batch: which messages of which stream. First and last alone would not: after a redelivery a
// batch can have the bounds of another and lack rows in between, and would then be dropped. The times tell a stream from
// the one it replaces under the same name.
func token(consumer string, batch []delivery) string {
	h := fnv.New64a()
	first, last := batch[0].sequence, batch[0].sequence
	var buf [16]byte
	for _, d := range batch {
		first, last = min(first, d.sequence), max(last, d.sequence)
		binary.LittleEndian.PutUint64(buf[:8], d.sequence)
		binary.LittleEndian.PutUint64(buf[8:], uint64(d.received.UnixNano()))
		h.Write(buf[:]) // hash.Hash never returns an error
	}
	return fmt.Sprintf("%s:%d-%d:%016x", consumer, first, last, h.Sum64())
}

// blamesRow reports whether the server refused the content of a row, so that the rows beside it may well be fine. All else
// (no answer, no memory, no table, no right) is trouble that passes or that a person mends, and is retried: a code that is
// not listed never costs a row.
func blamesRow(err error) (*clickhouse.Exception, bool) {
	exception, ok := errors.AsType[*clickhouse.Exception](err)
	if !ok {
		return nil, false
	}
	switch exception.Code {
	case 6, // CANNOT_PARSE_TEXT
		26, 27, 38, 41, 72, // CANNOT_PARSE_QUOTED_STRING, INPUT_ASSERTION_FAILED, DATE, DATETIME, NUMBER
		53, 70, // TYPE_MISMATCH, CANNOT_CONVERT_TYPE
		69, 321, // ARGUMENT_OUT_OF_BOUND, VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
		117,      // INCORRECT_DATA
		128, 131, // TOO_LARGE_ARRAY_SIZE, TOO_LARGE_STRING_SIZE
		349,      // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
		395,      // FUNCTION_THROW_IF_VALUE_IS_NON_ZERO
		407, 469, // DECIMAL_OVERFLOW, VIOLATED_CONSTRAINT
		691: // UNKNOWN_ELEMENT_OF_ENUM
		return exception, true
	default:
		return nil, false
	}
}
