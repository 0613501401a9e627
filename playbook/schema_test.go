package playbook_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/onramphq/onramp/playbook"
)

func compiledSchema(tb testing.TB) *jsonschema.Schema {
	tb.Helper()
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(playbook.Schema()))
	require.NoError(tb, err)
	c := jsonschema.NewCompiler()
	require.NoError(tb, c.AddResource("urn:onramp:playbook", document))
	schema, err := c.Compile("urn:onramp:playbook")
	require.NoError(tb, err)
	return schema
}

// asJSON is how an editor sees a YAML text.
func asJSON(tb testing.TB, text string) any {
	tb.Helper()
	var v any
	require.NoError(tb, yaml.Unmarshal([]byte(text), &v))
	raw, err := json.Marshal(v)
	require.NoError(tb, err)
	document, err := jsonschema.UnmarshalJSON(strings.NewReader(string(raw)))
	require.NoError(tb, err)
	return document
}

func TestSchemaTakesTheExamples(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	files, err := filepath.Glob("../examples/*/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 3)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, schema.Validate(asJSON(t, string(text))), file)
	}
	for _, text := range []string{nested, head, "", "events:\n  a:\n", "limit: {actions: 1, per: 1d}\n"} {
		require.NoError(t, schema.Validate(asJSON(t, text)), text)
	}
}

// TestSchemaExamples: what the schema shows as an example is one.
func TestSchemaExamples(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	seen, checked := make(map[*jsonschema.Schema]bool), 0
	var visit func(s *jsonschema.Schema)
	visit = func(s *jsonschema.Schema) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		for _, e := range s.Examples {
			checked++
			require.NoError(t, s.Validate(e), s.Location)
		}
		if s.Default != nil {
			checked++
			require.NoError(t, s.Validate(*s.Default), s.Location)
		}
		visit(s.Ref)
		for _, inner := range s.Properties {
			visit(inner)
		}
		for _, inner := range s.OneOf {
			visit(inner)
		}
		if inner, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			visit(inner)
		}
		visit(s.Items2020)
	}
	visit(schema)
	require.Greater(t, checked, 30)
}

