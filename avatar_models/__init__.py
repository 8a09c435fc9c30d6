"""The science: heads, cameras, Gaussians, avatars. Knows no Ray, DVC, MLflow, and no file layout."""
