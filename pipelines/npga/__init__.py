"""The stage `train_npga`: an NPGA avatar for each subject that was tracked with the neural head.

setup        a subject's shots, and the avatar before its first step
training     one step
trainer      the stage's item function, and how well its avatar does
items        the stage's items and their keys
"""
