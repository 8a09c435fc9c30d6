"""Sweeps: an Optuna study over the parameters of stages, its trials spread over Ray actors.

config.py   the YAML file of a sweep, checked against params.yaml's types before anything runs
study.py    the study: where it is kept, what a driver that was killed has left, the next trial's values
trial.py    one trial: train with its values, judge on held-out frames, report on the way
slots.py    the actors that trials run in
run.py      the driver's loop
record.py   the study in MLflow
results.py  best trials, importance, and the files that `dvc repro` and the report read
"""
