"""The stage `distill_forward`: a field that takes heads at rest to posed ones, learned from the prior's that goes back.

people       whose heads are posed, and how
setup        a run before its first step
training     one step
trainer      the stage's item function, and how well its field does
items        the stage's item and its key
"""
