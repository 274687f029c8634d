"""Arguments, results, code and large buffers, on their way between processes and between threads.

Read `payload` first: what becomes of a value that is sent. Its large buffers are `blobs`; `mailbox` crosses threads.
"""
