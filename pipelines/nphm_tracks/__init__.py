"""The stage `track_nphm`: neural heads of all tracked clips, as tables like those of `preprocess`.

performances what a subject does, and which clips saw it
surfaces     clouds of points that the neural head is fitted to: what a clip's linear head looked like
views        the same of what several cameras saw, by a plane sweep
files        the same from the user's PLY files
tracker      the stage's item function: a subject
items        the stage's items and their keys
assemble     the tables
"""
