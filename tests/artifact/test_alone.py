"""An artifact is used without the run, and without the packages that a search takes."""

from __future__ import annotations

import subprocess
import sys

ALLOWED = {"torch", "numpy", "safetensors", "metatune"}
"""What torch brings itself is torch's affair."""

USE = """
import sys
from importlib.metadata import packages_distributions
ALLOWED = {allowed!r}
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in BLOCKED:
            raise ImportError("blocked: " + name)
import torch, torch.testing
BLOCKED = set(packages_distributions()) - ALLOWED - {{n.split(".")[0] for n in sys.modules}}
sys.meta_path.insert(0, Blocked())
import numpy as np
import metatune
artifact = metatune.load({path!r})
rng = np.random.default_rng(0)
x, y = rng.normal(size=(16, *artifact.info.input_shape)), rng.normal(size=16)
import warnings
warnings.simplefilter("ignore", UserWarning)
learner = artifact.adapt(x, y)
assert np.isfinite(learner.predict(x)).all()
learner.predict_interval(x, 0.3)
saved = learner.save({path!r} + "-saved")
assert (metatune.load_adapted(saved).predict(x) == learner.predict(x)).all()
FOREIGN = {{"ray", "optuna", "pandas", "sklearn", "scipy", "pydantic", "yaml", "pyarrow"}}
assert not FOREIGN & set(sys.modules)
assert FOREIGN <= BLOCKED, BLOCKED
print("done")
"""


def test_a_pooled_strategy_learns_with_torch_numpy_and_safetensors(table_artifact, tmp_path):
    """Its boosted trees are arrays, and its strategy is read without pydantic."""
    code = USE.format(allowed=ALLOWED, path=str(table_artifact))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr
