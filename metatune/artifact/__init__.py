"""The artifact: a strategy to take away, which learns tasks that nobody has seen.

``export.py`` makes one of a run (``origin.py`` its plain data, ``measures.py`` what is measured for
it, ``card.py`` what people read), ``files.py`` is what lies in its folder, ``loading.py`` and
``plain.py`` read it and trust none of it, ``learner.py`` is what a user holds, with ``fallback.py``
and ``series.py``. Using one takes torch, numpy and safetensors alone.
"""
