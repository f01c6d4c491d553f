"""From the table `[sweep]` to variants: what each is, and what cannot be."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import config as settings_module
from ..building import Create, Order, order
from ..config import Config
from ..delivery import Kit, sdk
from ..errors import ConfigError, nearest
from ..program import Target, missing
from ..saying import Say

MOST = 100_000
"""Variants of one sweep; a longer list is a mistake more likely than a wish."""
_OF_ARTIFACTS = ("target", "precision")


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the command line knows, and this room does not.

    Attributes:
        checked: a configuration with its model's own defaults.
        create: what makes the model of one.
        render: makes the page of a report.
    """

    targets: Mapping[str, Target]
    kits: Mapping[str, Kit]
    checked: Callable[[Config], Config]
    create: Callable[[Config], Create]
    render: Any


@dataclass(frozen=True, kw_only=True)
class Trial:
    """A model with its settings, of which several artifacts are variants.

    Attributes:
        number: from 0 on.
        settings: by axis, as `[sweep]` names them; those of target and precision apart.
        trouble: why it cannot be; empty where it can.
        trains: whether its weights are trained.
        task: what its outputs mean; empty where it cannot be.
    """

    number: int
    settings: Mapping[str, Any]
    trouble: str = ""
    trains: bool = False
    task: str = ""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All variants: each trial with each artifact.

    Attributes:
        raw: settings of the file, without `[sweep]`.
        base: folder from which its paths are taken.
        artifacts: target and precision of each.
        axes: those that vary, and their values, target and precision last.
        out: where the kits of a winner go.
    """

    raw: Mapping[str, Any]
    base: Path
    known: Known
    trials: Sequence[Trial]
    artifacts: Sequence[tuple[str, str]]
    axes: Mapping[str, Sequence[Any]]
    out: Path

    def __len__(self) -> int:
        return len(self.trials) * len(self.artifacts)

    def number(self, trial: int, artifact: tuple[str, str]) -> int:
        """Of the variant, from 1 on."""
        return trial * len(self.artifacts) + list(self.artifacts).index(artifact) + 1

    def trial(self, number: int) -> Trial:
        """That a variant is an artifact of."""
        return self.trials[(number - 1) // len(self.artifacts)]

    def varied(self, trial: int, artifact: tuple[str, str]) -> dict[str, Any]:
        """What the variant is, by axis, target and precision last."""
        return {**self.trials[trial].settings, "target": artifact[0], "precision": artifact[1]}

    def config(
        self,
        trial: Trial,
        more: Mapping[str, Any] | None = None,
        artifacts: Sequence[tuple[str, str]] | None = None,
    ) -> Config:
        """The configuration of a trial.

        Args:
            more: settings that it has beside its own, ``{"train.epochs": 7}``.
            artifacts: that it has alone; all of the plan where it is None.

        Raises:
            ConfigError: it cannot be.
        """
        given = _with({**self.raw, "sweep": {}}, {**trial.settings, **(more or {})})
        given["targets"] = _listed(self.artifacts if artifacts is None else artifacts)
        # a variant is an artifact; which of them gets a kit is asked of the winner alone
        given = _with(given, {f"{platform}.sdk": "none" for platform in ("android", "ios")})
        return self.known.checked(settings_module.of(given, "a variant", self.base))

    def order(
        self,
        trial: Trial,
        more: Mapping[str, Any] | None = None,
        artifacts: Sequence[tuple[str, str]] | None = None,
    ) -> Order:
        """What is asked for to make its artifacts, without kits; takes and raises what `config` does."""
        return self._order(self.config(trial, more, artifacts), lambda *_: None)

    def winner(self, trial: Trial, artifact: tuple[str, str], say: Say) -> Order:
        """What is asked for to make the kits of a trial: that of the artifact's platform ships the artifact where a kit has its runtime."""
        given = _with({**self.raw, "sweep": {}}, trial.settings)
        given["targets"] = _listed(self.artifacts)
        (platform, runtime), precision = artifact[0].split("/"), artifact[1]
        has_kit = runtime in settings_module.choices(platform, "sdk")
        has_kit = has_kit and precision in settings_module.choices(platform, "sdk_precision")
        if has_kit:
            given = _with(given, {f"{platform}.sdk": runtime, f"{platform}.sdk_precision": precision})
        else:
            say(f"kits: none has {artifact[0]} {precision}; its artifact lies in the folder")
            given = _with(given, {f"{platform}.sdk": "none"})
        config = self.known.checked(settings_module.of(given, "the winner", self.base))
        for other in {name.split("/")[0] for name, _ in self.artifacts} - {platform}:
            settings = config.settings(other)
            pair = f"{other}/{settings.sdk}", settings.sdk_precision
            if settings.sdk != "none" and pair not in self.artifacts:
                say(f"kits: none for {other}: [{other}] asks for {' '.join(pair)}, which is no variant")
                config = config.model_copy(update={other: settings.model_copy(update={"sdk": "none"})})
        for name in {name.split("/")[0] for name, _ in self.artifacts}:
            settings = config.settings(name)
            older = sdk.earlier(settings, (f"{name}/{settings.sdk}", settings.sdk_precision), self.artifacts)
            if older is not None and older not in self.artifacts:
                say(
                    f"kits: none for {name}: one of {name}/{settings.sdk} takes {' '.join(older)} along, which is no variant"
                )
                config = config.model_copy(update={name: settings.model_copy(update={"sdk": "none"})})
        return self._order(config, say)

    def _order(self, config: Config, say: Say) -> Order:
        known, platforms = self.known, list(dict.fromkeys(name.split("/")[0] for name, _ in self.artifacts))
        return order.checked(
            config, known.targets, known.kits, known.create(config), platforms, self.out, known.render, say
        )


