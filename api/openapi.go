package api

import (
	"crypto/sha256"
	_ "embed"
	"encoding/json"
	"net/http"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

const routeOpenAPI = "/openapi.json"

// openAPIText is the description of every route after OpenAPI 3.1, written by hand and held to the routes and to real answers by a test.
//
//go:embed openapi.yaml
var openAPIText []byte

// openAPIDocument is the same as JSON, without the names that the text uses for its own repetitions.
//
//nolint:gochecknoglobals // made once, never changed
var openAPIDocument = sync.OnceValue(func() []byte {
	var document map[string]any
	if err := yaml.Unmarshal(openAPIText, &document); err != nil {
		panic("the description of the API is part of the program: " + err.Error())
	}
	for name := range document {
		if strings.HasPrefix(name, "x-") {
			delete(document, name)
		}
	}
	raw, err := json.Marshal(document)
	if err != nil {
		panic("the description of the API is part of the program: " + err.Error())
	}
	return append(raw, '\n')
})

// openAPI answers with the description. It is the same everywhere and needs no key.
func (s *Server) openAPI(w http.ResponseWriter, r *http.Request) {
	document := openAPIDocument()
	sum := sha256.Sum256(document)
	if s.changed(w, r, sum[:16]) {
		s.send(r.Context(), w, http.StatusOK, "application/json", document)
	}
}
