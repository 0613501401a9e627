package experiment

import (
	"iter"
	"math"
)

// Bounds of what moments take. Within them no sum, no product of two sums and no difference of such products overflows or
// loses a digit; a value nearer to zero than MinValue counts as zero.
const (
	MaxValue = 1e100
	MinValue = 1e-100
	MaxUsers = 1 << 53
)

// rounding is what a sum of n float64s loses at most, as a share of the sum and per term, with room for a square.
const rounding = 4.0 / (1 << 53)

// Moments are all the statistics need to know about the users of one experiment, variant and segment: how many they are, the
// sums of their values and the sums of the products of their values. A user has one value per column; what the columns
// are, a Metric says. Moments add up: those of two segments without common users are Merge of the two, exactly, in any
// order and grouping. The zero value is of nobody and merges with everything.
//
// Values that cannot be added (NaN, infinity, beyond MaxValue) do not fail: they leave a State behind, which every
// statistic of these moments then answers with.
type Moments struct {
	users    int64
	columns  int
	sums     []sum // of each column, then of the products of columns i ≤ j, row by row
	rounded  bool  // the sums came in rounded: a tiny variance may be an artifact
	degraded State // empty while all is well
}

// FromCounts returns the moments of a yes-or-no value: how many users there are and how many of them converted.
func FromCounts(users, converted int64) Moments {
	if users < 0 || converted < 0 || converted > users {
		return Moments{columns: 1, degraded: StateInvalid}
	}
	if users > MaxUsers {
		return Moments{columns: 1, degraded: StateOverflow}
	}
	c := float64(converted)
	return Moments{users: users, columns: 1, sums: []sum{sum(nil).add(c), sum(nil).add(c)}}
}

// FromValues returns the moments of one value per user.
func FromValues(values iter.Seq[float64]) Moments {
	return FromRows(1, func(yield func([]float64) bool) {
		row := make([]float64, 1)
		for v := range values {
			row[0] = v
			if !yield(row) {
				return
			}
		}
	})
}

// FromRows returns the moments of a row of values per user, one value per column. A row may be reused once it was yielded.
func FromRows(columns int, rows iter.Seq[[]float64]) Moments {
	if columns < 1 {
		return Moments{degraded: StateInvalid}
	}
	m := newMoments(columns)
	row := make([]float64, columns)
	for values := range rows {
		m.add(values, row)
	}
	return m
}

// newMoments returns moments of nobody that rows may be added to.
func newMoments(columns int) Moments {
	return Moments{columns: columns, sums: make([]sum, columns+columns*(columns+1)/2)}
}

// add adds one user, in the storage of m. Row is space for as many values.
func (m *Moments) add(values, row []float64) {
	if len(values) != m.columns {
		m.degraded = m.degraded.worse(StateInvalid)
		return
	}
	bad := State("")
	for i, v := range values {
		if b := badValue(v, MaxValue); b != "" {
			bad = bad.worse(b)
		}
		row[i] = flushed(v, MinValue)
	}
	m.users++
	if bad != "" {
		m.degraded = m.degraded.worse(bad)
		return
	}
	at := m.columns
	for i, x := range row {
		m.sums[i] = m.sums[i].add(x)
		for _, y := range row[i:] {
			m.sums[at] = m.sums[at].addProduct(x, y)
			at++
		}
	}
}

// FromSums returns the moments of sums that were added up elsewhere, as ClickHouse does: of each column, and of the products
// of the columns i ≤ j, row by row (for columns y and x: Σy², Σyx, Σx²). Such sums are rounded unless the values were
// integers, so a variance that n terms could have made by rounding alone is taken for none.
func FromSums(users int64, sums, products []float64) Moments {
	columns := len(sums)
	m := Moments{users: users, columns: columns, rounded: true}
	switch {
	case users < 0, columns == 0, len(products) != columns*(columns+1)/2:
		m.degraded = StateInvalid
	case users > MaxUsers:
		m.degraded = StateOverflow
	}
	if m.degraded != "" {
		return Moments{columns: columns, degraded: m.degraded}
	}
	n := float64(users)
	m.sums = make([]sum, 0, columns+len(products))
	for i, list := range [][]float64{sums, products} {
		most, least := n*MaxValue, MinValue
		if i == 1 {
			most, least = n*MaxValue*MaxValue, MinValue*MinValue
		}
		for _, x := range list {
			if users == 0 && x != 0 {
				m.degraded = m.degraded.worse(StateInvalid)
			}
			m.degraded = m.degraded.worse(badValue(x, most))
			m.sums = append(m.sums, sum(nil).add(flushed(x, least)))
		}
	}
	if m.degraded == "" && !m.possible() {
		m.degraded = StateInvalid
	}
	if m.degraded != "" {
		return Moments{columns: columns, degraded: m.degraded}
	}
	return m
}

