"""The live view in a browser: a widget, the patches sent to it, and the answers to its requests. Runs in: engine thread."""
