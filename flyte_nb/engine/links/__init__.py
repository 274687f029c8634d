"""Comms beside the scheduler: messages, links between peers, questions over them, large buffers."""
