"""Parametric heads: one class (:mod:`avatar_models.heads.interface`), a module for each model that makes one."""
