package playbook

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Kinds of box besides those of steps.
const (
	kindEnter StepKind = "enter"
	kindDone  StepKind = "done"
	kindAside StepKind = "aside"
)

// style is how a kind of box looks: light enough for black text, told apart by its border as well.
type style struct{ fill, stroke string }

func graphKinds() []StepKind {
	return []StepKind{kindEnter, StepAction, StepDelay, StepWait, StepBranch, StepExperiment, StepExit, kindDone, kindAside}
}

func styleOf(kind StepKind) style {
	switch kind {
	case StepAction:
		return style{"#e0ecff", "#2563eb"}
	case StepDelay:
		return style{"#f1f5f9", "#64748b"}
	case StepWait:
		return style{"#fef3c7", "#b45309"}
	case StepBranch:
		return style{"#f3e8ff", "#7e22ce"}
	case StepExperiment:
		return style{"#dcfce7", "#15803d"}
	case StepExit:
		return style{"#fee2e2", "#b91c1c"}
	case kindEnter, kindDone:
		return style{"#ffffff", "#111827"}
	default:
		return style{"#fafafa", "#a1a1aa"}
	}
}

// Measures of the drawing, in pixels.
const (
	boxWidth   = 236
	boxPad     = 12
	boxLines   = 5 // at most, of what a step does
	lineHeight = 16
	headHeight = 42 // kind and key
	gap        = 30 // between boxes above each other, where the arrow is
	aisle      = 28 // between boxes beside each other
	bus        = 14 // from a box to the line that spreads or gathers
	labelWidth = 190
	labelLines = 3
	margin     = 24
	asideWidth = 250
)

