package playbook_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/onramphq/onramp/playbook"
)

// randomSteps writes a list of steps in YAML's flow style, nested at random. It returns whether a user can come out of it.
func randomSteps(t *rapid.T, depth int, number *int) (text string, open bool) {
	var steps []string
	list := func() string {
		steps, _ := randomSteps(t, depth-1, number)
		return steps
	}
	open = true
	for range rapid.IntRange(0, 4).Draw(t, "steps") {
		if !open { // nobody would reach it
			break
		}
		*number++
		id := fmt.Sprintf("id: n%d, ", *number)
		kinds := 3
		if depth > 0 {
			kinds = 7
		}
		switch rapid.IntRange(0, kinds).Draw(t, "kind") {
		case 0:
			steps = append(steps, "{"+id+"action: send, with: {text: \"<&> ]]> \\\" `#` ${traits.industry} \\u0007 \U0001F600 end\"}}")
		case 1:
			steps = append(steps, "{"+id+"delay: 1d}")
		case 2:
			steps = append(steps, "{"+id+"wait: {on: [a, b], when: 'did(\"b\") && traits.industry != \"a fairly long text that is <cut> somewhere\"', up_to: 3d}}")
		case 3:
			steps, open = append(steps, "{"+id+"exit: done}"), false
		case 4:
			steps = append(steps, "{"+id+"wait: {on: a, up_to: 3d, timeout: "+list()+"}}")
		case 5:
			inner, opens := randomSteps(t, depth-1, number)
			other, also := randomSteps(t, depth-1, number)
			steps = append(steps, "{"+id+"branch: [{when: 'did(\"a\") && (did(\"b\") || traits.industry == \"finance\")', steps: "+inner+"}, {else: "+other+"}]}")
			open = opens || also
		case 6:
			steps = append(steps, "{"+id+"branch: [{segment: s, steps: "+list()+"}, {when: did(\"a\")}]}")
		default:
			inner, opens := randomSteps(t, depth-1, number)
			other, also := randomSteps(t, depth-1, number)
			steps = append(steps, "{"+id+"experiment: e, variants: {c: "+inner+", d: "+other+"}}")
			open = opens || also
		}
	}
	return "[" + strings.Join(steps, ", ") + "]", open
}

func randomPlaybook(t *rapid.T) *playbook.Playbook {
	number := 0
	steps, _ := randomSteps(t, 3, &number)
	b := bundle(head + `
traits: {industry: string}
actions: {send: {}}
segments: {s: {when: did("b")}}
experiments: {e: {variants: {c: 0.25, d: 0.75}}}
journeys:
  j:
    description: "Everything a <journey> & its \"drawing\" can hold, 你好"
    enter: {on: [a, b], when: 'did("a") || did("b")'}
    goal: {on: b, within: 14d}
    exit: [{on: b, reason: gone}, {left: s}, {when: 'traits.industry == "x" && did("b")'}]
    steps: ` + steps + "\n")
	p, err := playbook.Compile(b)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.Files["a.yaml"])
	}
	return p
}

// wantEdges lists the edges of a journey as from/kind/to, sorted.
func wantEdges(j *playbook.Journey) []string {
	var want []string
	add := func(from, kind, to string) { want = append(want, from+"/"+kind+"/"+to) }
	add("", "next", j.First)
	for key, s := range j.Steps {
		switch s.Kind {
		case playbook.StepAction, playbook.StepDelay:
			add(key, "next", s.Next)
		case playbook.StepWait:
			add(key, "next", s.Next)
			add(key, "timeout", s.OnTimeout)
		case playbook.StepBranch:
			for _, b := range s.Branches {
				add(key, "branch", b.To)
			}
			add(key, "else", s.Next)
		case playbook.StepExperiment:
			ways := slices.Sorted(maps.Values(s.Variants))
			if s.Factor != "" { // the variants with one level of it go one way
				ways = slices.Compact(ways)
			}
			for _, to := range ways {
				add(key, "variant", to)
			}
		case playbook.StepExit:
		}
	}
	slices.Sort(want)
	return want
}

// element is an XML element of a drawing.
type element struct {
	name       string
	attributes map[string]string
	text       string
	children   []*element
}

func (e *element) walk(visit func(*element)) {
	visit(e)
	for _, child := range e.children {
		child.walk(visit)
	}
}

