"""One step of every recipe, against the same step written out from its formulas.

The formulas use a model's networks and layers, but nothing else of the package. Random numbers are the same in both.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, Normal
from torch.nn.functional import linear

from adafocus_cli.models import build
from adafocus_cli.nn.pixels import boxes_at, sample
from adafocus_cli.training.fit import optimizer_of
from adafocus_cli.training.forward_pass import Draws, ForwardPass
from adafocus_cli.training.recipes import RECIPES
from adafocus_cli.training.uni import MONTE_CARLO, Uni, UniX3D
from adafocus_cli.training.v1 import (
    AnswersOnly,
    NetworksAlone,
    PolicyByReward,
    RandomPatches,
    Together,
    discounted_returns,
    ppo_loss,
    ppo_terms,
    standardised,
)
from adafocus_cli.training.v2 import EndToEnd, EndToEndTSM, ThroughFeatures
from tests.tiny import tiny_spec

CLIPS, FRAMES, SIDE, PATCH = 3, 3, 64, 32
LOOKING_ORDER = [1, 0, 2]  # of three frames: the middle, then the ends
TARGETS = torch.tensor([2, 5, 0])


def model_of(family):
    torch.manual_seed(0)
    return build(replace(tiny_spec(family), glance_frames=FRAMES, focus_frames=FRAMES))


def batch(model):
    """Random blocks, so that a patch elsewhere is another one."""
    chance = torch.Generator().manual_seed(1)
    small = torch.randint(0, 256, (CLIPS, len(model.plan(9).frames), 8, 8, 3), generator=chance)
    return small.repeat_interleave(8, 2).repeat_interleave(8, 3).to(torch.uint8)


def pictures(frames):
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((frames.float() / 255 - mean) / std).permute(0, 1, 4, 2, 3)


def over_frames(network, frames):
    out = network(frames.reshape(-1, *frames.shape[2:]))
    return out.reshape(len(frames), -1, *out.shape[1:])


def means(maps):
    return maps.sum((-2, -1)) / (maps.shape[-2] * maps.shape[-1])


def bilinear_patch(frame, place, size=PATCH):
    """Four neighbours of every point, by their nearness; frame (c, s, s), place (row, col)."""
    side = frame.shape[-1]
    rows, cols = (place[i] * (side - size) + torch.arange(size) for i in (0, 1))
    up, left = rows.detach().floor().long(), cols.detach().floor().long()
    down, right = (up + 1).clamp(max=side - 1), (left + 1).clamp(max=side - 1)
    to_row, to_col = (rows - up)[:, None], cols - left
    upper = frame[:, up][:, :, left] * (1 - to_col) + frame[:, up][:, :, right] * to_col
    lower = frame[:, down][:, :, left] * (1 - to_col) + frame[:, down][:, :, right] * to_col
    return upper * (1 - to_row) + lower * to_row


def patches(cut, frames, places):
    """Frames (b, t, 3, s, s) and places (b, t or 1, 2) → (b, t, 3, p, p)."""
    places = places.expand(-1, frames.shape[1], -1)
    return torch.stack(
        [
            torch.stack([cut(frame, place) for frame, place in zip(*clip, strict=True)])
            for clip in zip(frames, places, strict=True)
        ]
    )


def surprise(logits, targets=TARGETS):
    """Cross entropy, the mean over clips and answers: logits (b, answers, classes)."""
    shares = torch.exp(logits) / torch.exp(logits).sum(-1, keepdim=True)
    return -sum(torch.log(shares[clip, :, target]).mean() for clip, target in enumerate(targets)) / len(targets)


# V2: everything at once.


def plain_v2(learner, frames, *, still=False):
    """Every answer on the way, from the best so far of what a wide layer says of each step; `still`: the policy is not
    taught by it."""
    model, order = learner.model, LOOKING_ORDER
    seen = pictures(frames[:, order])
    maps = over_frames(model.glance_net, seen)
    total = torch.zeros(())
    learned = model.policy(maps.detach(), None)[0]
    for places in (learned.detach() if still else learned, torch.rand(CLIPS, FRAMES, 2)):
        focused = over_frames(model.focus_net, patches(bilinear_patch, seen, places))
        both = torch.cat((means(maps), means(focused)), -1)
        vectors = model.vector.layers(both.reshape(-1, both.shape[-1])).reshape(CLIPS, FRAMES, -1)
        best, answers = vectors[:, 0], []
        for step in range(FRAMES):
            best = torch.maximum(best, vectors[:, step])
            answers.append(model.classifiers[step](best))
        alone = learner.glance_head(means(maps)), learner.focus_head(means(focused))
        total = total + surprise(torch.stack(answers, 1)) + sum(surprise(answer) for answer in alone)
    return total / 2


def plain_v2_tsm(learner, frames):
    """One place a clip; each head's answers are averaged over the frames before they are judged, and the answer of both
    networks teaches nothing but its own layers."""
    model = learner.model
    glanced, looked = pictures(frames[:, :FRAMES]), pictures(frames[:, FRAMES:])
    maps = over_frames(model.glance_net, glanced)
    total = torch.zeros(())
    for places in (model.policy(maps.detach().flatten(1, 2))[:, None], torch.rand(CLIPS, 1, 2)):
        focused = over_frames(model.focus_net, patches(bilinear_patch, looked, places))
        heads = {
            "both": model.glance_fc(means(maps).detach()).mean(1) + model.focus_fc(means(focused).detach()).mean(1),
            "glance": learner.glance_head(means(maps)).mean(1),
            "focus": learner.focus_head(means(focused)).mean(1),
        }
        total = total + sum(surprise(answer[:, None]) for answer in heads.values())
    return total / 2


def end_to_end(family):
    return (EndToEndTSM if family == "adafocus-v2-tsm" else EndToEnd)(model_of(family)).train()


@pytest.mark.parametrize(("family", "plain"), [("adafocus-v2", plain_v2), ("adafocus-v2-tsm", plain_v2_tsm)])
def test_v2_loss_and_all_its_gradients_are_those_of_the_formulas(family, plain):
    ours = end_to_end(family)
    theirs, frames = deepcopy(ours), batch(ours.model)
    torch.manual_seed(7)
    loss = ours(frames, TARGETS).loss
    torch.manual_seed(7)
    expected = plain(theirs, frames)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        size = other.grad.norm().item()
        # Single precision. A bias before a batch norm has no gradient but rounding, up to 1e-5 here.
        assert (mine.grad - other.grad).norm().item() <= 1e-4 * size + 2e-5, name
    for part in (*theirs.model.children(), theirs.glance_head, theirs.focus_head):
        assert all(value.grad.norm() > 1e-3 for value in [*part.parameters()][-2:]), "too little to be compared"


def test_v2_through_features_adds_what_its_focus_network_sees_of_the_whole_frame():
    """Cut out of the maps where the patch would be, pixel by pixel of them, and judged by the focus network's head."""
    model = model_of("adafocus-v2")
    ours = ThroughFeatures(model).train()
    theirs, frames = deepcopy(ours), batch(model)
    torch.manual_seed(7)
    ours(frames, TARGETS).loss.backward()

    torch.manual_seed(7)
    seen = pictures(frames[:, LOOKING_ORDER])
    expected = plain_v2(theirs, frames, still=True)
    watching = deepcopy(theirs.model.focus_net).eval()  # its batch norms have seen the patches
    places = theirs.model.policy(over_frames(theirs.model.glance_net, seen).detach(), None)[0]
    maps = over_frames(watching, seen).detach()
    scale = maps.shape[-1] / SIDE
    cut = patches(lambda frame, place: bilinear_patch(frame, place, round(PATCH * scale)), maps, places)
    of_places = surprise(linear(means(cut), theirs.focus_head.weight.detach(), theirs.focus_head.bias.detach()))
    (expected + of_places).backward()
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        size = other.grad.norm().item()
        assert (mine.grad - other.grad).norm().item() <= 1e-4 * size + 2e-5, name
    assert theirs.model.policy.fc.weight.grad.norm() > 1e-3, "too little to be compared"


