"""The artifact: a strategy to take away, which learns tasks that nobody has seen.

``export.py`` makes one of a run, ``files.py`` is what lies in its folder, ``loading.py`` reads it
and trusts none of it, ``learner.py`` is what a user holds. Using one takes torch, numpy,
safetensors and pydantic, neither Ray nor Optuna nor pandas.
"""
