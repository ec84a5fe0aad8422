"""One training step of every published recipe, against the authors' own code with the same random draws, in float64.

Every loss by name, every gradient, the parameters and the averages of batch norms after the step, and the optimizer.
They take minutes: `make soak` runs them, and so does whoever sets `ADAFOCUS_ORACLE`. Otherwise one step stands for all
of them, for test_losses.py has the formulas of the recipes.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from math import isqrt

import numpy as np
import pytest
import torch
from torch import nn

from adafocus_cli.models import FAMILIES, build
from adafocus_cli.spec import Network
from adafocus_cli.training import uni
from adafocus_cli.training.fit import RunningStage, optimizer_of
from adafocus_cli.training.forward_pass import Draws
from adafocus_cli.training.recipes import RECIPES
from tests import oracle
from tests.oracle import synth

SAME_LOSS, SAME = 1e-9, 1e-6
NOISE = 1e-9
"""Of the largest gradient: smaller ones are zero but for rounding, as of a bias before a batch norm."""

STEPS = [path for path in oracle.training_steps() if os.environ.get("ADAFOCUS_ORACLE") or path.stem == "v1-stage2"]

OF_FAMILY = {recipe.family: name for name, recipe in RECIPES.items() if name in ("v1", "v1-tsm", "v2", "v2-tsm")}
OF_FAMILY |= {"uni-adafocus": "uni", "uni-adafocus-tsm": "uni-tsm"}
LIKE = {"actnet": "activitynet", "fcvid": "fcvid", "minik": "mini-kinetics", "jester": "jester"}

# What only training has, by the names of the authors.
EXTRA = {
    "adafocus-v1": {"critic": "focuser.policy.policy.critic.0"},
    "adafocus-v1-tsm": {"critic": "focuser.policy.policy.critic.0"},
    "adafocus-v2": {"glance_head": "global_CNN_fc.1", "focus_head": "local_CNN_fc.1"},
    "adafocus-v2-tsm": {"glance_head": "global_CNN.new_new_fc", "focus_head": "local_CNN.new_new_fc"},
    "uni-adafocus": {"glance_head": "global_CNN_fc.1", "focus_head": "local_CNN_fc.1", "box_head": "aux_fc"},
    "uni-adafocus-tsm": {"focus_head": "local_CNN.new_new_fc", "box_head": "aux_fc"},
}
# Their names of our terms. They report the cross-entropy in the policy's stage, too, and a divergence of weight 0.
TERMS = {
    "v1": {"all_steps": "answers"},
    "v1-tsm": {"sum": "answers"},
    "v2": {
        f"{look}_{theirs}": f"{look}_{ours}"
        for look in ("policy", "random")
        for theirs, ours in {"all_steps": "answer", "glance": "glance", "focus": "focus"}.items()
    },
    "v2-tsm": {
        f"{look}_{theirs}": f"{look}_{ours}"
        for look in ("policy", "random")
        for theirs, ours in {"sum": "answer", "glance_extra": "glance", "focus_extra": "focus"}.items()
    },
}
TERMS_OF_POLICIES = {
    "temporal_1": "temporal",
    "temporal_2": "temporal",
    "spatial_1": "spatial",
    "spatial_2": "spatial",
    "norm": "sizes",
}
TERMS |= {"uni": TERMS["v2"] | TERMS_OF_POLICIES, "uni-tsm": TERMS["v2-tsm"] | TERMS_OF_POLICIES}
BY_REWARD = {"surrogate": "surrogate", "value_mse": "value_error", "entropy": "entropy"}


class RecordedDraws(Draws):
    """Gives out what was drawn; the learners may ask in another order, but for the same numbers."""

    def __init__(self, names, values):
        super().__init__()
        self.left = [(str(name), torch.as_tensor(value)) for name, value in zip(names, values, strict=True)]

    def taken(self, names, fits=lambda value: True):
        return [value for name, value in self._take([one for one in self.left if one[0] in names and fits(one[1])])]

    def _take(self, found):
        self.left[:] = [one for one in self.left if not any(one is other for other in found)]
        return found

    def uniform(self, *shape):
        fitting = [one for one in self.left if one[0] in ("rand", "rand_like") and one[1].numel() == np.prod(shape)]
        ((_, value),) = self._take(fitting[:1])
        return value.double().view(shape)

    def below(self, end, *shape):
        drawn = torch.cat([value.flatten() for value in self.taken({"np_randint", "randint"})]).long()
        assert drawn.max() < end
        return drawn.view(shape)

    def sample(self, chances):
        (name,) = {name for name, _ in self.left} & {"categorical", "normal"}
        drawn = torch.stack(self.taken({name}), dim=1)
        return drawn.long() if name == "categorical" else drawn.double()

    def without_replacement(self, shares, count):
        (value,) = self.taken({"multinomial"}, lambda value: value.shape == (len(shares), count))
        return value.long()


class DrawsStepByStep(RecordedDraws):
    """The corners of all clips after each frame's actions."""

    def below(self, end, clips, frames, *shape):
        return super().below(end, frames, clips, *shape).transpose(0, 1)


class Step:
    """The recorded step, and ours with its draws."""

    def __init__(self, path):
        self.file = dict(np.load(path))
        self.inputs = json.loads(str(self.file["inputs"]))
        self.layout = json.loads(oracle.file_of(f"layouts/{self.inputs['layout']}.json").read_text())
        self.family = self.layout["family"]
        self.recipe = OF_FAMILY[self.family]
        self.stage_number = self.inputs.get("stage", 0)
        self.learner = self.learner_of(self.stage())
        self.names = {self.name_of(name): name for name, _ in self.learner.named_parameters()}
        self.theirs = [str(name).removeprefix("module.") for name in self.file["param_names"]]
        self.run()
        self.draws_left = [name for name, _ in self.learner.draws.left]
        del self.learner, self.optimizer

    def stage(self):
        like = LIKE.get(self.layout["dataset"])
        stage = RECIPES[self.recipe].stages(like=like)[self.stage_number]
        if "norm_ratio" in self.inputs:
            stage = replace(stage, own={**stage.own, "size_penalty": self.inputs["norm_ratio"]})
        return stage

    def learner_of(self, stage):
        layout = self.layout
        published = {
            name.removeprefix("module."): torch.from_numpy(
                synth.tensor(layout["seed"], layout["prefix"].get(section, "") + name, shape, dtype)
            )
            for section, entries in layout["sections"].items()
            for name, shape, dtype in entries
            if "policy_old" not in name
        }
        family = FAMILIES[self.family]
        glances = layout.get("num_glance_segments", layout.get("num_segments"))
        spec = replace(
            family.published,
            classes=layout["num_classes"],
            grid=isqrt(layout.get("action_dim", 49)),
            glance_frames=glances,
            focus_frames=layout.get("num_focus_segments", glances),
            candidate_frames=layout.get("num_input_focus_segments", 3 * glances if "uni" in self.family else 0),
        ).with_patch_size(layout["patch_size"])
        if layout.get("glance_arch") == "res50":
            spec = replace(spec, glance=Network("resnet50", 96))
        with torch.device("meta"):
            model = build(spec)
        model.load_state_dict(
            {name: as_double(published[family.published_name(name)]) for name in model.state_dict()}, assign=True
        )
        learner = stage.learner_of(model).double()
        for ours, theirs in EXTRA[self.family].items():
            if hasattr(learner, ours):
                leaves = {leaf: published[f"{theirs}.{leaf}"] for leaf in ("weight", "bias")}
                getattr(learner, ours).load_state_dict(leaves)
        for part in learner.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
        mean, std = (torch.tensor(values, dtype=torch.float64) for values in (spec.mean, spec.std))
        model.normalised = lambda pixels: ((pixels.double() / 255 - mean) / std).movedim(-1, -3)
        return learner

    def name_of(self, name):
        part, _, rest = name.partition(".")
        if part == "model":
            return FAMILIES[self.family].published_name(rest)
        return f"{EXTRA[self.family][part]}.{rest}"

    def run(self):
        learner, stage, inputs = self.learner.train(), self.stage(), self.inputs
        if self.recipe == "v1-tsm" and self.stage_number == 3:
            # They calculate what the focus network would learn at a rate of zero; our recipe freezes it.
            learner.model.focus_net.requires_grad_(True)
        frames = torch.from_numpy(np.stack([synth.frames(seed, inputs["frames"]) for seed in inputs["clip_seeds"]]))
        draws = DrawsStepByStep if self.stage_number == 2 else RecordedDraws
        values = [self.file[f"draw_{i:03d}"] for i in range(len(self.file["draw_names"]))]
        learner.draws = draws(self.file["draw_names"], values)
        self.result = learner(frames, torch.tensor(inputs["labels"]))
        self.result.loss.backward()
        self.gradients = {name: parameter.grad for name, parameter in self.ours()}
        self.gradients = {
            name: None if gradient is None else (gradient.norm().item(), gradient.numel(), sampled(gradient))
            for name, gradient in self.gradients.items()
        }
        self.optimizer = optimizer_of(stage, learner)
        self.rates = {
            self.name_of(name): (group["lr"], group["weight_decay"], group.get("momentum"), group.get("betas"))
            for group in self.optimizer.param_groups
            for name, parameter in learner.named_parameters()
            if any(parameter is one for one in group["params"])
        }
        if self.as_released:
            self.optimizer = torch.optim.SGD(self.released_groups(), momentum=0.9)
        scaler = torch.amp.GradScaler("cpu", enabled=False)
        self.norm = float(RunningStage(0, stage, learner, learner, self.optimizer, scaler).step())
        self.after = {name: sampled(parameter) for name, parameter in self.ours()}
        self.averages = {self.name_of(name): sampled(buffer) for name, buffer in learner.named_buffers()}

    @property
    def as_released(self):
        """Whether the released code gives its rates to other parts than was meant, which our recipe does not follow."""
        return self.recipe == "v1-tsm" and self.stage_number in (1, 3)

    def released_groups(self):
        parameters = dict(self.ours())
        return [
            {
                "params": [parameters[name] for name in group.get("params", []) if name in parameters],
                "lr": group["lr"],
                "weight_decay": group["weight_decay"],
            }
            for group in self.groups()
        ]

    def groups(self):
        """Theirs, with the names of the parameters under `params`."""
        found = []
        for group in json.loads(str(self.file["groups"])):
            lists = [value for value in group.values() if isinstance(value, list) and set(map(type, value)) == {str}]
            names = [name.removeprefix("module.") for name in lists[0]] if lists else []
            found.append({**group, "params": names})
        return found

    def ours(self):
        parameters = dict(self.learner.named_parameters())
        return [(theirs, parameters[name]) for theirs, name in self.names.items()]

    def rows(self, kind):
        """Their arrays of numbers by parameter, of those that we have."""
        return {name: row for name, row in zip(self.theirs, self.file[kind], strict=True) if name in self.names}


