// log.stats: reads an access log in the combined format, from its args or from a blob, and answers with statistics by hour.
//
//	{"from": "logs/access.log"}   or   {"text": "…"}
//
// Lines that are no line of such a log are counted and their first shown; a log without a single right one is discarded.
package main

import (
	"bufio"
	"io"
	"sort"
	"strconv"
	"strings"
	"time"

	"runner"
)

// A line is cut there: no server writes longer ones.
const lineBytesMax = 64 << 10

// Args name the log: one of the two.
type Args struct {
	From string `json:"from,omitempty"`
	Text string `json:"text,omitempty"`
}

// Hour is what happened in one hour, in UTC.
type Hour struct {
	Hour     string         `json:"hour"`
	Requests int            `json:"requests"`
	Bytes    int64          `json:"bytes"`
	Statuses map[string]int `json:"statuses"` // "2xx": 17
	Clients  int            `json:"clients"`
	Top      []Path         `json:"top"` // the most asked paths, at most five
}

// Path is how often a path was asked for.
type Path struct {
	Path     string `json:"path"`
	Requests int    `json:"requests"`
}

// Output is the statistics.
type Output struct {
	Lines int    `json:"lines"`
	Wrong int    `json:"wrong"`
	First string `json:"first_wrong,omitempty"`
	Hours []Hour `json:"hours"`
}

type counting struct {
	Hour
	clients map[string]bool
	paths   map[string]int
}

func stats(cx *runner.Context, args Args) (Output, error) {
	var reader io.Reader = strings.NewReader(args.Text)
	if (args.From == "") == (args.Text == "") {
		return Output{}, runner.Discard("args do not fit: give `from` or `text`, one of the two")
	}
	if args.From != "" {
		container, name, found := strings.Cut(args.From, "/")
		if !found {
			return Output{}, runner.Discard("args do not fit: `from` is CONTAINER/NAME")
		}
		reader = cx.Blobs(container).Open(name)
	}
	output, err := count(reader)
	if refused, is := err.(*runner.CallError); is {
		return output, refused.Failure()
	}
	if err != nil {
		return output, err
	}
	if len(output.Hours) == 0 {
		return output, runner.Discard("there is no line of an access log in it, of %d; the first is %q", output.Lines, output.First)
	}
	cx.Info("%d lines, %d wrong", output.Lines, output.Wrong)
	return output, nil
}

func count(reader io.Reader) (Output, error) {
	var output Output
	hours := map[string]*counting{}
	lines := bufio.NewScanner(reader)
	lines.Buffer(make([]byte, 0, 4<<10), lineBytesMax)
	for lines.Scan() {
		line := lines.Text()
		if strings.TrimSpace(line) == "" {
			continue
		}
		output.Lines++
		request, ok := parse(line)
		if !ok {
			if output.Wrong == 0 {
				output.First = line[:min(len(line), 120)]
			}
			output.Wrong++
			continue
		}
		hour := request.at.UTC().Format("2006-01-02T15:00Z")
		if hours[hour] == nil {
			hours[hour] = &counting{Hour{Hour: hour, Statuses: map[string]int{}}, map[string]bool{}, map[string]int{}}
		}
		hours[hour].add(request)
	}
	for _, hour := range hours {
		output.Hours = append(output.Hours, hour.finished())
	}
	sort.Slice(output.Hours, func(a, b int) bool { return output.Hours[a].Hour < output.Hours[b].Hour })
	return output, lines.Err()
}

type request struct {
	client, path, status string
	at                   time.Time
	bytes                int64
}

// 203.0.113.9 - - [26/Nov/2026:03:20:56 +0100] "GET /a?b HTTP/1.1" 200 5120 "…" "…"
func parse(line string) (request, bool) {
	client, rest, ok := strings.Cut(line, " ")
	if !ok {
		return request{}, false
	}
	_, rest, ok = strings.Cut(rest, "[")
	if !ok {
		return request{}, false
	}
	stamp, rest, ok := strings.Cut(rest, "] \"")
	if !ok {
		return request{}, false
	}
	at, err := time.Parse("02/Jan/2006:15:04:05 -0700", stamp)
	if err != nil {
		return request{}, false
	}
	asked, rest, ok := strings.Cut(rest, "\" ")
	fields, words := strings.Fields(rest), strings.Fields(asked)
	if !ok || len(fields) < 2 || len(words) < 2 || len(fields[0]) != 3 {
		return request{}, false
	}
	if _, err := strconv.Atoi(fields[0]); err != nil {
		return request{}, false
	}
	path, _, _ := strings.Cut(words[1], "?")
	// A dash is no bytes.
	bytes, _ := strconv.ParseInt(fields[1], 10, 64)
	return request{client: client, path: path, status: fields[0][:1] + "xx", at: at, bytes: bytes}, true
}

func (c *counting) add(request request) {
	c.Requests++
	c.Bytes += request.bytes
	c.Statuses[request.status]++
	c.clients[request.client] = true
	c.paths[request.path]++
}

func (c *counting) finished() Hour {
	const topMax = 5
	for path, requests := range c.paths {
		c.Top = append(c.Top, Path{path, requests})
	}
	sort.Slice(c.Top, func(a, b int) bool {
		if c.Top[a].Requests != c.Top[b].Requests {
			return c.Top[a].Requests > c.Top[b].Requests
		}
		return c.Top[a].Path < c.Top[b].Path
	})
	c.Top = c.Top[:min(len(c.Top), topMax)]
	c.Clients = len(c.clients)
	return c.Hour
}

func init() { runner.Handle("log.stats", stats) }

func main() { runner.Main() }
