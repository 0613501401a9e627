package devstack

import "fmt"

// PortInUseError says that a port asked for is taken. Nothing was started.
type PortInUseError struct {
	// Service is the server that wanted the port.
	Service string
	// Port is the port on 127.0.0.1.
	Port int
	// Flag is the command-line flag that chooses another port.
	Flag string
}

// Error names the port and the flag that helps.
func (e *PortInUseError) Error() string {
	return fmt.Sprintf("port %d for %s is in use by another process: free it or choose another with %s",
		e.Port, e.Service, e.Flag)
}

// DirInUseError says that another process owns the data folder. Nothing was started.
type DirInUseError struct {
	// Dir is the data folder.
	Dir string
	// PID is the process that owns it; 0 when it could not be read.
	PID int
}

// Error names the folder, its owner and the flags that help.
func (e *DirInUseError) Error() string {
	owner := "another process"
	if e.PID != 0 {
		owner = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("data folder %s is in use by %s: stop it, choose another folder with --data DIR, "+
		"or use --ephemeral", e.Dir, owner)
}

// EngineError says that no ClickHouse engine can be had. Nothing was started.
type EngineError struct {
	// Reason is what went wrong.
	Reason string
	// Hint is what the user can do.
	Hint string
	// Err is the cause, if there is one.
	Err error
}

// Error gives the reason, the cause and what helps.
func (e *EngineError) Error() string {
	text := "no ClickHouse engine: " + e.Reason
	if e.Err != nil {
		text += fmt.Sprintf(" (%v)", e.Err)
	}
	return text + ": " + e.Hint
}

// Unwrap returns the cause.
func (e *EngineError) Unwrap() error { return e.Err }
