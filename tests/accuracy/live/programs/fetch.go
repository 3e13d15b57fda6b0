// Fetch URLs by net/http: fetch in-turn|at-once URL...
package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"
)

func fetch(client *http.Client, url string) {
	response, err := client.Get(url)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
}

func main() {
	client := &http.Client{Timeout: 10 * time.Second}
	var all sync.WaitGroup
	for _, url := range os.Args[2:] {
		if os.Args[1] == "in-turn" {
			fetch(client, url)
			continue
		}
		all.Add(1)
		go func() {
			defer all.Done()
			fetch(client, url)
		}()
	}
	all.Wait()
}
