"""The stages of dvc.yaml; each is run as `python -m stages.NAME`."""
