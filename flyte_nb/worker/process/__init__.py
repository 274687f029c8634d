"""A worker's process as its tasks find it: their code and its globals, its children, its file descriptors, what runs everywhere."""