def as_double(tensor):
    return tensor.double() if tensor.is_floating_point() else tensor


def sampled(tensor):
    flat = tensor.detach().flatten().numpy()
    return flat[np.unique(np.round(np.linspace(0, flat.size - 1, 16)).astype(int))].copy()


def agree(ours, theirs, scale=0.0):
    """Within 1e-6, of the larger of the value and `scale`; what is NaN was not recorded."""
    theirs = theirs[: len(ours)]
    known = ~np.isnan(theirs)
    return np.all(np.abs(ours - theirs)[known] <= SAME * np.maximum(np.abs(theirs), scale)[known])


@pytest.fixture(scope="module", params=STEPS, ids=lambda path: path.stem)
def step(request):
    torch.manual_seed(0)
    path, before = request.param, uni.MONTE_CARLO
    uni.MONTE_CARLO = json.loads(str(np.load(path)["inputs"])).get("monte_carlo", before)
    try:
        yield Step(path)
    finally:
        uni.MONTE_CARLO = before


def test_every_loss_and_their_total_are_the_authors(step):
    terms = json.loads(str(step.file["terms64"]))
    names = BY_REWARD if "surrogate" in terms else TERMS[step.recipe]
    ours = {theirs: float(step.result.measures[name]) for theirs, name in names.items()}
    assert terms.keys() - ours.keys() <= {"criterion_reported_only", "kl_unweighted"}
    assert ours == pytest.approx({name: terms[name] for name in ours}, rel=SAME_LOSS)
    assert step.result.loss.item() == pytest.approx(float(step.file["total64"]), rel=SAME_LOSS)


