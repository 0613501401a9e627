# syntax=docker/dockerfile:1
# The production image: one static binary without embedded servers, no shell, no root.
#   docker build -t onramp:dev .
FROM golang:1.26.8-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOFLAGS=-buildvcs=false go build -trimpath -tags noembed -ldflags='-s -w' -o /out/onramp ./cmd/onramp

FROM gcr.io/distroless/static-debian13:nonroot@sha256:f7f8f729987ad0fdf6b05eeeae94b26e6a0f613bdf46feea7fc40f7bd72953e6
LABEL org.opencontainers.image.title="onramp" \
      org.opencontainers.image.description="Stream-processing workflow engine for user onboarding" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /out/onramp /onramp
USER nonroot:nonroot
EXPOSE 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 CMD ["/onramp", "health"]
ENTRYPOINT ["/onramp"]
CMD ["serve"]
