//go:build !noembed && (linux || darwin)

package devstack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"
	"github.com/labstack/echo/v4/middleware"
	"github.com/temporalio/ui-server/v2/server/api"
	"github.com/temporalio/ui-server/v2/server/auth"
	uiconfig "github.com/temporalio/ui-server/v2/server/config"
	"github.com/temporalio/ui-server/v2/server/csrf"
	"github.com/temporalio/ui-server/v2/server/headers"
	"github.com/temporalio/ui-server/v2/server/route"
	"github.com/temporalio/ui-server/v2/ui"
)

const uiHeaderTimeout = 10 * time.Second

// webUI is the Temporal Web UI.
type webUI struct{ http *http.Server }

// startUI serves the Web UI on the port. The routes are put together here and not by ui-server's own NewServer, which
// prints to standard output and ends the process when it cannot listen.
func startUI(ctx context.Context, port int, temporalAddress, namespace string, failed func(error)) (*webUI, error) {
	handler, err := uiHandler(temporalAddress, namespace)
	if err != nil {
		return nil, fmt.Errorf("build the Temporal Web UI: %w", err)
	}
	listener, err := listen(ctx, port)
	if err != nil {
		return nil, fmt.Errorf("listen for the Temporal Web UI on port %d: %w", port, err)
	}
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: uiHeaderTimeout,
		BaseContext:       func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
	}
	go func() {
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			failed(fmt.Errorf("serve the Temporal Web UI: %w", err))
		}
	}()
	return &webUI{http: server}, nil
}

// stop closes the connections too: a browser tab must not hold the program.
func (u *webUI) stop() error {
	if err := u.http.Close(); err != nil {
		return fmt.Errorf("stop the Temporal Web UI: %w", err)
	}
	return nil
}

func uiHandler(temporalAddress, namespace string) (http.Handler, error) {
	cfg, err := uiconfig.NewConfigProviderWithRefresh(&uiconfig.Config{
		TemporalGRPCAddress: temporalAddress,
		Host:                loopback,
		EnableUI:            true,
		DefaultNamespace:    namespace,
		DisableNewsFetch:    true,
		HideLogs:            true,
		// Plain HTTP on loopback: a cookie marked secure would never come back, and every action would be refused.
		CORS: uiconfig.CORS{CookieInsecure: true},
	})
	if err != nil {
		return nil, err
	}
	assets, err := ui.Assets()
	if err != nil {
		return nil, err
	}
	if assets, err = fs.Sub(assets, "local"); err != nil {
		return nil, err
	}
	e := echo.New()
	// No CORS headers: only the UI's own pages may read the API. The token stops other sites from posting to it.
	e.Use(middleware.Recover(), middleware.Gzip(), middleware.Secure(), csrf.EnsureTokenCookie(false),
		middleware.CSRFWithConfig(csrf.MiddlewareConfig(cfg, false)))
	route.SetHealthRoute(e)
	forward := headers.WithForwardHeaders([]string{auth.AuthorizationExtrasHeader, "Caller-Type"})
	if err := route.SetAPIRoutes(e, cfg, []api.Middleware{forward}); err != nil {
		return nil, err
	}
	route.SetAuthRoutes(e, cfg)
	if err := route.SetUIRoutes(e, "", assets, cfg); err != nil {
		return nil, err
	}
	route.SetRenderRoute(e, "/")
	return e, nil
}
