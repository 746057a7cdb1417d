"""A space of two branches, for tests of proposals and of the ledger."""

from __future__ import annotations

from metatune.space import parse_tree

TREE = parse_tree(
    {
        "inner": {"lr": {"float": [1e-4, 1.0], "log": True, "limits": [1e-5, 10.0]}},
        "choose": {
            "gradient": {
                "head": {"kind": "linear", "start": {"choice": ["zero", "learned"]}},
                "inner": {"steps": {"int": [1, 20], "log": True}},
            },
            "ridge": {"head": {"kind": "ridge", "penalty": {"float": [0.1, 10.0]}}},
        },
    }
)
LABEL, PENALTY = "choose", "choose.ridge.head.penalty"
