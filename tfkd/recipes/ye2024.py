"""Ye, Tian, Zheng, Zhou and Chen, "A Unified Asymmetric Knowledge Distillation Framework" (UAKD),
Neural Processing Letters 56(3) (2024), doi 10.1007/s11063-024-11606-z.

From the paper (abstract and introduction): one-stage online distillation without a teacher network;
"multi-stage shallow-wide branch bifurcation" to distil different representations; a "grouping
ensemble strategy" that supervises the network "to teach and learn selectively"; knowledge transfer
differs from learner to learner (asymmetric) where others are symmetric.

Reconstruction, everything else: no formula, grouping rule, width or temperature is public. Branches
fork off at several stages (`tfkd.models.with_branches`). A group is the branches of one fork and
the trunk; its mean logits teach

    its own branches, and those of every shallower fork, never of a deeper one; the trunk is the
    deepest of all, and only the deepest group teaches it;

the ensemble of all teaches all, where there is more than one fork. Symmetric, as an ablation: every
group teaches every member. Selectively: only members that are right teach, and an example is taught
only where the ensemble is right.

    L = CE(y, z_trunk) + branch_weight · sum over branches of CE(y, z_m)
        + ensemble_weight · sum over groups g, their learners m of T² KL(mean of g's logits || z_m)

The branches are stripped at the end: what is deployed costs what the student alone costs.
"""

from typing import Annotated, ClassVar

from cyclopts import Parameter

import tfkd
from tfkd.recipes.base import Recipe, System
from tfkd.settings.base import Above0, AtLeast0, Count, Texts, options
from tfkd.settings.recipe import RecipeSettings

TRUNK = "output"


class Ye2024(RecipeSettings):
    """The paper's numbers are not public; these are ours."""

    recipe: ClassVar = "ye2024"

    student_options: options("--student-option", width=0.25)
    """Of the student's model, such as width=0.5 (repeatable)."""
    forks: Texts = ()
    """Layers to fork at (repeatable); default: the last two stages before the end."""
    branches: Count = 2
    """Branches of each fork."""
    branch_width: Above0 = 1.5
    """A branch's channels, as a multiple of the trunk's."""
    temperature: Above0 = 3.0
    """Softens all logits."""
    branch_weight: AtLeast0 = 0.3
    """Weight of a branch's labels; the trunk's is 1."""
    ensemble_weight: AtLeast0 = 0.3
    """Weight of what ensembles teach."""
    asymmetric: Annotated[bool, Parameter(negative="--symmetric")] = True
    """Whether only deeper groups teach shallower ones."""
    selective: Annotated[bool, Parameter(negative="--unselective")] = True
    """Whether groups teach and learn selectively."""


def build(settings, teacher, student):
    """The student with branches that learn from labels and from ensembles of each other."""
    del teacher
    network = tfkd.models.with_branches(
        student, list(settings.forks) or None, settings.branches, settings.branch_width
    )
    names = tfkd.models.exit_names(network)
    losses = []
    if settings.ensemble_weight:
        losses = [
            tfkd.losses.EnsembleDistillation(
                group,
                learners,
                settings.temperature,
                teach_selectively=settings.selective,
                learn_selectively=settings.selective,
                name=name,
            )
            for name, group, learners in lessons(names, settings.asymmetric)
        ]
    weights = [settings.ensemble_weight] * len(losses)
    labels = dict.fromkeys(names, settings.branch_weight) | {TRUNK: 1.0}
    return System(network, losses, weights, labels)


def lessons(names, asymmetric):
    """Who teaches whom.

    Args:
        names: outputs of the network, "branch_<fork>_<number>" and the trunk's last.
        asymmetric: whether a group teaches no branch of a deeper fork, and the trunk only if it is
            the deepest group.

    Returns:
        List of (name, group, learners): the outputs whose mean teaches, and those that learn.
    """
    forks = {}
    for name in names[:-1]:
        forks.setdefault(int(name.split("_")[1]), []).append(name)
    result = []
    for fork, branches in forks.items():
        learners = [
            name for other in forks if other <= fork or not asymmetric for name in forks[other]
        ]
        if fork == max(forks) or not asymmetric:
            learners.append(TRUNK)
        result.append((f"group_{fork}", [*branches, TRUNK], learners))
    if len(forks) > 1:
        result.append(("everyone", list(names), list(names)))
    return result


def ablations(settings):
    return {
        "symmetric": settings.replace(asymmetric=False),
        "asymmetric, unselective": settings.replace(selective=False),
        "symmetric, unselective": settings.replace(asymmetric=False, selective=False),
        "branches, labels only": settings.replace(ensemble_weight=0.0),
    }


def deployed(student):
    """The trunk alone."""
    return {"": tfkd.models.trunk(student)}


RECIPE = Recipe(
    name="ye2024",
    paper="Ye et al. (UAKD), Neural Processing Letters 56(3) (2024)",
    task="image classification without a teacher network",
    reconstruction="Branches, groups, selection rule, temperature and weight; from the "
    "introduction: branches at several stages, group ensembles, asymmetric and selective.",
    settings=Ye2024,
    build=build,
    ablations=ablations,
    deployed=deployed,
)
