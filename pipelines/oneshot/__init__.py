"""Training the one-shot model on pairs of frames of many people: one run over all of them, on Ray Train or in process.

people      who is trained on, and who judges
pairs       which frames there are, and a batch of pairs of them as the model sees it
stream      which pairs a step trains on, whoever works on it
loader      reads ahead
training    one step, and all that it changes
loop        the loop over steps
setup       a run before its first step
trainer     the stage's item: the loop in this process, or
ray_train   in several
evaluation  judging on people that were never seen
items       what the two stages do, and under which keys
photo       a photo to an avatar
"""