def test_all_that_was_drawn_was_used(step):
    """But for what the authors draw in the last stage of V1-TSM and do not use."""
    assert step.draws_left == (["normal"] if (step.recipe, step.stage_number) == ("v1-tsm", 3) else [])


def test_every_gradient_is_the_authors_and_there_is_none_where_they_have_none(step):
    none, norms, samples = (step.rows(kind) for kind in ("grad_none", "grad_norm64", "grad_samples64"))
    assert {name for name in step.theirs if name not in step.names} <= {
        name for name, is_none in zip(step.theirs, step.file["grad_none"], strict=True) if is_none
    }, "they have gradients of parameters that are not here"
    assert {name for name, gradient in step.gradients.items() if gradient is None} == {n for n in none if none[n]} | (
        step.names.keys() - none.keys()
    )
    largest = np.nanmax(step.file["grad_norm64"])
    compared = [name for name in norms if not none[name] and norms[name] > NOISE * largest]
    assert len(compared) > 5
    for name in compared:
        norm, size, ours = step.gradients[name]
        assert norm == pytest.approx(norms[name], rel=SAME), name
        assert agree(ours, samples[name], scale=norms[name] / np.sqrt(size)), name
    total = np.sqrt(np.nansum(step.file["grad_norm64"] ** 2))
    assert step.norm == pytest.approx(total, rel=SAME)


def test_every_parameter_after_the_step_is_the_authors(step):
    after = step.rows("after_samples64")
    for name, ours in step.after.items():
        if name in after:
            assert agree(ours, after[name], scale=np.nanmax(np.abs(after[name]), initial=0.0)), name


def test_the_averages_of_batch_norms_after_the_step_are_the_authors(step):
    names = [str(name).removeprefix("module.") for name in step.file["buffer_names"]]
    assert set(names) <= step.averages.keys()
    for name, theirs in zip(names, step.file["buffer_after64"], strict=True):
        assert agree(step.averages[name], theirs, scale=np.nanmax(np.abs(theirs), initial=0.0)), name


def test_the_optimizer_has_the_rates_of_the_authors(step):
    theirs = {
        name: (group["lr"], group["weight_decay"], group.get("momentum"), group.get("betas"))
        for group in step.groups()
        for name in group["params"]
        if name in step.names
    }
    if step.as_released:
        theirs = meant_by(theirs, step.groups(), step.names)
    assert step.rates.keys() == theirs.keys()
    for name, (lr, decay, momentum, betas) in theirs.items():
        own_lr, own_decay, own_momentum, own_betas = step.rates[name]
        assert (own_lr, own_decay) == pytest.approx((lr, decay), rel=1e-12), name
        assert own_momentum == momentum, name
        assert betas is None or list(own_betas) == betas, name


def meant_by(theirs, groups, names):
    """The first two groups got the rates of the focus network and of the classifier, which is the last group."""
    of_network, of_classifier = groups[0]["lr"], groups[1]["lr"]
    classifier = set(groups[-1]["params"])
    rates = {name: of_classifier if name in classifier else of_network for name in theirs}
    return {name: (rate, *theirs[name][1:]) for name, rate in rates.items() if rate}