@pytest.mark.parametrize("family", ["adafocus-v2", "adafocus-v2-tsm"])
def test_v2_policy_learns_through_its_patches_and_leaves_the_glance_alone(family):
    learner = end_to_end(family)
    seen = ForwardPass.of(learner.model, batch(learner.model))
    of_policy = list(learner.model.policy.parameters())
    of_glance = list(learner.model.glance_net.parameters())
    focused = seen.focus(seen.policy_gaze())
    back = torch.autograd.grad((focused**2).sum(), of_policy + of_glance, allow_unused=True)
    assert all(part is not None and part.abs().sum() > 0 for part in back[: len(of_policy)])
    assert all(part is None for part in back[len(of_policy) :])


def test_the_patch_changes_with_the_place_as_its_gradient_says():
    torch.manual_seed(0)
    frames = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    places = torch.tensor([[0.23, 0.61], [0.87, 0.06]], dtype=torch.float64, requires_grad=True)

    def validated(places):
        patch = sample(frames, boxes_at(places, 12, 5, whole_pixels=False), 5)
        return torch.logsumexp(patch.flatten(1).square(), dim=1)

    assert torch.autograd.gradcheck(validated, places)


# V1: the policy by reward.


def test_ppo_is_that_of_plain_arithmetic():
    chance = np.random.default_rng(0)
    now, before, values, rewards, entropy = chance.normal(size=(5, 4, 6))
    returns = np.array([[sum(0.7 ** (k - i) * row[k] for k in range(i, 6)) for i in range(6)] for row in rewards])
    wanted = (returns - returns.mean()) / (np.sqrt(((returns - returns.mean()) ** 2).sum() / (returns.size - 1)) + 1e-5)
    gains = []
    for new, old, value, aim in zip(now.flat, before.flat, values.flat, wanted.flat, strict=True):
        ratio, advantage = np.exp(new - old), aim - value
        gains.append(min(ratio * advantage, min(max(ratio, 0.8), 1.2) * advantage))
    expected = -np.mean(gains) + 0.5 * np.mean((values - wanted) ** 2) - 0.01 * np.mean(entropy)

    ours = standardised(discounted_returns(torch.tensor(rewards)))
    np.testing.assert_allclose(ours, wanted, rtol=1e-12)
    loss = ppo_loss(ppo_terms(*map(torch.tensor, (now, before, values)), ours, torch.tensor(entropy)))
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def reward_step(family):
    """A step of ours, the same learner before it, and what both are given; torch draws the same again."""
    ours = PolicyByReward(model_of(family)).train()
    theirs, frames = deepcopy(ours), batch(ours.model)
    torch.manual_seed(7)
    progress = ours(frames, TARGETS)
    progress.loss.backward()
    torch.manual_seed(7)
    return ours, theirs, progress, frames


