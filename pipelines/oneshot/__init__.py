"""Training the one-shot model on pairs of frames of many people: one run over all of them (:mod:`pipelines.fleet`).

people      who is trained on, and who judges
pairs       which frames there are, and a batch of pairs of them as the model sees it
stream      which pairs a step trains on, whoever works on it
training    one step, and all that it changes
setup       a run before its first step
trainer     the stage's item
evaluation  judging on people that were never seen
items       what the two stages do, and under which keys
photo       a photo to an avatar
"""
