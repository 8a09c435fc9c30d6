"""Sweeps: an Optuna study over the parameters of stages, its trials spread over Ray actors.

- config: the YAML file of a sweep, checked against params.yaml's types before anything runs
- study: where it is kept, what a driver that was killed has left in it, the next trial's values
- protocol: what the driver and trials say to each other
- trial, judging, tracks: a trial trains with its values, is judged on the same frames as all, and fits tracks anew if it must
- slots: the actors that trials run in
- run: the driver's loop
- record: the study in MLflow
- results: best trials, importance, and the files that `dvc repro` and the report read
- sweep: all of it, from the file to the results
"""