def check_reward_step(ours, theirs, progress, *, rewards, returns, values, log_prob, entropy, slack=0.0):
    """Loss and gradients are those of the formula. At the first step of a batch the ratio is one, and its gradient that
    of the log probability."""
    assert rewards.abs().min() > 0, "the patches make no difference, so nothing is compared"
    assert progress.measures["reward"].item() == pytest.approx(rewards.mean().item(), rel=1e-4)
    aims = (returns - returns.mean()) / (returns.std() + 1e-5)
    gain = ((log_prob - log_prob.detach()).exp() * (aims - values.detach())).mean()
    expected = -gain + 0.5 * ((values - aims) ** 2).mean() - 0.01 * entropy.mean()
    expected.backward()
    assert progress.loss.item() == pytest.approx(expected.item(), rel=1e-3)  # rewards of thousandths, standardised
    others = dict(theirs.named_parameters())
    for name, mine in ours.named_parameters():
        other = others[name]
        assert (mine.grad is None) == (other.grad is None) == (not name.startswith(("model.policy.", "critic."))), name
        if mine.grad is not None:
            size = other.grad.abs().max().item()
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-2, atol=1e-3 * size + slack, msg=name)


def whole_pixel_patch(frame, place):
    top, left = (int(place[i] * (SIDE - PATCH)) for i in (0, 1))
    return frame[:, top : top + PATCH, left : left + PATCH]


