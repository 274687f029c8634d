"""Interface of a task: its inputs and outputs, by its annotations.

Read `interface` first: how arguments are bound and checked. `type_check` compiles an annotation, `coerce` builds what it names.
"""
