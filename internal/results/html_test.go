package results_test

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/onramphq/onramp/internal/results"
)

var keep = flag.String("keep", "", "folder in which the pages of these tests are kept, to look at")

// render returns the page of results.
func render(t *testing.T, name string, r *results.Results) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, results.WriteHTML(&b, r))
	if *keep != "" {
		require.NoError(t, os.WriteFile(filepath.Join(*keep, name+".html"), b.Bytes(), 0o600))
	}
	return b.String()
}

func TestPageSaysEverything(t *testing.T) {
	t.Parallel()
	text := render(t, "full", sample(friendly()))
	for _, part := range []string{
		`id="verdict"`, `id="effects"`, `id="time"`, `id="metrics"`, `id="funnel"`, `id="segments"`, `id="users"`, `id="repeat"`,
		"onboarding_flow", "Two guided ways in", "holds at every look", "met_two_variants", "uabcdefghijklmnopqrstuvwxyz", "Some events came late",
		"SELECT variant, count(), sum(y) FROM unit_metrics", "WHERE y &lt; 3", "analysis_id = 'a1b2c3'", "4f2a9c1e7b6d5830",
		"the percentile 99.9 of the values other than zero", `<a href="#query-moments">`, `<pre id="query-moments">`, "refunds", "nothing to read: unseen event", "it may be misspelled", "By the pooled test", "margin", "engaged_newcomer", "Journey onboarding", "8,000 users of 12,000 planned",
	} {
		require.Contains(t, text, part)
	}
	require.Equal(t, 2, strings.Count(text, `<svg class="timeline"`), "one for each treatment")
	require.NotContains(t, text, "NaN")
	require.NotContains(t, text, "ZgotmplZ", "a value that the template refused")
	require.NotContains(t, text, "%!")
}

func TestPageOfNothing(t *testing.T) {
	t.Parallel()
	text := render(t, "nothing", nothing())
	require.Contains(t, text, "nobody has met")
	require.NotContains(t, text, `id="time"`)
	require.NotContains(t, text, "NaN")
	require.NotContains(t, text, "1970")
}

// walk calls see on every element of a page.
func walk(t *testing.T, text string, see func(*html.Node)) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(text))
	require.NoError(t, err)
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			see(n)
		}
	}
}

// Nothing on the page is fetched, run or sent: no script, no address outside, nothing that a style could load.
func TestPageRefersToNothingOutside(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*results.Results{"full": sample(friendly()), "hostile": sample(hostile()), "nothing": nothing()} {
		text := render(t, name, r)
		walk(t, text, func(n *html.Node) {
			require.NotContains(t, []string{"script", "link", "img", "iframe", "object", "embed", "image", "use", "form", "base", "audio", "video"}, n.Data)
			for _, a := range n.Attr {
				if a.Key == "href" {
					require.True(t, strings.HasPrefix(a.Val, "#"), a.Val)
					continue
				}
				require.NotContains(t, []string{"src", "srcset", "style", "data", "action", "xlink:href"}, a.Key, "%s in <%s>", a.Key, n.Data)
				require.False(t, strings.HasPrefix(a.Key, "on"), "handler %s in <%s>", a.Key, n.Data)
				if strings.Contains(a.Val, "url(") {
					require.Regexp(t, `^url\(#time\d+\)$`, a.Val)
				}
			}
		})
		require.NotRegexp(t, `@import|url\([^#]`, text)
		require.Contains(t, text, "default-src &#39;none&#39;")
	}
}

// hostile are names of somebody who wants to be more than a name.
func hostile() names {
	return names{
		experiment: `<script>alert("x")</script>`, control: `"><img src=x onerror=alert(1)>`, guided: "' onmouseover='alert(2)", short: "</style><svg onload=alert(3)>",
		metric: "</title><script>1</script>", segment: `{{.}}<a href="//evil.example">`, reason: "</pre><iframe src=//evil.example>", token: "&lt;b&gt;<b>\x1b[31m\u202e",
	}
}

func TestPageEscapesHostileNames(t *testing.T) {
	t.Parallel()
	h := hostile()
	text := render(t, "hostile", sample(h))
	seen := map[string]bool{}
	walk(t, text, func(n *html.Node) {
		require.NotContains(t, []string{"script", "img", "b", "iframe"}, n.Data)
		for c := range n.ChildNodes() {
			for _, name := range []string{h.experiment, h.control, h.guided, h.metric, h.segment, h.reason} {
				if c.Type == html.TextNode && strings.Contains(c.Data, name) {
					seen[name] = true
				}
			}
		}
	})
	require.Len(t, seen, 6, "each stands on the page as the text it is")
	require.Equal(t, 1, strings.Count(text, "<style>"))
}

func FuzzPage(f *testing.F) {
	f.Add(`<script>`, `"'>`, "a")
	f.Fuzz(func(t *testing.T, name, variant, metric string) {
		n := friendly()
		n.experiment, n.guided, n.metric = name, variant, metric
		if variant == n.control || variant == n.short {
			t.Skip()
		}
		var b bytes.Buffer
		require.NoError(t, results.WriteHTML(&b, sample(n)))
		require.NotContains(t, b.String(), "<script")
		walk(t, b.String(), func(n *html.Node) { require.NotEqual(t, "script", n.Data) })
	})
}
