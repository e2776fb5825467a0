package main

import (
	"encoding/json"
	"strings"
	"testing"

	"runner"
)

const log = `203.0.113.9 - - [26/Nov/2026:03:20:56 +0100] "GET /a?b HTTP/1.1" 200 5120 "-" "x"
203.0.113.9 - - [26/Nov/2026:03:21:00 +0100] "GET /a HTTP/1.1" 404 - "-" "x"
198.51.100.7 - - [26/Nov/2026:04:00:00 +0100] "POST /b HTTP/1.1" 500 12 "-" "x"
what is this
`

func TestHours(t *testing.T) {
	world := runner.Test{Stored: map[string]map[string][]byte{"logs": {"access.log": []byte(log)}}}
	for _, args := range []Args{{Text: log}, {From: "logs/access.log"}} {
		bytes, err := world.Run("log.stats", args)
		if err != nil {
			t.Fatal(err)
		}
		var output Output
		if err := json.Unmarshal(bytes, &output); err != nil {
			t.Fatal(err)
		}
		first := output.Hours[0]
		if len(output.Hours) != 2 || first.Hour != "2026-11-26T02:00Z" || first.Requests != 2 || first.Clients != 1 ||
			first.Statuses["4xx"] != 1 || first.Bytes != 5120 || first.Top[0] != (Path{"/a", 2}) {
			t.Errorf("%s", bytes)
		}
		if output.Lines != 4 || output.Wrong != 1 || output.First != "what is this" {
			t.Errorf("%s", bytes)
		}
	}
}

func TestWhatIsNoLogIsDiscarded(t *testing.T) {
	world := runner.Test{Stored: map[string]map[string][]byte{"logs": {}}}
	for args, says := range map[Args]string{
		{Text: "hello"}:              "no line of an access log",
		{}:                           "one of the two",
		{From: "nowhere"}:            "CONTAINER/NAME",
		{From: "logs/gone"}:          "there is no blob",
		{From: "secret/of-somebody"}: "denied",
	} {
		_, err := world.Run("log.stats", args)
		if err == nil || runner.End(err) != "discard" || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v", args, err)
		}
	}
}