// SVG draws journeys below each other as one image that needs nothing else. counts, where it is not nil, holds numbers by
// journey and step that are written on the boxes, such as how many users have been there.
func (p *Playbook) SVG(counts map[string]map[string]int, journeys ...*Journey) string {
	var body strings.Builder
	width, height := 0, 0
	for _, j := range journeys {
		d := &drawing{playbook: p, journey: j, counts: counts[j.Key]}
		fmt.Fprintf(&body, "<g class=\"journey\" data-journey=\"%s\" transform=\"translate(0 %d)\">\n", j.Key, height)
		w, h := d.draw()
		body.WriteString(d.lines.String())
		body.WriteString(d.out.String())
		body.WriteString("</g>\n")
		width, height = max(width, w), height+h
	}
	return fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" width="%[1]d" height="%[2]d" viewBox="0 0 %[1]d %[2]d" font-family="%[3]s" font-size="12" fill="#111827">
<defs><marker id="onramp-arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto"><path d="M0 0.5 8 4 0 7.5z" fill="#475569"/></marker></defs>
<rect class="paper" width="%[1]d" height="%[2]d" fill="#ffffff"/>
%[4]s</svg>
`, width, height, fontText, body.String())
}

// JourneySVG draws one journey; counts holds numbers by step, nil for none.
func (p *Playbook) JourneySVG(j *Journey, counts map[string]int) string {
	return p.SVG(map[string]map[string]int{j.Key: counts}, j)
}

// block is a step with everything up to where its ways meet again, measured from the axis on which its box stands.
type block struct {
	step        *Step
	lines       []caption
	boxHeight   int
	arms        []arm // none: it leads to one step at most
	labels      int   // height of the tallest label of an arm
	left, right int
	height      int
}

type arm struct {
	edge   edge
	label  []string
	at     int // axis, from that of the block
	blocks []*block

	left, right, height int
}

// drawing is one journey's.
type drawing struct {
	playbook *Playbook
	journey  *Journey
	counts   map[string]int
	meets    map[string]string // step → where all its ways meet again
	placed   map[string]bool
	lines    strings.Builder // edges, under everything else
	out      strings.Builder
}

// pen is an edge that has been drawn up to a point.
type pen struct {
	edge edge
	path []point
}

type point struct{ x, y int }

func (d *drawing) draw() (width, height int) {
	j := d.journey
	d.meets, d.placed = d.playbook.meetings(j), make(map[string]bool)
	blocks, left, right, _ := d.sequence(j.First, "")
	left, right = max(left, boxWidth/2), max(right, boxWidth/2)
	head := d.header()
	axis := margin + left
	enter := fit(j.Enter.texts(), boxWidth-2*boxPad, boxLines)
	top := head + margin
	d.box(kindEnter, "", "enter", enter, axis, top, headHeight-lineHeight+len(enter)*lineHeight+boxPad)
	bottom := top + headHeight - lineHeight + len(enter)*lineHeight + boxPad
	pens := d.blocks(blocks, axis, bottom+gap, []pen{{edge{kind: edgeNext, to: j.First}, []point{{axis, bottom}}}})
	bottom += d.stackHeight(blocks)
	if len(pens) > 0 {
		bottom += gap
		for _, p := range pens {
			d.finish(p, "", axis, bottom)
		}
		d.box(kindDone, "", "completed", nil, axis, bottom, 34)
		bottom += 34
	}
	side := d.aside(axis+right+2*aisle, top)
	width = axis + right + margin
	if len(j.aside()) > 0 {
		width += 2*aisle + asideWidth
	}
	width = max(width, d.headerWidth()+2*margin)
	return width, max(bottom, side) + margin
}

// sequence lays out the steps from key up to, not including, stop.
func (d *drawing) sequence(key, stop string) (blocks []*block, left, right, height int) {
	for key != stop && key != "" && !d.placed[key] {
		d.placed[key] = true
		b := d.block(d.journey.Steps[key])
		if len(blocks) > 0 {
			height += gap
		}
		blocks = append(blocks, b)
		left, right, height = max(left, b.left), max(right, b.right), height+b.height
		key = d.meets[key]
	}
	return blocks, left, right, height
}

func (d *drawing) block(s *Step) *block {
	b := &block{step: s, lines: fit(d.playbook.texts(s), boxWidth-2*boxPad, boxLines), left: boxWidth / 2, right: boxWidth / 2}
	b.boxHeight = headHeight + len(b.lines)*lineHeight + 6
	b.height = b.boxHeight
	edges := d.playbook.edges(s)
	if len(edges) < 2 {
		return b
	}
	tallest := 0
	for _, e := range edges {
		a := arm{edge: e, label: labelOf(e.label)}
		a.blocks, a.left, a.right, a.height = d.sequence(e.to, d.meets[s.Key])
		wide := aisle / 2
		for _, line := range a.label {
			wide = max(wide, (textWidth(line, labelSize, e.label.code)+8)/2)
		}
		a.left, a.right = max(a.left, wide), max(a.right, wide)
		b.labels = max(b.labels, len(a.label)*lineHeight)
		b.arms = append(b.arms, a)
	}
	for i := range b.arms {
		a := &b.arms[i]
		if len(a.blocks) > 0 {
			tallest = max(tallest, a.height+gap)
		}
		if i > 0 {
			a.at = b.arms[i-1].at + b.arms[i-1].right + aisle + a.left
		}
	}
	// What is awaited goes straight on; everything else spreads evenly around the axis.
	if s.Kind != StepWait {
		middle := b.arms[len(b.arms)-1].at / 2
		for i := range b.arms {
			b.arms[i].at -= middle
		}
	}
	for _, a := range b.arms {
		b.left, b.right = max(b.left, a.left-a.at), max(b.right, a.right+a.at)
	}
	b.height += 3*bus + b.labels + tallest
	return b
}

func labelOf(c caption) []string {
	if c.text == "" {
		return nil
	}
	return wrap(c, labelWidth, labelSize, labelLines)
}

func (d *drawing) stackHeight(blocks []*block) int {
	height := 0
	for _, b := range blocks {
		height += gap + b.height
	}
	return height
}

// blocks draws a sequence from y down. The pens in end at its first box; those that lead on from it are returned.
func (d *drawing) blocks(blocks []*block, axis, y int, in []pen) []pen {
	for _, b := range blocks {
		for _, p := range in {
			d.finish(p, b.step.Key, axis, y)
		}
		in = d.step(b, axis, y)
		y += b.height + gap
	}
	return in
}

func (d *drawing) step(b *block, axis, y int) []pen {
	d.box(b.step.Kind, b.step.Key, b.step.Key, b.lines, axis, y, b.boxHeight)
	bottom := y + b.boxHeight
	edges := d.playbook.edges(b.step)
	if len(b.arms) == 0 {
		pens := make([]pen, 0, len(edges))
		for _, e := range edges {
			pens = append(pens, pen{e, []point{{axis, bottom}}})
		}
		return pens
	}
	var out []pen
	for i, a := range b.arms {
		x := axis + a.at
		label := bottom + 2*bus
		p := []pen{{edges[i], []point{{axis, bottom}, {axis, bottom + bus}, {x, bottom + bus}}}}
		p = d.blocks(a.blocks, x, label+b.labels+gap, p)
		for _, open := range p {
			join := y + b.height - bus/2
			open.path = append(open.path, point{x, join}, point{axis, join})
			out = append(out, open)
		}
		d.label(a, x, label)
	}
	return out
}

func (d *drawing) finish(p pen, to string, x, y int) {
	p.path = append(p.path, point{x, y})
	var path strings.Builder
	for i, at := range p.path {
		if i > 0 && at == p.path[i-1] {
			continue
		}
		fmt.Fprintf(&path, "%c%d %d", "ML"[min(i, 1)], at.x, at.y)
	}
	dash := ""
	if p.edge.kind == edgeTimeout {
		dash = ` stroke-dasharray="5 3"`
	}
	fmt.Fprintf(&d.lines, `<path class="edge" data-from="%s" data-to="%s" data-kind="%s" d="%s" fill="none" stroke="#475569"%s marker-end="url(#onramp-arrow)"/>`+"\n",
		p.edge.from, to, p.edge.kind, path.String(), dash)
}

// label writes an arm's condition on its line.
func (d *drawing) label(a arm, x, y int) {
	wide := 0
	for _, line := range a.label {
		wide = max(wide, textWidth(line, labelSize, a.edge.label.code)+8)
	}
	if wide == 0 {
		return
	}
	fmt.Fprintf(&d.out, `<g class="label"><rect x="%d" y="%d" width="%d" height="%d" fill="#ffffff"/><title>%s</title>`,
		x-wide/2, y, wide, len(a.label)*lineHeight, escape(a.edge.label.text))
	for i, line := range a.label {
		d.text(line, x, y+i*lineHeight+12, labelSize, a.edge.label.code, `text-anchor="middle" fill="#334155"`)
	}
	d.out.WriteString("</g>\n")
}

// box draws a box of a kind around an axis.
func (d *drawing) box(kind StepKind, key, title string, lines []caption, axis, y, height int) {
	look := styleOf(kind)
	left := axis - boxWidth/2
	radius := 6
	if kind == kindEnter || kind == kindDone || kind == StepExit {
		radius = 16
	}
	fmt.Fprintf(&d.out, `<g class="box %s" data-step="%s"><rect x="%d" y="%d" width="%d" height="%d" rx="%d" fill="%s" stroke="%s" stroke-width="1.5"/>`,
		kind, key, left, y, boxWidth, height, radius, look.fill, look.stroke)
	at := y + 20
	if key == "" {
		d.text(title, axis, at+1, titleSize, false, `text-anchor="middle" font-weight="600"`)
	} else {
		d.text(string(kind), left+boxPad, at-3, 10, false, fmt.Sprintf(`fill="%s" letter-spacing="0.6"`, look.stroke))
		if n, ok := d.counts[key]; ok {
			d.count(n, left+boxWidth-boxPad, at-3)
		}
		at += lineHeight
		d.text(cut(title, boxWidth-2*boxPad, titleSize, false), left+boxPad, at, titleSize, false, `font-weight="600"`)
	}
	for i, line := range lines {
		if key == "" {
			d.text(line.text, axis, at+(i+1)*lineHeight, bodySize, line.code, `text-anchor="middle" fill="#334155"`)
			continue
		}
		d.text(line.text, left+boxPad, at+(i+1)*lineHeight, bodySize, line.code, `fill="#334155"`)
	}
	d.out.WriteString("</g>\n")
}

func (d *drawing) count(n, right, y int) {
	text := grouped(n)
	wide := textWidth(text, 11, false) + 12
	fmt.Fprintf(&d.out, `<rect class="count" x="%d" y="%d" width="%d" height="17" rx="8" fill="#ffffff" stroke="#cbd5e1"/>`, right-wide+6, y-11, wide)
	d.text(text, right-wide/2+6, y+2, 11, false, `text-anchor="middle" font-weight="600"`)
}

// grouped writes n with a comma before every three digits.
func grouped(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// header writes the journey's name and what it says about itself; it returns its height.
func (d *drawing) header() int {
	y := margin + 16
	d.text(d.journey.Key, margin, y, headerSize, false, `font-weight="600"`)
	for _, line := range d.subtitles() {
		y += lineHeight + 2
		d.text(line, margin, y, bodySize, false, `fill="#475569"`)
	}
	return y
}

func (d *drawing) subtitles() []string {
	lines := []string{d.journey.rules()}
	if d.journey.Description != "" {
		lines = slices.Insert(lines, 0, cut(d.journey.Description, 640, bodySize, false))
	}
	return lines
}

func (d *drawing) headerWidth() int {
	width := textWidth(d.journey.Key, headerSize, false)
	for _, line := range d.subtitles() {
		width = max(width, textWidth(line, bodySize, false))
	}
	return width
}

// aside lists what holds at every step, and returns where the list ends.
func (d *drawing) aside(x, y int) int {
	for _, n := range d.journey.aside() {
		lines := fit(n.texts, asideWidth-2*boxPad, boxLines)
		height := 26 + len(lines)*lineHeight + 6
		look := styleOf(kindAside)
		fmt.Fprintf(&d.out, `<g class="note"><rect x="%d" y="%d" width="%d" height="%d" rx="6" fill="%s" stroke="%s" stroke-dasharray="2 2"/>`,
			x, y, asideWidth, height, look.fill, look.stroke)
		d.text(n.title, x+boxPad, y+19, bodySize, false, `font-weight="600"`)
		for i, line := range lines {
			d.text(line.text, x+boxPad, y+19+(i+1)*lineHeight, bodySize, line.code, `fill="#334155"`)
		}
		d.out.WriteString("</g>\n")
		y += height + boxPad
	}
	return y
}

func (d *drawing) text(text string, x, y, size int, fixed bool, attributes string) {
	if fixed {
		size--
		attributes += ` font-family="` + fontCode + `"`
	}
	fmt.Fprintf(&d.out, `<text x="%d" y="%d" font-size="%d" %s>%s</text>`, x, y, size, attributes, escape(visible(text)))
}

func escape(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;").Replace(text)
}
