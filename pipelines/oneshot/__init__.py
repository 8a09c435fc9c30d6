"""Training the one-shot model on pairs of frames of many people: one run over all of them, on Ray Train or in process.

pairs       which frames there are, and one of them as the model sees it
stream      which pairs a step trains on, whoever works on it
loader      reads ahead
training    a step, a checkpoint, a picture now and then
workers     the same loop in several processes
"""
