"""What is asked for, and with what it is made; checked before any work."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import parity
from ..config import Config, Limit
from ..delivery import Kit, sdk
from ..errors import ConfigError
from ..files import real
from ..program import Target, missing
from ..saying import Say
from ..tasks import named
from .site import Create


@dataclass(frozen=True, kw_only=True)
class Order:
    """What is asked for, and with what it is made.

    Attributes:
        plans: by platform, the artifacts that the configuration asks for.
        shipped: by platform, target and precision of the artifact in its kit.
        render: makes the page of a `Report`; its module counts as the page's code.
        out: where it is put; the store remembers by it what ran last.
    """

    config: Config
    targets: Mapping[str, Target]
    kits: Mapping[str, Kit]
    create: Create
    plans: Mapping[str, list[tuple[Target, str]]]
    shipped: Mapping[str, tuple[str, str] | None]
    render: Any
    out: Path

    @property
    def wanted(self) -> list[tuple[Target, str]]:
        return [pair for pairs in self.plans.values() for pair in pairs]

    @property
    def has_int8(self) -> bool:
        return any(precision == "int8" for _, precision in self.wanted)

    def check_certainty(self, held_out: int) -> None:
        """Raise a ConfigError where every verdict has to be shown and so few held-out images cannot show one, whatever
        the answers are."""
        config = self.config
        if config.parity.require != "shown":
            return
        meaning = named(config.model.task).meaning(config)
        for leg, precision, evidence, kernels in _legs(self.wanted):
            for limit in parity.limits_for(meaning, leg, precision, config.limit, evidence, kernels):
                needed = limit.fewest_images
                if needed is None or held_out < needed:
                    takes, more = (
                        ("can be shown by no number of images, for an interval keeps some room for doubt", "Write")
                        if needed is None
                        else (
                            f"takes at least {needed:,} images, even if all are answered alike; {held_out:,} are held "
                            "out",
                            "Hold out more ([data] held_out, or more images), write",
                        )
                    )
                    raise ConfigError(
                        f"parity.require = 'shown' cannot be met: {leg} {precision} {limit.metric} {limit.sense} "
                        f"{limit.value:g} {takes}. {more} a [[limit]] with another value and its reason, or "
                        "require = 'unmissed'."
                    )

    @property
    def place(self) -> str:
        return str(real(self.out))


def _asked_for(config: Config, targets: Mapping[str, Target]) -> list[tuple[Target, str]]:
    """All artifacts that a configuration names, of every platform; where it names none, all whose packages are installed."""
    return [
        (target, precision)
        for name, target in targets.items()
        for precision in config.targets.get(name, () if config.targets or missing(target) else target.PRECISIONS)
    ]


def _tell_left_out(config: Config, targets: Mapping[str, Target], platforms: Sequence[str], say: Say) -> None:
    """A line for each target that would be built if its packages were there."""
    for name, target in () if config.targets else targets.items():
        if name.split("/")[0] in platforms and (extra := missing(target)):
            say(f"not built: {name}, whose packages are not installed. To have it: pip install 'twinkeel[{extra}]'")


def _check_installed(target: Target) -> None:
    if extra := missing(target):
        raise ConfigError(
            f"{target.NAME} takes packages that are not installed. Install them: pip install 'twinkeel[{extra}]'; or leave it "
            "out of [targets]."
        )


def _check_runs(config: Config, platform: str, wanted: Sequence[tuple[Target, str]]) -> None:
    """Raise a ConfigError where all that is asked for needs a later iOS than the packages must run on."""
    since = [getattr(target, "SINCE", 0) for target, _ in wanted]
    if since and min(since) > config.ios.version:
        names = ", ".join(sorted({target.NAME for target, _ in wanted}))
        raise ConfigError(
            f"nothing of {platform} would run on '{config.ios.minimum_deployment_target}', ios.minimum_deployment_target: "
            f"{names} needs iOS {min(since)}. Set it to 'iOS{min(since)}', or add a target for older ones: [targets] "
            "\"ios/coreml\" = ['fp16']"
        )


def _legs(wanted: Sequence[tuple[Target, str]]) -> list[tuple[str, str, str, str]]:
    """(leg, precision, evidence, kernels) of all that is judged where these artifacts are built."""
    legs = [("fold", "float", "runtime", "")]
    legs += [("quantize", "int8", "runtime", "")] if any(precision == "int8" for _, precision in wanted) else []
    return legs + [("lower", precision, target.EVIDENCE, target.KERNELS) for target, precision in wanted]


def plan(config: Config, targets: Mapping[str, Target], platform: str) -> list[tuple[Target, str]]:
    """The artifacts that a configuration asks for on a platform.

    Raises:
        ConfigError: a precision needs a later iOS than the packages must run on, or packages that are not installed, or has
            no parity limits.
    """
    meaning = named(config.model.task).meaning(config)
    wanted = [(t, p) for t, p in _asked_for(config, targets) if t.NAME.startswith(f"{platform}/")]
    _check_runs(config, platform, wanted)
    for target, precision in wanted:
        _check_installed(target)
        needed = getattr(target, "NEEDS", {}).get(precision, 0)
        if needed > config.ios.version:
            raise ConfigError(
                f"{target.NAME} {precision} needs iOS {needed}, ios.minimum_deployment_target is "
                f"'{config.ios.minimum_deployment_target}'. Set it to 'iOS{needed}', or list the precisions that "
                f'you want: [targets] "{target.NAME}" = '
                + str([p for p in target.PRECISIONS if getattr(target, "NEEDS", {}).get(p, 0) <= config.ios.version])
            )
        parity.limits_for(meaning, "lower", precision, config.limit, target.EVIDENCE, target.KERNELS)
    return wanted


def _check_limits(config: Config, legs: Sequence[tuple[str, str, str, str]]) -> None:
    """Raise a ConfigError for a limit that cannot be, with the place that it stands in."""
    for one in config.limit:
        if wrong := _without_truth(config, one):
            raise ConfigError(f"{one.place}: {wrong}" if one.place else wrong)
    try:
        _check_first(config, len(config.limit), legs)
    except ConfigError as error:
        place = _place_of(config, str(error), legs)
        raise ConfigError(f"{place}: {error}" if place else str(error)) from error


def _check_first(config: Config, count: int, legs: Sequence[tuple[str, str, str, str]]) -> None:
    parity.check_overrides(named(config.model.task).meaning(config), config.limit[:count], legs)


def _place_of(config: Config, wrong: str, legs: Sequence[tuple[str, str, str, str]]) -> str:
    """Where the limit stands without which this would not be wrong; empty where that is not known."""
    for number, one in enumerate(config.limit, 1):
        try:
            _check_first(config, number, legs)
        except ConfigError as error:
            if str(error) == wrong:
                return one.place
    return ""


def _without_truth(config: Config, limit: Limit) -> str:
    """That a limit's metric, or the one that is most like it, is counted on labels, where the data have none; empty where it is not so."""
    task = named(config.model.task)
    without = set(task.meaning(config).counted)
    with_truth = set(task.MEANING.counted) - without
    like = difflib.get_close_matches(limit.metric, [*with_truth, *without], n=1)
    if not like or like[0] not in with_truth:
        return ""
    known = f"Without them there is {' or '.join(map(repr, sorted(without)))}." if without else ""
    return (
        f"limit.metric: '{like[0]}' takes labels{'' if like[0] == limit.metric else f', if {limit.metric!r} means it'}, and data.source = "
        f"'{config.data.source}' has none. {known} Give class folders (data.source = 'folder'), or limit another metric."
    )


def checked(
    config: Config,
    targets: Mapping[str, Target],
    kits: Mapping[str, Kit],
    create: Create,
    platforms: Sequence[str],
    out: Path,
    render: Any,
    say: Say,
) -> Order:
    """Check what can be checked before any work.

    Raises:
        ConfigError: the configuration asks for what cannot be.
    """
    # of both platforms, whichever is built now: one file configures them
    _check_limits(config, _legs(_asked_for(config, targets)))
    plans = {platform: plan(config, targets, platform) for platform in platforms}
    shipped = {
        platform: sdk.chosen(config, platform, kits[platform], pairs, say) for platform, pairs in plans.items() if pairs
    }
    if not any(plans.values()):
        raise ConfigError(f"[targets] names none of {' or '.join(platforms)}: nothing to build")
    _tell_left_out(config, targets, platforms, say)
    plans = {platform: pairs for platform, pairs in plans.items() if pairs}
    return Order(
        config=config, targets=targets, kits=kits, create=create, plans=plans, shipped=shipped, render=render, out=out
    )
