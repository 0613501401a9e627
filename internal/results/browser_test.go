package results_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"image/color"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/onramphq/onramp/internal/results"
)

// browser runs chromium without a network: no name resolves, and the only proxy refuses.
func browser(t *testing.T, args ...string) []byte {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time")
	}
	var path string
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if found, err := exec.LookPath(name); err == nil {
			path = found
			break
		}
	}
	if path == "" {
		t.Skip("no chromium on PATH: nothing draws the page here")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, path, append([]string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run", "--user-data-dir=" + t.TempDir(),
		"--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9", "--disable-background-networking", "--window-size=1000,1200",
	}, args...)...)
	var said bytes.Buffer
	command.Stderr = &said
	out, err := command.Output()
	require.NoError(t, err, "%s", said.String())
	return out
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page.html")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}

// drawn is what the browser says of the page after it was laid out.
type drawn struct {
	Drawings  int      `json:"Drawings"`  // svg elements
	Empty     []string `json:"Empty"`     // drawings without a size
	Outside   []string `json:"Outside"`   // texts that leave their drawing
	Overflow  int      `json:"Overflow"`  // pixels by which the page is wider than the window
	Fetched   []string `json:"Fetched"`   // whatever was asked for beside the page
	Closed    int      `json:"Closed"`    // fold-outs
	Opened    int      `json:"Opened"`    // fold-outs that show something once opened
	Styled    bool     `json:"Styled"`    // the style sheet applies
	Unlabeled int      `json:"Unlabeled"` // drawings without a title for those who cannot see them
}

// measure is put into a copy of the page, because the page itself lets no script run.
const measure = `<script>addEventListener('load',()=>{const r={Drawings:0,Empty:[],Outside:[],Overflow:0,Fetched:[],Closed:0,Opened:0,Styled:false,Unlabeled:0};
r.Overflow=document.documentElement.scrollWidth-innerWidth;
for(const d of document.querySelectorAll('details')){r.Closed++;d.open=true;const inner=d.querySelector('div');if(inner&&inner.getBoundingClientRect().height>0)r.Opened++}
for(const s of document.querySelectorAll('svg')){r.Drawings++;const b=s.getBoundingClientRect();if(b.width<10||b.height<5)r.Empty.push(s.outerHTML.slice(0,80));
if(s.getAttribute('role')==='img'&&!s.querySelector('title'))r.Unlabeled++;
for(const x of s.querySelectorAll('text')){const c=x.getBoundingClientRect();if(x.textContent&&(c.left<b.left-1||c.right>b.right+1||c.top<b.top-2||c.bottom>b.bottom+2))r.Outside.push(x.textContent)}}
r.Fetched=performance.getEntriesByType('resource').map(e=>e.name);
r.Styled=getComputedStyle(document.body).margin==='0px';
const out=document.createElement('pre');out.id='measured';out.textContent=JSON.stringify(r);document.body.append(out)})</script></body>`

func drawnBy(t *testing.T, text string) drawn {
	t.Helper()
	before, after, found := strings.Cut(text, `<meta http-equiv`)
	require.True(t, found)
	_, after, found = strings.Cut(after, ">")
	require.True(t, found)
	dom := browser(t, "--dump-dom", "file://"+file(t, strings.Replace(before+after, "</body>", measure, 1)))
	root, err := html.Parse(bytes.NewReader(dom))
	require.NoError(t, err)
	var d drawn
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == "pre" && n.FirstChild != nil && len(n.Attr) == 1 && n.Attr[0].Val == "measured" {
			require.NoError(t, json.Unmarshal([]byte(n.FirstChild.Data), &d))
			return d
		}
	}
	require.Fail(t, "the browser measured nothing")
	return d
}

// The page in a browser without a network: everything is drawn, nothing is asked for.
func TestPageInBrowser(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]*results.Results{"full": sample(friendly()), "hostile": sample(hostile())} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text := render(t, name, r)
			d := drawnBy(t, text)
			require.Equal(t, strings.Count(text, "<svg"), d.Drawings)
			require.Positive(t, d.Drawings)
			require.Empty(t, d.Empty)
			require.Empty(t, d.Fetched)
			require.Zero(t, d.Overflow)
			require.Zero(t, d.Unlabeled)
			require.True(t, d.Styled)
			require.Equal(t, d.Closed, d.Opened, "every fold-out opens on something")
			if name == "full" {
				require.Empty(t, d.Outside)
				require.Greater(t, d.Closed, 20)
			}
		})
	}
}

// The page as it is, in light and dark. Its own policy must let its style sheet through.
func TestPageIsReadableInLightAndDark(t *testing.T) {
	t.Parallel()
	path := file(t, render(t, "full", sample(friendly())))
	for name, scheme := range map[string]struct {
		setting string
		want    color.RGBA
	}{"light": {"--blink-settings=preferredColorScheme=1", color.RGBA{0xfc, 0xfc, 0xfa, 0xff}}, "dark": {"--blink-settings=preferredColorScheme=0", color.RGBA{0x15, 0x17, 0x1a, 0xff}}} {
		shot := filepath.Join(t.TempDir(), name+".png")
		browser(t, scheme.setting, "--screenshot="+shot, "file://"+path)
		f, err := os.Open(shot)
		require.NoError(t, err)
		picture, err := png.Decode(f)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		require.Equal(t, fmt.Sprint(scheme.want), fmt.Sprint(color.RGBAModel.Convert(picture.At(3, 3))), name)
	}
}
