"""The simplest meta-learner: a linear model that learns how to learn from related tasks.

Where its gradient steps start is meta-learned on a handful of tasks, through the steps (MAML);
then it learns a new task from ten points.
"""

from torch import Tensor

from metatune.learners.interface import to_tensors
from metatune.learners.learner import build_learner
from metatune.learners.meta_optimiser import update
from metatune.learners.training import loss_and_gradients
from metatune.strategy import Linear, Meta, Outer, Steps, Strategy
from metatune.tasks.base import Episode
from metatune.tasks.registry import open_family

family = open_family("linear")  # y = x . w + b, every task with w and b of its own
strategy = Strategy(
    head=Linear(start="learned"),
    inner=Steps(steps=5, lr=0.1),
    meta=Meta(rule="second_order"),
    outer=Outer(lr=0.05),
)
learner = build_learner(strategy, family.info, way=1)
handful = to_tensors(family.sample("train", Episode(way=1, shot=10, query=50), seeds=range(8)))
new_task = to_tensors(family.sample("test", Episode(way=1, shot=10, query=200), seeds=[0]))

params, moments = learner.init(seed=0), dict[str, Tensor]()
before = (learner.predict(params, new_task) - new_task.query_y).square().mean()
for step in range(300):
    loss, grads = loss_and_gradients(learner, params, handful, progress=step / 300)
    params, moments = update(strategy.outer, params, grads, moments, step, strategy.outer.lr)
after = (learner.predict(params, new_task) - new_task.query_y).square().mean()

print("A new task, learned from 10 points by 5 gradient steps; squared error on 200 others:")
print(f"from a random start            {before.item():.3f}")
print(f"from the start that was learned {after.item():.3f}")
