"""Training one model in one process, or in several that share each batch: the same loop, whatever is trained.

run         what is trained: a recipe that any process can prepare, and what it prepares
loop        the loop over steps, and which samples of a step a process takes
loader      reads batches ahead
checkpoints a state as bytes
watch       tells the curve and pictures while it goes on
trainer     trains to the end, in this process, or
ray_train   in several
profiling   some steps in torch's profiler
outs        what the stage leaves
"""
