package segment

import (
	"strings"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
)

// Explanation is a rule or a part of it at one moment: what it says, and why. A rule is taken apart along && || and !; what remains
// are its leaves.
type Explanation struct {
	Text  string        `json:"text"`            // as it stands in the rule
	Op    string        `json:"op,omitempty"`    // and, or, not: how Parts make the answer; empty for a leaf
	Truth Truth         `json:"truth"`           // true, false, unknown
	Why   string        `json:"why,omitempty"`   // of a leaf: what could not be answered, where Truth is unknown
	Until int64         `json:"until,omitempty"` // of a leaf: the first moment (Unix ms) at which time alone may change it; 0: never
	Reads []Value       `json:"reads,omitempty"` // of a leaf: what it reads of the user
	Parts []Explanation `json:"parts,omitempty"`

	// Needs says of a whole rule that is not true what would have to happen for it to become true: all of it.
	Needs []string `json:"needs,omitempty"`
}

// Value is something that a rule reads of the user, and what it is at the moment.
type Value struct {
	Text  string `json:"text"`
	Value string `json:"value"`
}

// Explanation explains the rule's answer in depth.
func (r *Rule) Explanation(scope Scope) Explanation {
	x := &explainer{rule: r, scope: scope}
	root := r.tree()
	explained := x.explain(root)
	explained.Truth = r.Eval(scope).Truth
	if explained.Truth != True {
		for _, n := range x.needs(root, &explained, True) {
			explained.Needs = append(explained.Needs, n.text)
		}
	}
	return explained
}

// node is a part of a rule that can be asked on its own.
type node struct {
	phrase
	expr    ast.Expr
	parts   []*node
	program cel.Program // of a leaf; nil where none could be made
	terms   []*term     // of a leaf, in order
	traits  []string    // of a leaf, in order
}

// grow takes the rule apart.
func (r *Rule) grow() *node {
	p := phrases(r.Source)
	return r.node(r.checked.NativeRep().Expr(), &p)
}

// node makes a node of an expression and the text that it was made from. Where the two do not agree in shape, which the tests have
// not seen yet, the text of the whole stands for that of the parts.
func (r *Rule) node(e ast.Expr, p *phrase) *node {
	n := &node{phrase: *p, expr: e}
	op, operands := logic(e)
	if n.op = op; op == "" {
		r.leaf(n)
		return n
	}
	for i, operand := range operands {
		part := &phrase{text: p.text}
		if p.op == op && len(p.parts) == len(operands) {
			part = &p.parts[i]
		}
		n.parts = append(n.parts, r.node(operand, part))
	}
	return n
}

// logic returns the operands that && || or ! join, those of the same operator in one row; "" for everything else.
func logic(e ast.Expr) (operator, []ast.Expr) {
	if e.Kind() != ast.CallKind {
		return "", nil
	}
	call := e.AsCall()
	op, ok := map[string]operator{operators.LogicalAnd: opAnd, operators.LogicalOr: opOr, operators.LogicalNot: opNot}[call.FunctionName()]
	if !ok || op == opNot {
		return op, call.Args()
	}
	var row []ast.Expr
	for _, arg := range call.Args() {
		if inner, operands := logic(arg); inner == op {
			row = append(row, operands...)
		} else {
			row = append(row, arg)
		}
	}
	return op, row
}

func (r *Rule) leaf(n *node) {
	whole := r.checked.NativeRep()
	ast.PostOrderVisit(n.expr, ast.NewExprVisitor(func(e ast.Expr) {
		if e.Kind() != ast.IdentKind {
			return
		}
		if t := r.term(e.AsIdent()); t != nil {
			n.terms = append(n.terms, t)
		} else if trait, ok := strings.CutPrefix(e.AsIdent(), "traits."); ok {
			n.traits = append(n.traits, trait)
		}
	}))
	part := ast.NewCheckedAST(ast.NewAST(n.expr, whole.SourceInfo()), whole.TypeMap(), whole.ReferenceMap())
	if p, err := program(r.env, part); err == nil {
		n.program = p
	}
}

// explainer explains one answer.
type explainer struct {
	rule   *Rule
	scope  Scope
	traits []resolved // those that were read so far: every leaf is asked on its own
	spent  uint64     // on the leaves so far: together they have the budget of one answer
}

// ask asks a leaf at a moment.
func (x *explainer) ask(n *node, at int64) Result {
	switch {
	case n.program == nil:
		return Result{Why: "this part cannot be asked on its own"}
	case x.spent > evaluationCost:
		return Result{Why: "the rule takes too long to be explained to its end"}
	}
	e := &evaluation{rule: x.rule, scope: x.scope, keeps: true, traits: x.traits}
	e.scope.Now = at
	result := e.eval(n.program)
	x.traits, x.spent = e.traits, x.spent+e.cost
	return result
}

func (x *explainer) explain(n *node) Explanation {
	explained := Explanation{Text: n.text, Op: string(n.op)}
	if n.op == "" {
		result := x.ask(n, x.scope.Now)
		explained.Truth, explained.Until, explained.Why = result.Truth, result.Until, result.Why
		explained.Reads = x.reads(n)
		return explained
	}
	for _, part := range n.parts {
		explained.Parts = append(explained.Parts, x.explain(part))
	}
	explained.Truth = joined(n.op, explained.Parts)
	return explained
}

// joined is the answer that the answers of the parts make, with three values.
func joined(op operator, parts []Explanation) Truth {
	if op == opNot {
		return map[Truth]Truth{True: False, False: True, Unknown: Unknown}[parts[0].Truth]
	}
	decides, truth := False, True
	if op == opOr {
		decides, truth = True, False
	}
	for _, part := range parts {
		if part.Truth == decides {
			return decides
		}
		if part.Truth == Unknown {
			truth = Unknown
		}
	}
	return truth
}

func (x *explainer) reads(n *node) []Value {
	e := &evaluation{rule: x.rule, scope: x.scope}
	var values []Value
	seen := make(map[string]bool)
	add := func(text, value string) {
		if !seen[text] {
			seen[text] = true
			values = append(values, Value{text, value})
		}
	}
	for _, t := range n.terms {
		add(t.text, t.read(e).String())
	}
	for _, name := range n.traits {
		text := "missing"
		if trait, ok := x.scope.Facts.Traits[name]; ok {
			text = string(trait.Value)
		}
		add("traits."+name, text)
	}
	return values
}
