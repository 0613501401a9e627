package client_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/onramphq/onramp/client"
	"github.com/onramphq/onramp/ingest"
	"github.com/onramphq/onramp/schema"
)

// start stands in for a NATS that is there: one in this process, with Onramp's streams.
func start(ctx context.Context) (nc *nats.Conn, stop func()) {
	must := func(err error) {
		if err != nil {
			log.Panic(err)
		}
	}
	dir, err := os.MkdirTemp("", "onramp-example-")
	must(err)
	srv, err := server.NewServer(&server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
	must(err)
	go srv.Start()
	if !srv.ReadyForConnections(20 * time.Second) {
		log.Panic("NATS does not start")
	}
	nc, err = nats.Connect(srv.ClientURL())
	must(err)
	js, err := jetstream.New(nc)
	must(err)
	must(ingest.EnsureStreams(ctx, js, ingest.StreamsConfig{}))
	return nc, func() {
		nc.Close()
		srv.Shutdown()
		srv.WaitForShutdown()
		must(os.RemoveAll(dir))
	}
}

// An outbox is emptied: whatever dies between the publication and the note that it was published, the event counts once.
func ExampleClient_Publish() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, stop := start(ctx)
	defer stop()

	c, err := client.New(nc, "billing")
	if err != nil {
		log.Panic(err)
	}
	for range 2 {
		duplicate, err := c.Publish(ctx, schema.Event{
			EventID: "invoice-17-paid", EventName: "invoice_paid", UserID: "u42", OccurredAt: time.Now(), Properties: json.RawMessage(`{"amount":12}`),
		})
		if err != nil {
			log.Panic(err)
		}
		fmt.Println("stored, duplicate:", duplicate)
	}
	// Output:
	// stored, duplicate: false
	// stored, duplicate: true
}

// A service sends the e-mails that journeys ask for, each once.
func ExampleClient_Handle() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, stop := start(ctx)
	defer stop()
	decided(nc) // a journey asks for an e-mail

	c, err := client.New(nc, "mailer")
	if err != nil {
		log.Panic(err)
	}
	memory, err := c.OpenMemory(ctx, "mailer", 7*24*time.Hour, 5*time.Minute)
	if err != nil {
		log.Panic(err)
	}
	err = c.Handle(ctx, client.HandlerConfig{Consumer: "mailer", Action: "send_email", Memory: memory, Do: func(_ context.Context, action schema.ActionRequest) error {
		fmt.Println("an e-mail to", action.UserID, "about", action.Properties["template"])
		cancel() // a service would go on
		return nil
	}})
	if err != nil {
		log.Panic(err)
	}
	// Output:
	// an e-mail to u42 about welcome
}

func decided(nc *nats.Conn) {
	body, err := json.Marshal(schema.ActionRequest{ActionID: "a1", Action: "send_email", UserID: "u42", Properties: map[string]any{"template": "welcome"}})
	if err == nil {
		err = nc.Publish(schema.ActionSubject("send_email"), body)
	}
	if err != nil {
		log.Panic(err)
	}
}

// A service asks what to show. Whoever is not known, and whatever cannot be asked, has the default.
func ExampleClient_Flag() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	nc, stop := start(ctx)
	defer stop()

	c, err := client.New(nc, "web")
	if err != nil {
		log.Panic(err)
	}
	atRisk := false
	if flag, err := c.Flag(ctx, "u42", "segment.at_risk"); err == nil {
		atRisk = flag.Bool()
	} else {
		fmt.Println(schema.CodeOf(err))
	}
	fmt.Println("at risk:", atRisk)
	// Output:
	// unavailable
	// at risk: false
}
