package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"maps"
	"net/http"
	"slices"
)

const indexStyle = `:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}
body{max-width:42rem;margin:3rem auto;padding:0 1.25rem}
h1{font-size:1.5rem;margin:0}h2{font-size:1rem;margin:2rem 0 .5rem}p{margin:.25rem 0 0}
table{width:100%;border-collapse:collapse}td{padding:.5rem .75rem .5rem 0;border-top:1px solid color-mix(in srgb,currentColor 18%,transparent);vertical-align:top}
td:first-child{white-space:nowrap;width:1%}a{color:LinkText;overflow-wrap:anywhere}code{font:.9em ui-monospace,monospace}`

const indexPage = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Onramp</title><style>{{.Style}}</style></head><body>
<main><h1>Onramp</h1><p>Durable onboarding journeys, one workflow per user.{{with .Version}} Version {{.}}.{{end}}</p>
{{with .Links}}<h2>Look inside</h2><table>{{range .}}<tr><td>{{.Name}}</td><td><a href="{{.URL}}">{{.URL}}</a></td></tr>{{end}}</table>{{end}}
<h2>Ask this server</h2><table>
<tr><td><code>GET /v1/users/{id}</code></td><td>what a user is right now: segments with reasons, variants, journeys, what comes next. The id is the one your services use, escaped</td></tr>
<tr><td><code>POST /ofrep/v1/evaluate/flags</code></td><td>the same as flags, for OpenFeature's OFREP providers</td></tr>
{{if .Tracking}}<tr><td><code>POST /v1/track</code>, <code>/v1/batch</code> …</td><td>events, as the Segment and RudderStack SDKs send them: give them this address</td></tr>
{{end}}{{if .Experiments}}<tr><td><a href="/v1/experiments"><code>GET /v1/experiments</code></a></td><td>where every experiment stands</td></tr>
<tr><td><code>GET /v1/experiments/{key}/results</code></td><td>what an experiment has shown so far, with how each number was computed; <code>/experiments/{key}</code> is the same for people</td></tr>
{{end}}<tr><td><a href="/readyz?verbose"><code>GET /readyz?verbose</code></a></td><td>does everything Onramp needs answer?</td></tr>
<tr><td><a href="/livez"><code>GET /livez</code></a></td><td>does this process answer?</td></tr>
</table></main></body></html>
`

type indexLink struct{ Name, URL string }

// renderIndex makes the page for people once, with the policy that lets a browser use its one style sheet and nothing else.
func renderIndex(cfg Config) (page []byte, policy string) {
	links := make([]indexLink, 0, len(cfg.Links))
	for _, name := range slices.Sorted(maps.Keys(cfg.Links)) {
		links = append(links, indexLink{Name: name, URL: cfg.Links[name]})
	}
	var b bytes.Buffer
	err := template.Must(template.New("index").Parse(indexPage)).Execute(&b, struct {
		Style       template.CSS
		Version     string
		Links       []indexLink
		Experiments bool
		Tracking    bool
	}{indexStyle, cfg.Version, links, cfg.Experiments != nil, cfg.Events != nil})
	if err != nil {
		panic("render index: " + err.Error()) // the template and its data are both above
	}
	sum := sha256.Sum256([]byte(indexStyle))
	return b.Bytes(), "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}

func (s *Server) index(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Security-Policy", s.pageCSP)
	s.send(r.Context(), w, http.StatusOK, "text/html; charset=utf-8", s.page)
}