// possible says whether any values have these sums: no variance is negative, rounding apart, and no correlation beyond one.
func (m Moments) possible() bool {
	if m.users == 0 {
		return true
	}
	const slack = 1 + 1e-9
	for i := range m.columns {
		s, q := m.sums[i].float(), m.Product(i, i)
		if s*s > q*float64(m.users)*slack {
			return false
		}
		for j := range i {
			if p := m.Product(j, i); math.Abs(p) > math.Sqrt(m.Product(j, j))*math.Sqrt(q)*slack {
				return false
			}
		}
	}
	return true
}

// badValue names what keeps x from being added up. Empty: nothing.
func badValue(x, most float64) State {
	switch {
	case math.IsNaN(x), math.IsInf(x, 0):
		return StateNotFinite
	case math.Abs(x) > most:
		return StateOverflow
	default:
		return ""
	}
}

func flushed(x, least float64) float64 {
	if math.Abs(x) < least {
		return 0
	}
	return x
}

// Merge returns the moments of the users of all the parts together. The parts must not share a user and must have the same
// columns.
func Merge(parts ...Moments) Moments {
	var m Moments
	for _, part := range parts {
		m = m.plus(part)
	}
	return m
}

func (m Moments) plus(other Moments) Moments {
	if m.columns == 0 && m.degraded == "" {
		return other
	}
	if other.columns == 0 && other.degraded == "" {
		return m
	}
	total := Moments{columns: max(m.columns, other.columns), rounded: m.rounded || other.rounded, degraded: m.degraded.worse(other.degraded)}
	switch {
	case total.degraded != "":
	case m.columns != other.columns:
		total.degraded = StateInvalid
	case m.users > MaxUsers-other.users:
		total.degraded = StateOverflow
	}
	if total.degraded != "" {
		return total
	}
	total.users = m.users + other.users
	total.sums = make([]sum, len(m.sums))
	for i := range m.sums {
		total.sums[i] = m.sums[i].plus(other.sums[i])
	}
	return total
}

// Without returns the moments of the users who are in m but not in part. The users of part must all be in m; where the sums
// say that they are not, the result is StateInvalid.
func (m Moments) Without(part Moments) Moments {
	if part.columns == 0 && part.degraded == "" {
		return m
	}
	rest := Moments{columns: max(m.columns, part.columns), rounded: m.rounded || part.rounded, degraded: m.degraded.worse(part.degraded)}
	if rest.degraded == "" && (m.columns != part.columns || part.users > m.users) {
		rest.degraded = StateInvalid
	}
	if rest.degraded != "" {
		return rest
	}
	rest.users = m.users - part.users
	rest.sums = make([]sum, len(m.sums))
	for i := range m.sums {
		rest.sums[i] = m.sums[i].plus(part.sums[i].negative())
	}
	switch {
	case rest.users == 0:
		rest.sums = make([]sum, len(m.sums)) // rounding may have left a trace of nobody
	case !rest.possible():
		return Moments{columns: rest.columns, degraded: StateInvalid}
	}
	return rest
}

// State is StateOK unless the moments cannot be used at all. Too few users is no matter of the moments: see Metric.
func (m Moments) State() State {
	if m.degraded != "" {
		return m.degraded
	}
	return StateOK
}

// Users is how many users the moments are of. Zero where State is not ok.
func (m Moments) Users() int64 {
	if m.degraded != "" {
		return 0
	}
	return m.users
}

// Columns is how many values a user has. Zero for the moments of nobody.
func (m Moments) Columns() int { return m.columns }

// Sum returns the sum of a column, rounded once. Zero where there is none.
func (m Moments) Sum(i int) float64 {
	if m.degraded != "" || i < 0 || i >= m.columns || m.sums == nil {
		return 0
	}
	return m.sums[i].float()
}

// Product returns the sum of the products of two columns, rounded once. Zero where there is none.
func (m Moments) Product(i, j int) float64 {
	if m.degraded != "" || min(i, j) < 0 || max(i, j) >= m.columns || m.sums == nil {
		return 0
	}
	return m.sums[m.at(i, j)].float()
}

// at is where the sum of the products of two columns stands.
func (m Moments) at(i, j int) int {
	i, j = min(i, j), max(i, j)
	return m.columns + i*m.columns - i*(i-1)/2 + j - i
}

// Mean returns the mean of a column. Zero where there is none.
func (m Moments) Mean(i int) float64 {
	if m.users == 0 {
		return 0
	}
	return m.Sum(i) / float64(m.users)
}

// Covariance returns the sample covariance of two columns, with divisor users − 1; of a column with itself, its variance.
// Nothing is lost where the mean is large and the spread small: the difference of the two products is taken before
// rounding. Zero for fewer than two users.
func (m Moments) Covariance(i, j int) float64 {
	if m.degraded != "" || m.users < 2 || min(i, j) < 0 || max(i, j) >= m.columns {
		return 0
	}
	n := float64(m.users)
	var space [24]float64
	spread := sum(space[:0]).addProducts(1, m.sums[m.at(i, j)], sum{n}).addProducts(-1, m.sums[i], m.sums[j]).float()
	if m.rounded {
		scale := n * math.Sqrt(m.Product(i, i)) * math.Sqrt(m.Product(j, j))
		if math.Abs(spread) <= n*rounding*scale {
			return 0
		}
	}
	return spread / n / (n - 1)
}
