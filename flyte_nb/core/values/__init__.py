"""Values and functions of any kind, without Flyte: pickle, hash, describe, mask.

Read `describe` (texts about a value) and `code_hash` (when two functions are the same) first. Nothing here knows tasks or runs.
"""
