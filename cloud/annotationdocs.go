package cloud

import "strings"

// AnnotationDoc says of one annotation what people have to know. A provider keeps these where it reads the annotations, and
// test/docs makes the table of its page from them.
type AnnotationDoc struct {
	// Key is the whole annotation.
	Key string
	// Values that it can have, and Default, what counts without it; both in Markdown, empty: none.
	Values, Default string
	// Meaning in a sentence or two, in Markdown.
	Meaning string
}

// AnnotationTable is the Markdown table of a page, in the order given.
func AnnotationTable(docs []AnnotationDoc) string {
	var b strings.Builder
	b.WriteString("| annotation | values | default | meaning |\n| --- | --- | --- | --- |\n")
	for _, d := range docs {
		row := []string{"`" + d.Key + "`", d.Values, d.Default, d.Meaning}
		for i := range row {
			row[i] = strings.ReplaceAll(row[i], "|", `\|`)
		}
		b.WriteString("| " + strings.Join(row, " | ") + " |\n")
	}
	return b.String()
}
