"""Tracked clips in the layouts of other projects: a module for each, which writes and reads it.

What all of them share is :class:`pipelines.formats.clip.TrackedClip`.
"""
