package playbook

// TextWidth is how wide a text is at most, in pixels.
func TextWidth(text string, size int) int { return textWidth(text, size, false) }

// CodeWidth is TextWidth of text in a fixed width, at the size it is set in.
func CodeWidth(text string, size int) int { return textWidth(text, size+1, true) }