func (e *element) number(t require.TestingT, name string) int {
	n, err := strconv.Atoi(e.attributes[name])
	require.NoError(t, err, "%s of %v", name, e)
	return n
}

func parseXML(t require.TestingT, text string) *element {
	dec := xml.NewDecoder(strings.NewReader(text))
	root := &element{}
	open := []*element{root}
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		top := open[len(open)-1]
		switch token := token.(type) {
		case xml.StartElement:
			e := &element{name: token.Name.Local, attributes: make(map[string]string)}
			for _, a := range token.Attr {
				e.attributes[a.Name.Local] = a.Value
			}
			top.children = append(top.children, e)
			open = append(open, e)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			top.text += string(token)
		}
	}
	require.Len(t, root.children, 1)
	return root.children[0]
}

type rectangle struct{ left, top, right, bottom int }

func (r rectangle) overlaps(o rectangle) bool {
	return r.left < o.right && o.left < r.right && r.top < o.bottom && o.top < r.bottom
}

func (r rectangle) holds(o rectangle) bool {
	return r.left <= o.left && r.top <= o.top && o.right <= r.right && o.bottom <= r.bottom
}

func rectangleOf(t require.TestingT, e *element) rectangle {
	r := rectangle{left: e.number(t, "x"), top: e.number(t, "y")}
	r.right, r.bottom = r.left+e.number(t, "width"), r.top+e.number(t, "height")
	return r
}

// checkDrawing makes sure that a drawing of one journey is whole, and that nothing lies on anything else.
func checkDrawing(t require.TestingT, j *playbook.Journey, svg string) {
	root := parseXML(t, svg)
	paper := rectangle{right: root.number(t, "width"), bottom: root.number(t, "height")}
	var steps, edges []string
	var solid, boxes, lines []rectangle
	root.walk(func(e *element) {
		switch class, _, _ := strings.Cut(e.attributes["class"], " "); class {
		case "box", "note", "label":
			frame := rectangleOf(t, e.children[0])
			require.True(t, paper.holds(frame), "%v lies outside the paper", frame)
			for _, other := range solid {
				require.False(t, frame.overlaps(other), "%v and %v overlap", frame, other)
			}
			solid = append(solid, frame)
			if class != "label" { // which stands on a line
				boxes = append(boxes, frame)
			}
			if key := e.attributes["data-step"]; key != "" {
				steps = append(steps, key)
			}
			checkTexts(t, e, frame)
		case "edge":
			edges = append(edges, e.attributes["data-from"]+"/"+e.attributes["data-kind"]+"/"+e.attributes["data-to"])
			lines = append(lines, segments(t, e.attributes["d"])...)
		}
	})
	for _, line := range lines {
		for _, box := range boxes {
			require.False(t, line.overlaps(box), "the line %v runs through the box %v", line, box)
		}
	}
	slices.Sort(steps)
	slices.Sort(edges)
	want := slices.Clone(j.Order)
	slices.Sort(want)
	require.Equal(t, want, steps)
	require.Equal(t, wantEdges(j), edges)
}

// segments are the straight lines of a path.
func segments(t require.TestingT, path string) []rectangle {
	var list []rectangle
	var x, y int
	for i, at := range strings.FieldsFunc(path, func(r rune) bool { return r == 'M' || r == 'L' }) {
		var nextX, nextY int
		_, err := fmt.Sscanf(at, "%d %d", &nextX, &nextY)
		require.NoError(t, err)
		if i > 0 {
			require.True(t, x == nextX || y == nextY, "a line runs askew: %s", path)
			list = append(list, rectangle{min(x, nextX), min(y, nextY), max(x, nextX), max(y, nextY)})
		}
		x, y = nextX, nextY
	}
	return list
}

// checkTexts makes sure that texts stay within their frame, at the width of the widest font in use.
func checkTexts(t require.TestingT, e *element, frame rectangle) {
	for _, child := range e.children {
		if child.name != "text" {
			continue
		}
		x, y, size := child.number(t, "x"), child.number(t, "y"), child.number(t, "font-size")
		wide := playbook.TextWidth(child.text, size)
		if child.attributes["font-family"] != "" {
			wide = playbook.CodeWidth(child.text, size)
		}
		if child.attributes["text-anchor"] == "middle" {
			x -= wide / 2
		}
		require.True(t, frame.holds(rectangle{x, y - size + 2, x + wide, y + 3}), "%q lies outside its box", child.text)
	}
}

func TestDrawingIsWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		p := randomPlaybook(t)
		j := p.Journey("j")
		checkDrawing(t, j, p.JourneySVG(j, nil))
		checkMermaid(t, j, p.Mermaid(j))
	})
}

// checkMermaid reads the nodes and edges back from the text.
func checkMermaid(t require.TestingT, j *playbook.Journey, text string) {
	var nodes, edges []string
	name := func(id string) string {
		if id == "done1" || id == "enter1" {
			return ""
		}
		return strings.TrimPrefix(id, "j1_")
	}
	kinds := map[string]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		id, rest, _ := strings.Cut(line, " ")
		switch {
		case strings.HasPrefix(rest, "-"):
			kind := "next"
			if strings.HasPrefix(rest, "-.->") {
				kind = "timeout"
			}
			edges = append(edges, name(id)+"/"+kind+"/"+name(rest[strings.LastIndex(rest, " ")+1:]))
		case strings.HasPrefix(id, "j1_"):
			key := id[:strings.IndexAny(id, "[({")]
			nodes = append(nodes, name(key))
			kinds[name(key)] = line[strings.LastIndex(line, ":::")+3:]
		}
	}
	var want []string
	for _, e := range wantEdges(j) {
		from, rest, _ := strings.Cut(e, "/")
		kind, to, _ := strings.Cut(rest, "/")
		if kind != "timeout" {
			kind = "next"
		}
		want = append(want, from+"/"+kind+"/"+to)
	}
	slices.Sort(edges)
	slices.Sort(want)
	require.Equal(t, want, edges)
	require.Equal(t, j.Order, nodes)
	for key, s := range j.Steps {
		require.Equal(t, string(s.Kind), kinds[key])
	}
}

func TestDrawingOfExamples(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"saas-onboarding", "app-onboarding", "everything"} {
		p := compile(t, example(t, name))
		for _, j := range p.Journeys {
			checkDrawing(t, j, p.JourneySVG(j, nil))
			checkMermaid(t, j, p.Mermaid(j))
		}
		all := parseXML(t, p.SVG(nil, p.Journeys...))
		var drawn []string
		all.walk(func(e *element) {
			if key := e.attributes["data-journey"]; key != "" {
				drawn = append(drawn, key)
			}
		})
		require.Len(t, drawn, len(p.Journeys))
	}
}

func TestDrawingSaysWhatItShows(t *testing.T) {
	t.Parallel()
	p := compile(t, example(t, "saas-onboarding"))
	j := p.Journey("onboarding")
	svg := p.JourneySVG(j, map[string]int{"profile": 1234567, "stalled": 0})
	for _, text := range []string{
		">onboarding<", ">From sign-up to activation.<", ">on signed_up<", ">priority 10 · reentry never<", // the head
		">control 50 %<", ">personalized 50 %<", ">after 1d<", `>traits.industry == &quot;finance&quot;<`, ">else<", // edges
		">for profile_completed<", ">expires after 12h<", ">item: profile<", // steps
		">on activated<", ">within 14d<", ">on account_closed<", ">completed<", // aside
		">1,234,567<", ">0<", // counts
	} {
		require.Contains(t, svg, text)
	}
	checkDrawing(t, j, svg)
}

func ExamplePlaybook_Mermaid() {
	p, err := playbook.Compile(playbook.Bundle{Scale: 1, Files: map[string]string{"playbook.yaml": `
name: trial
events: {signed_up: {}, activated: {}}
actions: {remind: {}}
journeys:
  welcome:
    enter: {on: signed_up}
    steps:
      - {id: first, wait: {on: activated, up_to: 3d, timeout: [{id: late, action: remind}]}}
`}})
	if err != nil {
		panic(err)
	}
	text, _, _ := strings.Cut(p.Mermaid(p.Journey("welcome")), "  classDef")
	fmt.Println(text)
	// Output:
	// flowchart TD
	//   subgraph journey1 ["welcome, priority 0 · reentry never"]
	//     direction TB
	//     enter1(["enter<br>on signed_up"]):::enter
	//     enter1 --> j1_first
	//     j1_first{{"first<br>for activated"}}:::wait
	//     j1_first --> done1
	//     j1_first -.->|"after 3d"| j1_late
	//     j1_late["late<br>remind"]:::action
	//     j1_late --> done1
	//     done1(["completed"]):::done
	//   end
}
