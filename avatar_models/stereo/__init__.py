"""Points of a surface that several calibrated cameras see at the same time.

sweep       depths of one view, by comparing it with its neighbours
fusion      depths of all views that agree, as one cloud of points
"""
