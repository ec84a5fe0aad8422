"""The rule by which a glance's evidence becomes looks, and looks become labels."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from adafocus_cli.nn.evidence import Belief, Evidence, answers, box_logits, cell_logits, choose_looks, look_logits

BELIEF = Belief(focus=0.7, glance=0.1, bias=-1.4)
RULE = Evidence(background=0.0, sizes=(6, 4, 3, 2), margin=1.0, centre=0.5, middle=BELIEF, place=BELIEF)
CLASSES = 10


def glanced(*spots: tuple[int, int, int, int, int, float], frames: int = 2, size: tuple[int, int] = (8, 12)) -> Tensor:
    """Logits of one clip that know nothing but for spots: frame, top, left, cells along a side, class, logit."""
    logits = torch.zeros(1, frames, *size, CLASSES)
    for frame, top, left, side, kind, logit in spots:
        logits[0, frame, top : top + side, left : left + side, kind] = logit
    return logits


def cells(boxes: Tensor, size: tuple[int, int] = (8, 12)) -> Tensor:
    return boxes * torch.tensor([size[1], size[0], size[1], size[0]])


def test_the_classifier_of_the_mean_is_the_mean_of_the_classified_cells() -> None:
    maps, classifier = torch.randn(1, 2, 5, 3, 4), nn.Linear(5, CLASSES)
    of_mean = classifier(maps.mean(dim=(3, 4)))
    torch.testing.assert_close(cell_logits(maps, classifier).mean(dim=(2, 3)), of_mean)


def test_the_first_look_is_the_middle_square_of_the_surer_frame() -> None:
    looks = choose_looks(glanced((1, 0, 2, 8, 3, 6.0)), 2, RULE)
    assert looks.frames[0, 0] == 1
    torch.testing.assert_close(cells(looks.boxes)[0, 0], torch.tensor([2.0, 0.0, 10.0, 8.0]))


@pytest.mark.parametrize("side", [2, 3, 6])
@pytest.mark.parametrize("size", [(8, 12), (12, 8)])
def test_a_box_is_as_large_as_what_is_sure_of_a_class_and_a_margin(side: int, size: tuple[int, int]) -> None:
    box = cells(choose_looks(glanced((0, 1, 1, side, 3, 8.0), size=size), 2, RULE).boxes, size)[0, 1]
    torch.testing.assert_close(box, torch.tensor([0.5, 0.5, side + 1.5, side + 1.5]))


def test_looks_are_apart_in_place() -> None:
    looks = choose_looks(glanced((0, 1, 1, 2, 3, 9.0), (0, 5, 9, 2, 3, 8.0)), 3, RULE)
    torch.testing.assert_close(cells(looks.boxes)[0, 1:, 0], torch.tensor([0.5, 8.5]))


def test_a_part_of_what_was_looked_at_gets_no_look_for_the_same_class() -> None:
    rule = replace(RULE, overlap=0.25)  # 3 × 3 of 7 × 7 cells are not too much
    large_then_part = glanced((0, 1, 1, 6, 3, 9.0), (1, 2, 2, 2, 3, 8.0))
    large_then_other = glanced((0, 1, 1, 6, 3, 9.0), (1, 2, 2, 2, 4, 8.0))
    for logits, looked_into in ((large_then_part, False), (large_then_other, True)):
        box = cells(choose_looks(logits, 3, rule).boxes)[0, 2].tolist()
        assert (box == [1.5, 1.5, 4.5, 4.5]) is looked_into


def test_the_same_place_of_another_frame_gets_no_second_look() -> None:
    looks = choose_looks(glanced((0, 1, 1, 2, 3, 9.0), (1, 1, 1, 2, 3, 8.0), (1, 5, 9, 2, 4, 7.0)), 3, RULE)
    assert looks.frames[0, 1:].tolist() == [0, 1]
    torch.testing.assert_close(cells(looks.boxes)[0, 2, 0], torch.tensor(8.5))


def test_what_is_everywhere_is_no_evidence_for_a_place() -> None:
    everywhere = glanced((0, 4, 6, 2, 4, 9.0), frames=1)
    everywhere[..., 3] = 10.0
    box = cells(choose_looks(everywhere, 2, replace(RULE, background=1.0)).boxes)[0, 1]
    torch.testing.assert_close(box, torch.tensor([5.5, 3.5, 8.5, 6.5]))


def test_a_box_at_the_edge_is_moved_into_the_frame() -> None:
    box = cells(choose_looks(glanced((0, 0, 10, 2, 3, 8.0)), 2, RULE).boxes)[0, 1]
    torch.testing.assert_close(box, torch.tensor([9.0, 0.0, 12.0, 3.0]))


def test_there_are_as_many_looks_as_asked_for_even_in_a_map_of_one_cell() -> None:
    looks = choose_looks(glanced((0, 0, 0, 1, 3, 8.0), frames=1, size=(1, 1)), 4, RULE)
    torch.testing.assert_close(looks.boxes, torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(1, 4, 4))


def test_a_clip_is_looked_at_alike_alone_and_in_company() -> None:
    torch.manual_seed(0)
    many = 4 * torch.randn(3, 2, 6, 9, CLASSES)
    together = choose_looks(many, 5, Evidence())
    for number in range(len(many)):
        alone = choose_looks(many[number : number + 1], 5, Evidence())
        assert torch.equal(alone.frames[0], together.frames[number])
        assert torch.equal(alone.boxes[0], together.boxes[number])


def test_the_glance_says_of_a_box_what_its_cells_say() -> None:
    logits = torch.randn(1, 2, 8, 12, CLASSES)
    box = torch.tensor([[[3 / 12, 2 / 8, 6 / 12, 4 / 8]]])
    torch.testing.assert_close(
        box_logits(logits, torch.tensor([[1]]), box, RULE)[0, 0], logits[0, 1, 2:4, 3:6].mean(dim=(0, 1))
    )


def test_a_box_between_cells_hears_the_nearest() -> None:
    logits = torch.randn(1, 1, 2, 2, CLASSES)
    box = torch.tensor([[[0.3, 0.3, 0.4, 0.4]]])
    torch.testing.assert_close(box_logits(logits, torch.tensor([[0]]), box, RULE)[0, 0], logits[0, 0, 0, 0])


def test_a_label_has_the_score_of_its_best_look_and_names_it() -> None:
    focus = torch.zeros(1, 3, CLASSES)
    focus[0, 1, 4] = focus[0, 2, 7] = 9.0
    spoken = look_logits(focus, focus, range(3), RULE)
    logits, speaker = (after_each[:, -1] for after_each in answers(spoken))
    assert speaker[0, [4, 7]].tolist() == [1, 2]
    assert logits[0, 4] == spoken[0, 1, 4] > 0 > logits[0, 0]


def test_two_labels_can_both_be_sure() -> None:
    focus = torch.zeros(1, 3, CLASSES)
    focus[0, 1, 1] = focus[0, 2, 2] = 12.0
    logits, _ = answers(look_logits(focus, focus, range(3), RULE))
    assert (logits[:, -1].sigmoid()[0, 1:3] > 0.5).all()


def test_the_look_at_the_middle_is_believed_in_a_way_of_its_own() -> None:
    rule = Evidence(middle=Belief(focus=1.0, glance=0.0, bias=2.0), place=Belief(focus=0.0, glance=1.0, bias=-3.0))
    focus, glance = torch.randn(2, 1, 3, CLASSES)
    spoken = look_logits(focus, glance, range(3), rule)
    torch.testing.assert_close(spoken[:, 0], focus[:, 0].softmax(-1).logit() + 2)
    torch.testing.assert_close(spoken[:, 1:], glance[:, 1:].softmax(-1).logit() - 3)
    assert torch.equal(look_logits(focus[:, 1:], glance[:, 1:], range(1, 3), rule), spoken[:, 1:])
