// Package results shows the analysis of an experiment to people: as one HTML page that needs nothing else, and as text for a
// terminal. It reads nothing and computes no statistics: package experiment does, and its Analysis says everything with the
// formulas and the values in them. What this package adds are drawings, units and order.
//
//	results.go   Results: an analysis as it is published
//	format.go    numbers as people read them
//	plot.go      where things are in a drawing
//	html.go      the page; page.html and page.css are its shape
//	text.go      the same for a terminal
//
// Every text that came from outside (keys, reasons, user tokens, SQL) is escaped in HTML and cleaned for the terminal. The page
// refers to nothing outside itself and holds no script.
package results
