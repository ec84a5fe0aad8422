"""The authors' answers, by OpenVINO, of models whose networks are those of others that the suite has."""

from __future__ import annotations

from tests.models.test_golden import LIKE_OTHERS, TO_OPENVINO, answer_to, check_answer, of_cases

__all__ = ["answer_to"]  # a fixture


@of_cases(("case", "runtime"), [case for case in TO_OPENVINO if case.values[0] in LIKE_OTHERS])
def test_the_answer_and_every_step_are_the_authors(case, runtime, answer_to, golden):
    check_answer(answer_to(case, runtime)[0], golden(case))
