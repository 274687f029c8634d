"""A worker's process as its tasks find it: their code, its children, its file descriptors, what runs everywhere."""
