"""The stage `track_nphm`: neural heads of all tracked clips, as tables like those of `preprocess`.

surfaces     what a clip's linear head looked like: the clouds of points that the neural head is fitted to
tracker      the stage's item function: a subject
items        the stage's items and their keys
assemble     the tables
"""