func TestSchemaRefuses(t *testing.T) {
	t.Parallel()
	schema := compiledSchema(t)
	for name, text := range map[string]string{
		"unknown key":              "jurneys: {}\n",
		"unknown key: event":       "events: {a: {props: {}}}\n",
		"unknown key: step":        journey("      - {delay: 1d, reason: x}\n"),
		"unknown key: wait":        journey("      - wait: {on: a, up_to: 1d, til: x}\n"),
		"unknown key: with":        journey("      - {exit: done, with: {}}\n"),
		"two kinds of step":        journey("      - {delay: 1d, exit: done}\n"),
		"no kind of step":          journey("      - id: x\n"),
		"list for mapping":         "events: [a]\n",
		"mapping for list":         "journeys: {j: {enter: {on: a}, steps: {}}}\n",
		"number for duration":      journey("      - delay: 5\n"),
		"bad duration":             journey("      - delay: 3 days\n"),
		"empty duration":           journey("      - delay: ''\n"),
		"bad clock":                "quiet: {from: \"25:00\", to: \"08:00\"}\n",
		"bad weekday":              journey("      - delay: {on: [monday]}\n"),
		"empty delay":              journey("      - delay: {}\n"),
		"bad type":                 "traits: {t: text}\n",
		"bad key":                  "segments: {Big-One: {when: true}}\n",
		"weight above one":         "experiments: {e: {variants: {c: 0.5, d: 5}}}\n",
		"one variant":              "experiments: {e: {variants: {c: 1}}}\n",
		"coverage of nobody":       "experiments: {e: {variants: {c: 0.5, d: 0.5}, coverage: 0}}\n",
		"priority too high":        "journeys: {j: {enter: {on: a}, steps: [], priority: 1001}}\n",
		"segment without rule":     "segments: {s: {description: x}}\n",
		"journey without steps":    "journeys: {j: {enter: {on: a}}}\n",
		"journey without enter":    "journeys: {j: {steps: []}}\n",
		"enter in two ways":        "journeys: {j: {enter: {on: a, segment: s}, steps: []}}\n",
		"filter without event":     "journeys: {j: {enter: {segment: s, where: e.total > 1.0}, steps: []}}\n",
		"goal without end":         "journeys: {j: {enter: {on: a}, goal: {on: a}, steps: []}}\n",
		"goal on two events":       "journeys: {j: {enter: {on: a}, goal: {on: [a, b], within: 1d}, steps: []}}\n",
		"exit for nothing":         "journeys: {j: {enter: {on: a}, exit: [{reason: x}], steps: []}}\n",
		"exit that is no list":     "journeys: {j: {enter: {on: a}, exit: {on: a}, steps: []}}\n",
		"reentry":                  "journeys: {j: {enter: {on: a}, reentry: always, steps: []}}\n",
		"migrate":                  "journeys: {j: {enter: {on: a}, migrate: {to: {}}, steps: []}}\n",
		"wait for ever":            journey("      - wait: {on: a}\n"),
		"wait for nothing":         journey("      - wait: {up_to: 1d}\n"),
		"branch without condition": journey("      - branch: [{steps: []}]\n"),
		"branch with two":          journey("      - branch: [{when: true, segment: s}]\n"),
		"else with steps":          journey("      - branch: [{else: [], steps: []}]\n"),
		"experiment, no variants":  journey("      - experiment: e\n"),
		"limit of nothing":         "limit: {per: 1d}\n",
		"limit per month":          "limit: {actions: 1, per: month}\n",
		"holdout of everybody":     "holdout: {share: 1}\n",
		"metric without kind":      "metrics: {m: {event: a, within: 1d}}\n",
		"metric without event":     "metrics: {m: {kind: proportion, within: 1d}}\n",
		"metric without window":    "metrics: {m: {kind: mean, event: a}}\n",
		"metric of another kind":   "metrics: {m: {kind: proportion, event: a, within: 1d, q: 0.5}}\n",
		"ratio of one":             "metrics: {m: {kind: ratio, numerator: {event: a}, within: 1d}}\n",
		"funnel of one":            "metrics: {m: {kind: funnel, steps: [a], within: 1d}}\n",
		"cap of nothing":           "metrics: {m: {kind: mean, event: a, within: 1d, cap: 0}}\n",
		"variants and factors":     "experiments: {e: {variants: {c: 0.5, d: 0.5}, factors: {f: {x: 0.5, y: 0.5}, g: {x: 0.5, y: 0.5}}}}\n",
		"forced by id":             "experiments: {e: {variants: {c: 0.5, d: 0.5}, forced: {qa: c}}}\n",
		"namespace without range":  "experiments: {e: {variants: {c: 0.5, d: 0.5}, namespace: {name: n}}}\n",
		"correction":               "experiments: {e: {variants: {c: 0.5, d: 0.5}, correction: none}}\n",
		"bad receiver":             "actions: {send: {deliver: smtp}}\n",
		"quiet":                    "actions: {send: {quiet: sometimes}}\n",
		"uncapped":                 "actions: {send: {uncapped: often}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Error(t, schema.Validate(asJSON(t, text)))
		})
	}
}

// place names a mapping by where it begins.
type mappingPlace struct{ line, column int }

// mappingPaths finds every mapping of a YAML text, with the keys and places of lists that lead to it.
func mappingPaths(tb testing.TB, text string) (paths map[mappingPlace][]any, nodes map[mappingPlace]*yaml.Node) {
	tb.Helper()
	var document yaml.Node
	require.NoError(tb, yaml.Unmarshal([]byte(text), &document))
	paths, nodes = make(map[mappingPlace][]any), make(map[mappingPlace]*yaml.Node)
	var visit func(n *yaml.Node, path []any)
	visit = func(n *yaml.Node, path []any) {
		switch n.Kind {
		case yaml.MappingNode:
			paths[mappingPlace{n.Line, n.Column}], nodes[mappingPlace{n.Line, n.Column}] = path, n
			for i := 0; i+1 < len(n.Content); i += 2 {
				visit(n.Content[i+1], append(slices.Clone(path), n.Content[i].Value))
			}
		case yaml.SequenceNode:
			for i, item := range n.Content {
				visit(item, append(slices.Clone(path), i))
			}
		default: // nothing is within
		}
	}
	visit(document.Content[0], nil)
	return paths, nodes
}

// ways lists the schemas that a schema stands for: itself, what it refers to, and each of which one must hold.
func ways(s *jsonschema.Schema) []*jsonschema.Schema {
	list := []*jsonschema.Schema{s}
	if s.Ref != nil {
		list = append(list, ways(s.Ref)...)
	}
	for _, one := range s.OneOf {
		list = append(list, ways(one)...)
	}
	return list
}