def planned(
    raw: Mapping[str, Any], where: str, base: Path, text: str, known: Known, out: Path, say: Say = lambda *_: None
) -> Plan:
    """All variants of a configuration, and what cannot be of them.

    Args:
        raw: settings by section, with `[sweep]`.
        where: what errors begin with.

    Raises:
        ConfigError: nothing varies, a value cannot be in any variant, or none of them can be.
    """
    asked = settings_module.of(raw, where, base, text)
    axes = settings_module.axes(asked.sweep)
    if not axes:
        raise ConfigError(
            f"{where}: [sweep] is not there or empty, so there is nothing to compare. For example: [sweep] model.width = [0.2, 0.35]"
        )
    artifacts = _artifacts(asked, axes, known.targets, where, say)
    varied = {name: values for name, values in axes.items() if name not in _OF_ARTIFACTS}
    count = len(artifacts)
    for values in varied.values():
        count *= len(values)
    if count > MOST:
        raise ConfigError(
            f"{where}: [sweep] has {count:,} variants, and {MOST:,} are the most: name fewer values, or sweep some axes after the others"
        )
    rest = {name: value for name, value in raw.items() if name != "sweep"}
    names = {
        "target": [*dict.fromkeys(name for name, _ in artifacts)],
        "precision": [*dict.fromkeys(p for _, p in artifacts)],
    }
    plan = Plan(raw=rest, base=base, known=known, trials=(), artifacts=artifacts, axes={**varied, **names}, out=out)
    trials = [
        _tried(plan, Trial(number=number, settings=dict(zip(varied, values, strict=True))))
        for number, values in enumerate(itertools.product(*varied.values()))
    ]
    _check_values(trials, varied, where)
    _check_tasks(trials, where)
    return Plan(**{**vars(plan), "trials": trials})


def _tried(plan: Plan, trial: Trial) -> Trial:
    try:
        asked = plan.order(trial)
    except ConfigError as error:
        return Trial(number=trial.number, settings=trial.settings, trouble=str(error).removeprefix("a variant: "))
    config = asked.config
    return Trial(number=trial.number, settings=trial.settings, trains=config.is_trained, task=config.model.task)


def _check_values(trials: Sequence[Trial], varied: Mapping[str, Sequence[Any]], where: str) -> None:
    """Raise a ConfigError where a value is in no variant that can be: a slip of the pen, and not a wish."""
    if all(trial.trouble for trial in trials):
        raise ConfigError(f"{where}: no variant of [sweep] can be: {trials[0].trouble}")
    # by axis and place of a value on it, that of the first trial that has it; empty where one can be
    troubles: dict[tuple[str, int], str] = {}
    product = itertools.product(*(range(len(values)) for values in varied.values()))
    for trial, places in zip(trials, product, strict=True):
        for one in zip(varied, places, strict=True):
            troubles[one] = trial.trouble and troubles.get(one, trial.trouble)
    for name, values in varied.items():
        for place, value in enumerate(values):
            if trouble := troubles[name, place]:
                raise ConfigError(f"{where}: sweep.{name}: {value!r} cannot be: {trouble}")


def _check_tasks(trials: Sequence[Trial], where: str) -> None:
    """Raise a ConfigError where variants have scores that mean different things."""
    first = {trial.task: trial for trial in reversed(trials) if not trial.trouble}
    if len(first) > 1:
        told = "; ".join(
            f"{task}: {', '.join(f'{n} = {v!r}' for n, v in one.settings.items())}" for task, one in first.items()
        )
        raise ConfigError(
            f"{where}: [sweep] has variants of several tasks, whose scores cannot be compared ({told}). Sweep each task by itself."
        )


def _artifacts(
    asked: Config, axes: Mapping[str, Sequence[Any]], targets: Mapping[str, Target], where: str, say: Say
) -> list[tuple[str, str]]:
    """Target and precision of all artifacts; pairs that there are not are left out, and told."""
    named = axes.get("target") or list(asked.targets) or [n for n, target in targets.items() if not missing(target)]
    for name in named:
        if name not in targets:
            raise ConfigError(f"{where}: sweep.target: unknown target '{name}'. {nearest(str(name), targets)}")
    known = {precision for name in named for precision in targets[name].PRECISIONS}
    for precision in axes.get("precision", ()):
        if precision not in known:
            raise ConfigError(
                f"{where}: sweep.precision: none of {', '.join(named)} has '{precision}'. {nearest(str(precision), known)}"
            )
    found = []
    for name in named:
        own = targets[name].PRECISIONS
        wanted = axes.get("precision") or asked.targets.get(name) or own
        if absent := [precision for precision in wanted if precision not in own]:
            say(f"sweep: {name} has no {' and no '.join(absent)}, and no such variant")
        found += [(name, precision) for precision in wanted if precision in own]
    return found


def _listed(artifacts: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, precision in artifacts:
        found.setdefault(name, []).append(precision)
    return found


def _with(raw: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """A copy with settings by their dotted names."""
    found = dict(raw)
    for name, value in settings.items():
        at = found
        *above, last = name.split(".")
        for part in above:
            at[part] = dict(at.get(part, {}))
            at = at[part]
        at[last] = value
    return found
