"""A strategy: a complete way of learning, as plain data.

A strategy is a composition of parts, and the methods of the literature are points in it:

========================  ==========  ==================  ============
method                    head        inner               meta.rule
========================  ==========  ==================  ============
fine-tuning (Baseline)    linear      sgd on head         joint
first-order MAML          linear      sgd on all          first_order
MAML                      linear      sgd on all          second_order
ANIL                      linear      sgd on head         second_order
iMAML                     linear      sgd, proximal       implicit
Reptile                   linear      sgd on all          reptile
CAVIA                     linear      sgd on context      second_order
prototypical networks     prototypes  none                first_order
R2-D2                     ridge       none                first_order
deep kernel               gp          none                first_order
neural process            amortised   none                first_order
========================  ==========  ==================  ============

A strategy says nothing of data, resource or seed: those are the run's. It is hashed, written
down, read back and run again; ``sense.problems`` refuses compositions that make none.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from metatune.strategy.backbones import Backbone, NoBackbone, OwnBackbone
from metatune.strategy.diet import Diet
from metatune.strategy.heads import GP, Head, Linear, Logistic, OwnHead, Prototypes, Ridge
from metatune.strategy.inner import Inner, NoInner, Steps
from metatune.strategy.meta import Meta, Outer
from metatune.strategy.parts import Field, OwnPart, Part
from metatune.strategy.prior import Forecast, Pooled, PriorMean, SupportMean, ZeroMean
from metatune.tasks.base import FamilyInfo


class Single(Part):
    """One learner."""

    kind: Literal["single"] = "single"


class Seeds(Part):
    """Several learners with different starts; predictions are averaged.

    Probabilities are averaged for classes. The members share the trial's resource.
    """

    kind: Literal["seeds"] = "seeds"
    members: int = Field(3, ge=2, le=32, description="how many learners")


Combination = Annotated[Single | Seeds, Field(discriminator="kind")]


class Strategy(Part):
    """A complete way of learning."""

    prior: PriorMean = Field(
        ZeroMean(), description="what is predicted before the learner on top fits what is left"
    )
    backbone: Backbone = Field(NoBackbone(), description="inputs to features")
    head: Head = Field(Linear(), description="features to predictions")
    inner: Inner = Field(NoInner(), description="how a task is learned by gradient steps")
    meta: Meta = Field(Meta(), description="what the meta-parameters follow")
    outer: Outer = Field(Outer(), description="the meta-optimiser")
    diet: Diet = Field(Diet(), description="which tasks a learner is trained on")
    combination: Combination = Field(
        Single(), description="one learner, or several whose predictions are averaged"
    )
    learner: OwnPart | None = Field(
        None,
        description="a whole learner of your own in place of all parts but `outer` and `diet`: a "
        "`metatune.learners.interface.Learner`",
    )
    start: Literal["none"] = Field(
        "none", description="the weights that training starts from: `none`, random ones"
    )

    def digest(self) -> str:
        """12 hexadecimal digits that name the strategy's content."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def structure(self) -> str:
        """The structural family: the choices that change the program, not its numbers."""
        if self.learner is not None:
            return f"own/{self.learner.use}/none/{self.meta.rule}"
        inner: str = self.inner.kind
        if isinstance(self.inner, Steps):
            inner = f"{inner}-{self.inner.scope}"
            if self.inner.rate != "fixed":
                inner += f"-{self.inner.rate}"
        parts: list[str] = [self.backbone.kind, self.head.kind, inner, self.meta.rule]
        if isinstance(self.prior, Pooled):
            parts.append(f"pooled-{self.prior.model}")
        elif isinstance(self.prior, SupportMean):
            parts.append("support-mean")
        elif isinstance(self.prior, Forecast):
            parts.append(f"forecast-{self.prior.name}")
        if isinstance(self.combination, Seeds):
            parts.append("seeds")
        return "/".join(parts)

    @property
    def trains(self) -> bool:
        """False where nothing is learned from other tasks."""
        return self.meta.rule != "none" or isinstance(self.prior, Pooled)

    def last_rung(self, rungs: int) -> int:
        """The rung of a trial's end: what needs no training is done at the first."""
        return rungs if self.trains else 1

    @property
    def transductive(self) -> bool:
        """True where query points are scored jointly, as far as metatune's own parts do."""
        return getattr(self.backbone, "norm", "none") == "transductive"

    @property
    def has_own_part(self) -> bool:
        """True where a network, a rule or a learner of the user's own takes part."""
        own = isinstance(self.backbone, OwnBackbone) or isinstance(self.head, OwnHead)
        return own or self.learner is not None

    @property
    def learned_numbers(self) -> bool:
        """True where head or prior have numbers of their own that episodes teach."""
        return (
            isinstance(self.head, Ridge | GP | Prototypes | Logistic) and self.head.learn
        ) or self.learned_blend

    @property
    def learned_blend(self) -> bool:
        """True where the prior mean has numbers that episodes teach."""
        return isinstance(self.prior, SupportMean | Pooled) and self.prior.learn

    def folds(self, info: FamilyInfo) -> int:
        """Folds of groups for cross-fitting; 0 without."""
        if self.meta.cross_fit == "none" or self.learner is not None or not info.grouped:
            return 0
        embeds = isinstance(self.head, GP) and not isinstance(self.backbone, NoBackbone)
        wanted = self.meta.cross_fit == "group" or isinstance(self.prior, Pooled) or embeds
        return min(self.meta.folds, len(info.groups["train"])) if wanted else 0

    def cross_fits_backbone(self, info: FamilyInfo) -> bool:
        """True where copies of the backbone are trained beside the one that is used."""
        learns = not isinstance(self.backbone, NoBackbone) and not self.backbone.frozen
        episodic = self.meta.rule in ("first_order", "second_order")
        return (
            self.folds(info) > 1
            and learns
            and episodic
            and self.learned_numbers
            and isinstance(self.inner, NoInner)
        )
