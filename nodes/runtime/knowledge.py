"""What a run begins with, and what it leaves behind."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ...speca_core.budgets.planned import PlannedPolicy
from ...speca_core.config import SpecaConfig
from ...speca_core.errors import ConfigError
from ...speca_core.gatherer import Gatherer, levels_of
from ...speca_core.path_model import PathModel
from ...speca_core.profile import MOST_LEVELS, Profile
from ...speca_core.report import RunReport
from ...speca_core.sampler_response import SamplerResponse
from .fingerprint import Key, key_of
from .harmless import harmless
from .profiles import ProfileStore

MOVES_MASK = "denoise_mask_function"  # of a model's options, as DifferentialDiffusion has it
log = logging.getLogger("speca")


class Knowledge:
    """What a run begins with: a profile that serves it, or the wish to make one of it, where its
    settings ask for that.

    Attributes:
        config: settings of the run: without a profile, as far as none can be had.
        path: what a profile says of the run; None: nothing.
        gatherer: makes a profile of it; the run is plain then.
        trouble: why there can be neither, where one is asked for; empty otherwise.

    Args:
        changes: prompts, controls or LoRAs begin, end or change on the way, or may.
        carried: the profile that a workflow brings along, or anything else.
        end: the noise level at which the schedule ends.
    """

    def __init__(
        self,
        store: ProfileStore,
        config: SpecaConfig,
        guider: Any,
        flow: bool,
        response: SamplerResponse | None,
        changes: bool,
        carried: Any = None,
        end: float = 0.0,
    ) -> None:
        config = config.judged
        self.path: PathModel | None = None
        self.gatherer: Gatherer | None = None
        self._store = store
        self._response = response
        self._key: Key | None = None
        self._profile: Profile | None = None
        self.trouble = self._begin(config, guider, flow, changes, carried, end)
        self.config = config.without_profile if self.trouble else config
        if self.config == config:  # nothing in the settings asks for a profile
            self.trouble = ""

    def _begin(
        self,
        config: SpecaConfig,
        guider: Any,
        flow: bool,
        changes: bool,
        carried: Any,
        end: float,
    ) -> str:
        """Find a profile, or make ready to learn one. Returns why there can be neither."""
        response = self._response
        if config.forecaster.name != "learned":
            return f"the forecaster is {config.forecaster.name}, not learned"
        with harmless("reading the weights of the model"):
            self._key = key_of(guider, flow)
        if config.effective_level != "prediction":
            return f"level is {config.effective_level}, not prediction"
        if not config.hindsight:
            return "hindsight is off"
        if response is None:
            return "this sampler's steps do not follow from the model's answers alone"
        if changes:
            return "prompts, controls or LoRAs change on the way"
        if MOVES_MASK in guider.model_options:  # what was not drawn has no slope to be repaired
            return "the mask changes on the way"
        if self._key is None:
            return "the model could not be read, or its guidance is not one number"
        with harmless("reading the profile of the model"):
            if config.threshold > 0:
                self._profile = self._store.find(self._key, response.sigmas) or self._brought(
                    carried, response
                )
            if self._profile is not None:
                self.path = self._store.path(self._key, self._profile, response, end)
        if self.path is None and end > 0:  # of a stage alone nothing is learned
            return "another sampler goes on with the latent"
        if self.path is None and (levels := levels_of(response.sigmas)) > MOST_LEVELS:
            return f"{levels} noise levels are more than the {MOST_LEVELS} that a profile holds"
        if self.path is None:
            self.gatherer = Gatherer()
        return ""

    def _brought(self, carried: Any, response: SamplerResponse) -> Profile | None:
        """What a workflow carries, if it is of this very model, of which nothing is known here."""
        key = self._key
        if key is None or not isinstance(carried, Mapping) or carried.get("name") != key.name:
            return None
        try:
            self._store.take(carried)
        except ConfigError as error:
            log.warning("SpeCa: the workflow's profile is not taken: %s", error)
            return None
        log.info("SpeCa: the workflow brought a profile of this model.")
        return self._store.find(key, response.sigmas)

    @property
    def told(self) -> dict[str, Any] | None:
        """For the report; None if the settings ask for no profile."""
        if self.trouble:
            return {"state": "none", "why": self.trouble}
        named = {"name": self._key.name} if self._key else {}
        if self.gatherer is not None:
            return {"state": "learning", **named}
        if self._profile is None:
            return None
        return {
            "state": "served",
            **named,
            "runs": self._profile.runs,
            "guidance": self._profile.guidance,
            "surprise": self._profile.surprise,
        }

    def tell(self, report: RunReport) -> None:
        """The run is over: its report gets the plans for other thresholds, and what was foretold
        of it. After a plain run they are those of what it has taught."""
        path = self.path or (self._taught() if report.finished else None)
        if path is None or report.profile is None or not report.rows:
            return
        plans = path.plans()
        report.profile |= {"plans": plans.to_json()}
        for _, plan in plans.ladder:
            if (distance := path.fewer_steps(len(plan))) is not None:
                told = [len(plan), float(f"{distance:.4g}")]
                report.profile.setdefault("fewer_steps", []).append(told)
        if self.gatherer is None:
            foretold = plans.distance(path.turns * report.evaluations / report.rows)
            policy = self.config.budget.policy(self.config.threshold, path)
            if isinstance(policy, PlannedPolicy):
                # A picture that surprised got more than the plan has, and comes no nearer for it.
                foretold = path.distance(policy.plan)
            report.profile |= {"foretold": foretold}

    def _taught(self) -> PathModel | None:
        """What a plain run says of the next one like it."""
        if self.gatherer is None or self._key is None or self._response is None:
            return None
        profile = self.gatherer.profile(self._key.guidance, self._key.flow)
        return self._store.path(self._key, profile, self._response) if profile else None

    def learn(self, report: RunReport) -> bool:
        """The run is over, and finished: keep what it has taught.

        Returns:
            Whether a profile serves the next run like it, which made this one plain.
        """
        if self._key is None:
            return False
        if self.gatherer is not None:
            run = self.gatherer.profile(self._key.guidance, self._key.flow)
            if run is not None:
                self._store.learn(self._key, run)
                return self.config.threshold > 0
        elif self.path is not None and self._profile is not None:
            rows = (row for call in report.calls for row in call.rows)
            surprises = [row.surprise for row in rows if row.surprise is not None]
            if surprises:
                usual = self.path.surprise  # which they were measured by
                judged = self._profile.judged_by([usual * surprise for surprise in surprises])
                self._store.renew(self._key, self._profile, judged)
        return False
