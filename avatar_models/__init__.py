"""The science: heads, cameras, Gaussians, avatars. Knows no Ray, DVC, MLflow, and no file layout."""

import os

# After each of its parallel loops, torch's OpenMP lets its threads spin for milliseconds, on the cores that the kernels of
# this package want next. Read when torch is imported: import this package first, or set it outside.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