// schemasAt follows a path into a schema.
func schemasAt(root *jsonschema.Schema, path []any) []*jsonschema.Schema {
	at := ways(root)
	for _, part := range path {
		var next []*jsonschema.Schema
		for _, s := range at {
			key, isKey := part.(string)
			inner, _ := s.AdditionalProperties.(*jsonschema.Schema)
			switch {
			case !isKey && s.Items2020 != nil:
				next = append(next, ways(s.Items2020)...)
			case isKey && s.Properties[key] != nil:
				next = append(next, ways(s.Properties[key])...)
			case isKey && inner != nil:
				next = append(next, ways(inner)...)
			}
		}
		at = nil
		for _, s := range next { // several ways may lead to one
			if !slices.Contains(at, s) {
				at = append(at, s)
			}
		}
	}
	return at
}

// TestSchemaKnowsTheKeysOfTheCompiler compares, at every mapping of a playbook that uses everything, the keys that the compiler
// knows with those of the schema. What neither of them comes to in that playbook is a failure as well.
func TestSchemaKnowsTheKeysOfTheCompiler(t *testing.T) {
	t.Parallel()
	schema, text := compiledSchema(t), example(t, "everything")
	require.ElementsMatch(t, playbook.Sections(), slices.Collect(maps.Keys(schema.Properties)))
	recorded, err := playbook.CompileRecording(bundle(text))
	require.NoError(t, err)
	paths, nodes := mappingPaths(t, text)
	checked, asked := map[*jsonschema.Schema]map[string]bool{schema: {}}, make(map[string]bool)
	for _, known := range recorded {
		asked[known.Function[strings.LastIndex(known.Function, ".")+1:]] = true
		place := mappingPlace{known.Line, known.Column}
		path, ok := paths[place]
		if !ok {
			continue // nothing stands there, as in `signed_up:`
		}
		keys, values := make(map[string]bool), make(map[string]string)
		for i := 0; i < len(nodes[place].Content); i += 2 {
			keys[nodes[place].Content[i].Value], values[nodes[place].Content[i].Value] = true, nodes[place].Content[i+1].Value
		}
		fits := slices.DeleteFunc(schemasAt(schema, path), func(s *jsonschema.Schema) bool {
			return len(s.Properties) == 0 || slices.ContainsFunc(s.Required, func(key string) bool { return !keys[key] }) || ofAnotherKind(s, values)
		})
		require.Len(t, fits, 1, "%v", path)
		require.ElementsMatch(t, known.Keys, slices.Collect(maps.Keys(fits[0].Properties)), "%v", path)
		if checked[fits[0]] == nil {
			checked[fits[0]] = make(map[string]bool)
		}
		maps.Copy(checked[fits[0]], keys)
	}
	for _, s := range objects(schema) {
		require.NotNil(t, checked[s], "the compiler has nothing like %s, or the example has none", s.Location)
		for key := range s.Properties {
			require.True(t, s == schema || checked[s][key], "examples/everything has no %s of %s", key, s.Location)
		}
	}
	require.Equal(t, callersOfFields(t), slices.Sorted(maps.Keys(asked)), "each must come to something in examples/everything")
}

// ofAnotherKind reports whether a schema wants another kind than stands there.
func ofAnotherKind(s *jsonschema.Schema, values map[string]string) bool {
	kind := s.Properties["kind"]
	return kind != nil && kind.Const != nil && *kind.Const != values["kind"]
}

// objects lists the schemas within a schema that have properties of their own.
func objects(root *jsonschema.Schema) []*jsonschema.Schema {
	var found []*jsonschema.Schema
	seen := make(map[*jsonschema.Schema]bool)
	var visit func(s *jsonschema.Schema)
	visit = func(s *jsonschema.Schema) {
		if s == nil || seen[s] {
			return
		}
		seen[s] = true
		if len(s.Properties) > 0 {
			found = append(found, s)
		}
		visit(s.Ref)
		visit(s.Items2020)
		if inner, ok := s.AdditionalProperties.(*jsonschema.Schema); ok {
			visit(inner)
		}
		for _, inner := range s.Properties {
			visit(inner)
		}
		for _, inner := range s.OneOf {
			visit(inner)
		}
	}
	visit(root)
	return found
}

// callersOfFields lists the functions of the package that ask for a mapping with known keys.
func callersOfFields(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	callers := make(map[string]bool)
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		require.NoError(t, err)
		for _, declaration := range file.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(function, func(n ast.Node) bool {
				if call, ok := n.(*ast.CallExpr); ok {
					if selector, ok := call.Fun.(*ast.SelectorExpr); ok && selector.Sel.Name == "fields" {
						callers[function.Name.Name] = true
					}
				}
				return true
			})
		}
	}
	return slices.Sorted(maps.Keys(callers))
}
