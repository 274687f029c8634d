"""By value: what a pickle keeps of classes, lone objects, exceptions and arrays that cloudpickle alone would lose.

Read `flyte_nb.core.values.pickler` first, which asks these files. `classes` has the reason why a class is one class everywhere.
"""
