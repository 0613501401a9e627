// Package page writes a backtest as one HTML page that needs nothing else: no scripts, no fonts or pictures from elsewhere.
package page
