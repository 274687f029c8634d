"""Views that need no browser code: static HTML, a screen of text, lines, a terminal's tree. Runs in: engine thread."""
