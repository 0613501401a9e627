package segment

import (
	"slices"
	"strings"
)

// phrase is a part of a rule's text, taken apart along && || and !, as the compiler does.
type phrase struct {
	text  string
	op    operator
	parts []phrase
}

// operator joins the parts of a rule; a leaf has none.
type operator string

const (
	opAnd operator = "and"
	opOr  operator = "or"
	opNot operator = "not"
)

// phrases takes a rule's text apart. The text has been compiled, so that what looks like a token is one.
func phrases(source string) phrase {
	return parsePhrase(source, tokenize(source))
}

// token is a word, number, text, bracket or operator: where it begins and ends in the source.
type token struct {
	start, end int
	text       string
}

func parsePhrase(source string, tokens []token) phrase {
	tokens = unwrap(tokens)
	if len(tokens) == 0 {
		return phrase{}
	}
	p := phrase{text: source[tokens[0].start:tokens[len(tokens)-1].end]}
	top := topLevel(tokens)
	has := func(text string) bool {
		return slices.ContainsFunc(top, func(i int) bool { return tokens[i].text == text })
	}
	switch {
	case has("?"): // binds weakest: a leaf
	case has("||"):
		p.op, p.parts = opOr, parts(source, tokens, top, "||")
	case has("&&"):
		p.op, p.parts = opAnd, parts(source, tokens, top, "&&")
	case tokens[0].text == "!" && !slices.ContainsFunc(top, func(i int) bool { return compares(tokens, i) }):
		n := 1
		for n < len(tokens) && tokens[n].text == "!" {
			n++
		}
		inner := parsePhrase(source, tokens[n:])
		if n%2 == 0 { // two negations are none
			return inner
		}
		p.op, p.parts = opNot, []phrase{inner}
	}
	return p
}

// parts takes the operands of an operator apart; those that the same operator joins become one row.
func parts(source string, tokens []token, top []int, operator string) []phrase {
	var row []phrase
	from := 0
	take := func(to int) {
		p := parsePhrase(source, tokens[from:to])
		if (operator == "||" && p.op == opOr) || (operator == "&&" && p.op == opAnd) {
			row = append(row, p.parts...)
		} else {
			row = append(row, p)
		}
		from = to + 1
	}
	for _, i := range top {
		if tokens[i].text == operator {
			take(i)
		}
	}
	take(len(tokens))
	return row
}

// compares reports whether the token is an operator between two operands that binds weaker than a negation.
func compares(tokens []token, i int) bool {
	if i == 0 || tokens[i-1].text == "!" {
		return false
	}
	return slices.Contains([]string{"==", "!=", "<", "<=", ">", ">=", "in", "+", "-", "*", "/", "%"}, tokens[i].text)
}

// unwrap takes away parentheses that enclose all.
func unwrap(tokens []token) []token {
	for len(tokens) > 1 && tokens[0].text == "(" && closing(tokens, 0) == len(tokens)-1 {
		tokens = tokens[1 : len(tokens)-1]
	}
	return tokens
}

func closing(tokens []token, open int) int {
	depth := 0
	for i := open; i < len(tokens); i++ {
		depth += nesting(tokens[i].text)
		if depth == 0 {
			return i
		}
	}
	return len(tokens)
}

// topLevel returns the tokens outside of all brackets.
func topLevel(tokens []token) []int {
	var top []int
	depth := 0
	for i := range tokens {
		before := depth
		depth += nesting(tokens[i].text)
		if before == 0 && depth == 0 {
			top = append(top, i)
		}
	}
	return top
}

func nesting(text string) int {
	switch text {
	case "(", "[", "{":
		return 1
	case ")", "]", "}":
		return -1
	}
	return 0
}

func tokenize(source string) []token {
	var tokens []token
	for i := 0; i < len(source); {
		n := tokenLength(source[i:])
		text := source[i : i+n]
		if strings.TrimSpace(text) != "" && !strings.HasPrefix(text, "//") {
			tokens = append(tokens, token{i, i + n, text})
		}
		i += n
	}
	return tokens
}

func tokenLength(s string) int {
	prefix := 0
	for prefix < len(s) && prefix < 2 && strings.IndexByte("rRbB", s[prefix]) >= 0 {
		prefix++
	}
	switch {
	case prefix < len(s) && (s[prefix] == '"' || s[prefix] == '\''):
		return prefix + quotedLength(s[prefix:], strings.ContainsAny(s[:prefix], "rR"))
	case strings.HasPrefix(s, "//"):
		n := strings.IndexByte(s, '\n')
		if n < 0 {
			return len(s)
		}
		return n
	case isWord(s[0]):
		n := 1
		for n < len(s) && isWord(s[n]) {
			n++
		}
		return n
	case len(s) > 1 && slices.Contains([]string{"&&", "||", "==", "!=", "<=", ">="}, s[:2]):
		return 2
	}
	return 1
}

func isWord(b byte) bool {
	return b == '_' || b >= 0x80 || (b >= '0' && b <= '9') || (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z')
}

// quotedLength returns the length of the text that s begins with, its quotes included.
func quotedLength(s string, raw bool) int {
	quote := s[:1]
	if strings.HasPrefix(s, strings.Repeat(quote, 3)) {
		quote = s[:3]
	}
	for i := len(quote); i < len(s); i++ {
		switch {
		case s[i] == '\\' && !raw:
			i++
		case strings.HasPrefix(s[i:], quote):
			return i + len(quote)
		}
	}
	return len(s)
}
