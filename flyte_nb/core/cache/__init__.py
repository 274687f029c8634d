"""Result cache: results of earlier calls, found again on disk.

Read `service` first: who asks whom. `key` identifies a call, `store` keeps results and evicts them, `location` says where.
"""