def test_v1_reward_is_what_a_place_adds_while_all_earlier_looks_stay_the_same():
    ours, theirs, progress, frames = reward_step("adafocus-v1")
    model, seen = theirs.model, pictures(frames)
    with torch.no_grad():
        maps = over_frames(model.glance_net, seen)
    encoded = model.policy.encode(maps.flatten(0, 1)).reshape(CLIPS, FRAMES, -1)
    states = model.policy.gru(encoded)[0]
    chances = Categorical(logits=model.policy.actor(states))
    points, random = chances.sample(), torch.randint(SIDE - PATCH, (CLIPS, FRAMES, 2)) / (SIDE - PATCH)
    grid = torch.stack((points // 7, points % 7), -1) / 6
    rewards = torch.zeros(CLIPS, FRAMES)
    with torch.no_grad():
        chosen, instead = (
            means(over_frames(model.focus_net, patches(whole_pixel_patch, seen, at))) for at in (grid, random)
        )
        memory = torch.zeros(1, CLIPS, model.spec.classifier_width)
        for step in range(FRAMES):
            glance = means(maps)[:, step]
            sure = []
            for look in (instead, chosen):  # what is chosen is remembered
                out, after = model.classifier.gru(torch.cat((glance, look[:, step]), -1)[:, None], memory)
                sure.append(model.classifier.fc(out[:, 0]).softmax(-1)[range(CLIPS), TARGETS])
            memory = after
            rewards[:, step] = sure[1] - sure[0]
    returns = torch.zeros(CLIPS, FRAMES + 1)
    for step in reversed(range(FRAMES)):
        returns[:, step] = rewards[:, step] + 0.7 * returns[:, step + 1]
    check_reward_step(
        ours,
        theirs,
        progress,
        rewards=rewards,
        returns=returns[:, :FRAMES],
        values=theirs.critic(states)[..., 0],
        log_prob=chances.log_prob(points),
        entropy=chances.entropy(),
    )


def test_v1_tsm_policy_is_rewarded_for_what_its_one_place_adds_to_a_random_one():
    ours, theirs, progress, frames = reward_step("adafocus-v1-tsm")
    model, looked = theirs.model, pictures(frames[:, FRAMES:])
    with torch.no_grad():
        maps = over_frames(model.glance_net, pictures(frames[:, :FRAMES]))
    state = model.policy.gru(model.policy.encode(maps.flatten(1, 2))[:, None])[0][:, 0]
    chances = Normal(torch.sigmoid(model.policy.actor(state)), 0.25)
    place = chances.sample().clamp(0, 1)
    sure = []
    with torch.no_grad():
        for at in (place[:, None], torch.rand(CLIPS, 1, 2)):
            focused = over_frames(model.focus_net, patches(whole_pixel_patch, looked, at))
            answer = model.glance_fc(means(maps)).mean(1) + model.focus_fc(means(focused)).mean(1)
            sure.append(answer.softmax(-1)[range(CLIPS), TARGETS])
    rewards = sure[0] - sure[1]
    check_reward_step(
        ours,
        theirs,
        progress,
        rewards=rewards,
        returns=rewards,
        values=theirs.critic(state)[:, 0],
        log_prob=chances.log_prob(place).sum(-1),
        entropy=chances.entropy().sum(-1),
        slack=1e-6,
    )


# What stays as it is.

LEARNING = {
    NetworksAlone: {
        "adafocus-v1": {"glance_net", "focus_net"},
        "adafocus-v1-tsm": {"glance_net", "focus_net", "glance_fc", "focus_fc"},
    },
    RandomPatches: {"adafocus-v1": {"focus_net", "classifier"}, "adafocus-v1-tsm": {"focus_net", "focus_fc"}},
    PolicyByReward: {"adafocus-v1": {"policy"}, "adafocus-v1-tsm": {"policy"}},
    AnswersOnly: {"adafocus-v1": {"classifier"}, "adafocus-v1-tsm": {"focus_fc"}},
}


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v1-tsm"])
@pytest.mark.parametrize("stage", LEARNING)
def test_v1_stages_change_what_they_should_and_nothing_else(family, stage):
    learner = stage(model_of(family)).train()
    before = deepcopy(learner.model.state_dict())
    optimizer = torch.optim.SGD([parameter for group in learner.groups().values() for parameter in group], lr=0.1)
    learner(batch(learner.model), TARGETS).loss.backward()
    optimizer.step()
    changed = {name for name, value in learner.model.state_dict().items() if not value.equal(before[name])}
    learning = LEARNING[stage][family]
    assert {name.split(".")[0] for name in changed} == learning
    moved = {name.split(".")[0] for name in changed if name.endswith("running_mean")}
    assert {name for name in learning if name.endswith("_net")} <= moved, "batch norms learn where networks do"


@pytest.mark.parametrize("family", ["adafocus-v1", "adafocus-v1-tsm"])
def test_dropout_falls_on_what_the_last_layer_sees_and_not_on_what_is_frozen(family):
    """In V1 behind the recurrent layer; on TSM the glance has learnt its answer before the focus network learns."""
    model = model_of(family)
    model.dropout.p = 0.5
    layers = (
        {"answers": model.classifier.fc}
        if family == "adafocus-v1"
        else {"answers": model.focus_fc, "glance": model.glance_fc}
    )
    zeros = {}

    def note(layer, given, _):
        zeros[layer] = (given[0] == 0).float().mean().item()

    for layer in layers.values():
        layer.register_forward_hook(note)
    RandomPatches(model).train()(batch(model), TARGETS)
    assert zeros.pop(layers["answers"]) > 0.3
    assert all(share < 0.3 for share in zeros.values())


def test_rewards_are_standardised_over_the_clips_of_all_processes(monkeypatch):
    here, there = torch.tensor([[1.0, 2.0], [3.0, 5.0]]), torch.tensor([[-4.0, 0.0], [7.0, 1.0]])
    together = standardised(torch.cat((here, there)))

    def all_gather(shares, values):
        for share, of_process in zip(shares, (values, there), strict=True):
            share.copy_(of_process)

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
    torch.testing.assert_close(standardised(here), together[:2])


def test_together_is_the_policys_loss_and_the_mean_error_at_its_places_and_at_random_ones():
    """Errors are plain sums here; the policy's part is that of its own stage, tested above."""
    ours = Together(model_of("adafocus-v1-tsm")).train()
    theirs, frames = deepcopy(ours), batch(ours.model)
    torch.manual_seed(7)
    progress = ours(frames, TARGETS)
    progress.loss.backward()

    torch.manual_seed(7)
    model = theirs.model
    seen = ForwardPass.of(model, frames)
    choice = theirs.choose(seen)
    chosen, random = seen.focus(choice.gaze), seen.focus(seen.random_gaze(Draws()))
    glance = model.glance_fc(means(seen.maps)).mean(1)
    answers = []
    for focused in (chosen, random):
        focus = model.focus_fc(means(focused)).mean(1)
        answers += [glance + focus, glance, focus]
    errors = [-logits.log_softmax(-1)[range(CLIPS), TARGETS].mean() for logits in answers]
    by_reward, _ = theirs.by_reward(seen, choice, answers[0][:, None], chosen, random, TARGETS)
    expected = sum(errors) / 2 + by_reward
    expected.backward()
    assert progress.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    others = dict(theirs.named_parameters())
    size = max(other.grad.abs().max().item() for other in others.values())  # before batch norms, some are but noise
    for name, mine in ours.named_parameters():
        torch.testing.assert_close(mine.grad, others[name].grad, rtol=1e-3, atol=1e-6 * size, msg=name)
    learning = [parameter for group in ours.groups().values() for parameter in group]
    assert {id(one) for one in learning} == {id(one) for one in ours.parameters()}
    assert len(learning) == len(list(ours.parameters()))


# Uni.


def test_uni_loss_and_all_its_gradients_are_those_of_the_formulas():
    torch.manual_seed(0)
    spec = replace(tiny_spec("uni-adafocus"), glance_frames=6, focus_frames=4, candidate_frames=18)
    ours = Uni(build(spec), size_penalty=0.5, head_dropout=0.0).train()
    theirs, frames = deepcopy(ours), batch(ours.model)
    torch.manual_seed(7)
    progress = ours(frames, TARGETS)
    torch.manual_seed(7)
    expected = plain_uni(theirs, frames, size_penalty=0.5)
    progress.loss.backward()
    expected.backward()
    assert progress.loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (name, mine), other in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        size = other.grad.norm().item()
        assert (mine.grad - other.grad).norm().item() <= 1e-3 * size + 2e-5, name


def plain_uni(learner, frames, *, size_penalty):
    """One candidate of three is glanced at; both policies are taught by the glance alone, and both kinds of boxes are
    looked at in the same frames."""
    model, spec = learner.model, learner.model.spec
    glances, looks, candidates = spec.glance_frames, spec.focus_frames, spec.candidate_frames
    clips = torch.arange(CLIPS)[:, None]
    seen = pictures(frames)
    maps = over_frames(model.glance_net, seen[clips, torch.arange(0, 18, 3) + torch.randint(3, (CLIPS, glances))])
    places = torch.rand(CLIPS, candidates, 4)
    by_glance = learner.glance_head(means(maps))

    shares = model.temporal_policy(means(maps))
    left_out = torch.multinomial(shares.detach().repeat_interleave(MONTE_CARLO, 0), 1).view(CLIPS, MONTE_CARLO)
    some = []
    for out in left_out.T:
        kept = shares * (torch.arange(glances) != out[:, None])
        some.append(kept / kept.detach().sum(1, keepdim=True))
    weights = (shares / shares.detach().sum(1, keepdim=True) + torch.stack(some).mean(0)) / 2
    temporal = (weights[..., None] * by_glance).sum(1)

    chosen = []
    for curve, within in zip(shares.detach().cumsum(1), torch.rand(CLIPS, looks), strict=True):
        steps = np.interp(
            [(i + float(within[i])) / looks for i in range(looks)], [0, *curve.tolist()], np.arange(7) / 6
        )
        free = -1
        for i, step in enumerate(steps):
            free = min(max(int(step * candidates), free + 1), candidates - looks + i)
            chosen.append(free)
    chosen = torch.tensor(chosen).view(CLIPS, looks)

    actions = model.spatial_policy(maps.detach())
    in_boxes = means(sample(maps.detach().flatten(0, 1), boxes(actions).flatten(0, 1) * 2 / SIDE, 1))
    spatial = learner.box_head(in_boxes.view(CLIPS, glances, -1).mean(1))
    nearest = ((chosen + 0.5) / 3 - 0.5).clamp(0, glances - 1)  # between which glances a frame lies
    before, after = nearest.floor().long(), nearest.ceil().long()
    between = (nearest - before)[..., None]
    there = (actions[clips, before] * (1 - between) + actions[clips, after] * between).detach()
    anywhere = torch.cat((places[clips, chosen][..., :2], torch.zeros(CLIPS, looks, 2)), -1)

    cuts = [sample(seen[clips, chosen].flatten(0, 1), boxes(where).flatten(0, 1), PATCH) for where in (there, anywhere)]
    best_glance = model.glance_vector(means(maps)).cummax(1).values
    answers_of_glance = [layer(best_glance[:, i]) for i, layer in enumerate(model.glance_classifiers)]
    total = torch.zeros(())
    for focused in model.focus_net(torch.cat(cuts)).unflatten(0, (2, CLIPS, looks)):
        best = model.focus_vector(means(focused)).cummax(1).values
        answers = [
            layer(torch.cat((best[:, i], best_glance[:, -1]), -1)) for i, layer in enumerate(model.focus_classifiers)
        ]
        heads = (torch.stack(answers_of_glance + answers, 1), by_glance, learner.focus_head(means(focused)))
        total = total + sum(surprise(head) for head in heads)
    sizes = ((1 - actions[..., 2:]) ** 2).mean()
    return total / 2 + surprise(temporal[:, None]) + surprise(spatial[:, None]) + size_penalty * sizes


def boxes(actions):
    """From a patch's side to the whole frame's: (row, col, height, width) in 0…1 → left, top, right, bottom."""
    size = PATCH + actions[..., 2:] * (SIDE - PATCH)
    top, left = ((SIDE - size) * actions[..., :2]).unbind(-1)
    return torch.stack((left, top, left + size[..., 1], top + size[..., 0]), -1)


def uni_x3d(**changes):
    torch.manual_seed(0)
    spec = replace(tiny_spec("uni-adafocus-x3d"), glance_frames=4, focus_frames=4, candidate_frames=12, **changes)
    model = build(spec)
    model.dropout.p = 0.0
    return UniX3D(model, size_penalty=0.5).train()


def test_of_uni_on_x3d_the_answer_teaches_its_own_layers_and_other_layers_teach_the_networks():
    learner = uni_x3d()
    for answers in (learner.glance_answers, learner.focus_answers):
        maps = torch.rand(2, 4, learner.model.glance_channels, 2, 2, requires_grad=True)
        answer, by_frame = answers(maps)
        assert (answer.shape, by_frame.shape) == ((2, 7), (2, 4, 7))
        answer.sum().backward()
        assert maps.grad is None
        by_frame.sum().backward()
        assert maps.grad.abs().sum() > 0


def test_the_loss_of_uni_on_x3d_is_the_mean_of_both_looks_and_what_its_policies_learn_from():
    learner = uni_x3d()
    result = learner(batch(learner.model), TARGETS)
    terms = {name: float(term) for name, term in result.measures.items()}
    looks = [terms[f"{look}_{name}"] for look in ("random", "policy") for name in ("answer", "glance", "focus")]
    expected = sum(looks) / 2 + terms["temporal"] + terms["spatial"] + 0.5 * terms["sizes"]
    assert result.loss.item() == pytest.approx(expected, rel=1e-6)
    result.loss.backward()
    assert all(parameter.grad is not None for parameter in learner.parameters()), "as several processes need it"


def test_the_loss_of_uni_on_x3d_falls():
    learner = uni_x3d()
    (stage,) = RECIPES["uni-x3d"].stages(lr=0.02)
    optimizer, frames, losses = optimizer_of(stage, learner), batch(learner.model), []
    for _ in range(6):
        torch.manual_seed(1)  # the same draws
        loss = learner(frames, TARGETS).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]
