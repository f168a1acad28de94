//go:build ignore

// This program writes assigned.gz from the registries of the IEEE, which asserts no
// copyright in them:
//
//	sudo apt install ieee-data && go generate ./rescue/scan/oui
//
// Blocks of 24 bits are those of October 2025, from the module gopacket, which has no
// others; those of 28 and 36 bits are from Debian's package ieee-data 20220827.1.
// Another version has other checksums: change them here, on purpose.
package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const dir = "/usr/share/ieee-data"

var registries = map[string]string{
	"oui.csv":   "6a2a3bb4983b3edcae727ed890406fc678023bd8e5010e4fb89e1312ee3885ae",
	"mam.csv":   "25646cc336a12f267ed6eb0cff210d6b2018f6ee7ffd17a8cfaf6d8867a46d83",
	"oui36.csv": "bbb702a344cd836e528e1627726e3cbb7f94866d9132f56b3638ff09fe63fe06",
	"iab.csv":   "f98a29869bdd9bea88fe6914e200cd1ee064410fe1aa2967087589a6a431a4da",
}

func main() {
	log.SetFlags(0)
	names := map[string]string{}
	for digits, name := range gopacket() {
		names[digits] = name
	}
	for file, sum := range registries {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			log.Fatal(err)
		}
		if got := fmt.Sprintf("%x", sha256.Sum256(text)); got != sum {
			log.Fatalf("%s has SHA-256 %s, want %s", file, got, sum)
		}
		rows, err := csv.NewReader(bytes.NewReader(text)).ReadAll()
		if err != nil {
			log.Fatal(err)
		}
		for _, row := range rows[1:] {
			digits, name := row[1], clean(row[2])
			if name == "IEEE Registration Authority" {
				continue // its parts are assigned one by one
			}
			if names[digits] == "" {
				names[digits] = name
			}
		}
	}
	var lines []string
	for digits, name := range names {
		lines = append(lines, digits+"\t"+name+"\n")
	}
	slices.Sort(lines)
	var out bytes.Buffer
	z, _ := gzip.NewWriterLevel(&out, gzip.BestCompression)
	for _, l := range lines {
		if _, err := z.Write([]byte(l)); err != nil {
			log.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile("assigned.gz", out.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// gopacket returns the table of a module whose checksum go.sum would hold.
func gopacket() map[string]string {
	const module, sum = "github.com/gopacket/gopacket@v1.7.7", "h1:9MaMKsjcFCnUVPI9CHp/ZDhu1SSV+rs0THQ2ztRAqmE="
	out, err := exec.Command("go", "mod", "download", "-json", module).Output()
	if err != nil {
		log.Fatal(err)
	}
	var m struct{ Dir, Sum string }
	if err := json.Unmarshal(out, &m); err != nil {
		log.Fatal(err)
	}
	if m.Sum != sum {
		log.Fatalf("%s has the checksum %s, want %s", module, m.Sum, sum)
	}
	text, err := os.ReadFile(filepath.Join(m.Dir, "macs", "valid_mac_prefixes.go"))
	if err != nil {
		log.Fatal(err)
	}
	names := map[string]string{}
	for _, l := range regexp.MustCompile(`\{(\d+), (\d+), (\d+)\}:\s*"(.*)",`).FindAllStringSubmatch(string(text), -1) {
		name, err := strconv.Unquote(`"` + l[4] + `"`)
		if err != nil {
			log.Fatal(err)
		}
		if name = clean(name); name != "IEEE Registration Authority" {
			names[hex(l[1])+hex(l[2])+hex(l[3])] = name
		}
	}
	return names
}

func hex(decimal string) string {
	n, err := strconv.Atoi(decimal)
	if err != nil {
		log.Fatal(err)
	}
	return fmt.Sprintf("%02X", n)
}

// clean leaves printable ASCII, and single spaces between words.
func clean(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, s)
	return strings.Join(strings.Fields(s), " ")
}
