package link

import "testing"

func TestParseTableFulls(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       uint64
		ok         bool
	}{
		{"two CPUs", "entries  lookups table_fulls\n0000000f 00000001 0000000a\n0000000f 00000002 00000010\n", 26, true},
		{"not counted", "entries  lookups\n0000000f 00000001\n", 0, true},
		{"nothing", "", 0, true},
		{"a line cut off", "entries table_fulls\n0000000f\n", 0, false},
		{"not hexadecimal", "entries table_fulls\n0000000f zz\n", 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseTableFulls(tt.text)
			if got != tt.want || (err == nil) != tt.ok {
				t.Errorf("parseTableFulls = %d, %v, want %d", got, err, tt.want)
			}
		})
	}
}
