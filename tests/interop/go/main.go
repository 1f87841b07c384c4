// Apache Pulsar's Go client against a broker: `interop SERVICE-URL HTTP-URL SUBJECT...` ends with 0 when everything that the
// subjects state of the broker holds. Lines RESTART-KILL and DONE on standard output ask the harness, which answers `done` on
// standard input.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/apache/pulsar-client-go/pulsar"
	"github.com/apache/pulsar-client-go/pulsar/log"
)

// Bounds what should take milliseconds, on a busy machine.
const patience = 30 * time.Second

var answers = bufio.NewScanner(os.Stdin)

type broker struct {
	serviceURL, httpURL string
	client              pulsar.Client
}

func main() {
	subjects := map[string]func(*broker){
		"subscriptions": subscriptions,
		"delivery":      delivery,
		"positions":     positions,
		"churn":         churn,
	}
	for _, name := range os.Args[3:] {
		b := &broker{serviceURL: os.Args[1], httpURL: os.Args[2]}
		b.client = b.connect()
		subjects[name](b)
		b.client.Close()
		fmt.Println("ok go", name)
	}
}

// A client of its own connection. The client logs errors for what a test makes happen on purpose.
func (b *broker) connect() pulsar.Client {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	return must(pulsar.NewClient(pulsar.ClientOptions{
		URL:              b.serviceURL,
		OperationTimeout: patience,
		Logger:           log.NewLoggerWithSlog(quiet),
	}))
}

// A topic nobody else uses.
func topic(name string) string {
	return fmt.Sprintf("persistent://public/default/go-%s-%d", name, time.Now().UnixNano())
}

// SIGKILL of the broker, and a start over the same data.
func kill() {
	ask("RESTART-KILL")
}

// The broker's own counters say what the topic's log does, with everything acknowledged.
func nothingIsLeft(topic, subscription string) {
	ask("DONE " + topic + " " + subscription)
}

func ask(line string) {
	fmt.Println(line)
	if !answers.Scan() || answers.Text() != "done" {
		fail("the harness did not answer")
	}
}

func fail(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}
