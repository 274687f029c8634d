"""Arguments, results, code and large blobs, between processes and between threads."""
