"""What can be done with any Python value or function, without Flyte: pickle, hash, describe, mask."""
