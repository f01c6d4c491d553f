"""What is asked for, and with what it is made; checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import parity, sdk
from .artifact import Target
from .config import Config
from .errors import ConfigError
from .judge import Say
from .sdk import Kit
from .steps import Create


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
        """Raise a ConfigError where so few held-out images cannot show every verdict, whatever the answers are."""
        config = self.config
        legs = [("lower", p, t.EVIDENCE, t.KERNELS) for t, p in self.wanted]
        legs += [("quantize", "int8", "runtime", "")] if self.has_int8 else []
        for leg, precision, evidence, kernels in legs:
            for limit in parity.limits_for(leg, precision, config.limit, evidence, kernels):
                needed = limit.fewest_images
                if needed is None or held_out < needed:
                    asked = "no number of images" if needed is None else f"at least {needed:,} images"
                    raise ConfigError(
                        f"parity.require = 'shown' cannot be met: {leg} {precision} {limit.metric} {limit.sense} "
                        f"{limit.value:g} takes {asked}, even if all are answered alike; {held_out:,} are held out. "
                        "Hold out more ([data] held_out, or more images), write a [[limit]] with a reason, or "
                        "require = 'unmissed'."
                    )

    @property
    def place(self) -> str:
        return str(self.out.resolve())


def plan(config: Config, targets: Mapping[str, Target], platform: str) -> list[tuple[Target, str]]:
    """The artifacts that a configuration asks for on a platform.

    Raises:
        ConfigError: a precision needs a later iOS than the packages must run on, or has no parity limits.
    """
    wanted = [
        (t, p)
        for name, t in targets.items()
        if name.startswith(f"{platform}/")
        for p in config.targets.get(name, () if config.targets else t.PRECISIONS)
    ]
    for target, precision in wanted:
        needed = getattr(target, "NEEDS", {}).get(precision, 0)
        if needed > config.ios.version:
            raise ConfigError(
                f"{target.NAME} {precision} needs iOS {needed}, ios.minimum_deployment_target is "
                f"'{config.ios.minimum_deployment_target}'. Set it to 'iOS{needed}', or list the precisions that "
                f'you want: [targets] "{target.NAME}" = '
                + str([p for p in target.PRECISIONS if getattr(target, "NEEDS", {}).get(p, 0) <= config.ios.version])
            )
        parity.limits_for("lower", precision, config.limit, target.EVIDENCE, target.KERNELS)
    return wanted


def order(
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
    plans = {platform: plan(config, targets, platform) for platform in platforms}
    shipped = {platform: sdk.chosen(config, platform, pairs, say) for platform, pairs in plans.items() if pairs}
    if not any(plans.values()):
        raise ConfigError(f"[targets] names none of {' or '.join(platforms)}: nothing to build")
    for leg, precision in (("fold", "float"), ("quantize", "int8")):
        parity.limits_for(leg, precision, config.limit)
    parity.check_overrides(config.limit)
    plans = {platform: pairs for platform, pairs in plans.items() if pairs}
    return Order(
        config=config, targets=targets, kits=kits, create=create, plans=plans, shipped=shipped, render=render, out=out
    )
