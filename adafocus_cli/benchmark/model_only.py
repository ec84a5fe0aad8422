"""A model without decoding: beside the plain path and others, by stage, and how near to what the machine can do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adafocus_cli.benchmark.baselines import Baseline
from adafocus_cli.benchmark.bench_model import as_entrant
from adafocus_cli.benchmark.interleaved import Timing, timed
from adafocus_cli.benchmark.peak import MatrixProduct, share
from adafocus_cli.benchmark.reference import PlainPath
from adafocus_cli.benchmark.report import PLAIN, Row
from adafocus_cli.benchmark.stages import Stages
from adafocus_cli.flops import cost_of
from adafocus_cli.schema import Cost
from adafocus_cli.tagger import Tagger

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Alone:
    """`peak` is in 10⁹ multiply-adds a second, by precision."""

    rows: tuple[Row, ...]
    stages: tuple[Row, ...]
    peak: Mapping[str, float]


def alone(
    taggers: Mapping[str, Tagger], plain: PlainPath, baselines: Sequence[str], crops: bool, rounds: int, tell: Tell
) -> Alone:
    """All in the same rounds, but the crops, which take so long that once is enough."""
    some, *_ = taggers.values()
    device, lanes, frames = some.runtime.device, some.runtime.lanes, some.spec.focus_frames
    precisions = dict.fromkeys(tagger.runtime.precision for tagger in taggers.values())
    products = {precision: MatrixProduct(device, precision) for precision in precisions}
    others = [Baseline(name, device, precision) for precision in precisions for name in baselines]
    compared = [
        plain.entrant(PLAIN),
        *(as_entrant(tagger) for tagger in taggers.values()),
        *(other.entrant(lanes, frames) for other in others),
    ]
    stages = {name: Stages(tagger).entrant(f"{name}, by stage") for name, tagger in taggers.items()}
    timings = timed([*compared, *stages.values(), *(each.entrant() for each in products.values())], rounds, tell)
    rates = {precision: product.rates(timings[product.name]) for precision, product in products.items()}

    cost, shares = cost_of(some.spec), {}
    for name, tagger in taggers.items():
        rate = rates[tagger.runtime.precision]
        shares[name] = {"all": share(cost.gmacs, timings[name].seconds(), rate)}
        shares[stages[name].name] = _by_stage(cost, timings[stages[name].name], rate)

    if crops:
        slow = [other.crops(lanes) for other in others if other.sees_clips]
        timings |= timed(slow, 1, tell, warm=False)
        compared += slow
    return Alone(
        rows=tuple(Row.beside(PLAIN, entrant.name, timings, shares) for entrant in compared),
        stages=tuple(Row.beside(PLAIN, entrant.name, timings, shares) for entrant in stages.values()),
        peak={precision: max(rate) for precision, rate in rates.items()},
    )


def _by_stage(cost: Cost, timing: Timing, rates: Sequence[float]) -> dict[str, float]:
    """Of the stages that the model has: networks over clips never look twice."""
    work = {stage: cost.stages[stage] for stage in ("glance", "focus") if cost.stages[stage]}
    each = {stage: share(gmacs, timing.seconds(stage), rates) for stage, gmacs in work.items()}
    return {**each, "networks": share(sum(work.values()), timing.seconds(*work), rates)}
