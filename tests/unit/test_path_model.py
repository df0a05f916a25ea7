"""Paths whose slopes follow simple laws, so that every number can be worked out by hand."""

import math
from dataclasses import replace

import pytest
import torch

from speca_core import ConfigError, Session
from speca_core.anchors import HEAD_INPUT
from speca_core.budgets import BUDGETS, Distance, LaneState, Reason, Target
from speca_core.budgets.planned import PlannedPolicy
from speca_core.config import SpecaConfig
from speca_core.courses import ASIDE, DOUBT, REACTS
from speca_core.forecasters import Learned
from speca_core.gatherer import Gatherer
from speca_core.landing import Landing
from speca_core.path_model import PathModel
from speca_core.reaction import Reaction, reaction
from speca_core.replay import better_steps, psnr_band, replay
from speca_core.sampler_response import LongStep, SamplerResponse
from speca_core.tensors import join
from speca_core.trial import Trial
from speca_core.verifiers import Innovation, NoCheck

TURNS = 8
SIGMAS = [1 - turn / TURNS for turn in range(TURNS + 1)]
STEP = -1 / TURNS
EULER = SamplerResponse(tuple(SIGMAS[:-1]), ((STEP,),) * TURNS)
ADAMS = SamplerResponse(  # its first step is Euler's
    tuple(SIGMAS[:-1]),
    ((STEP, 0.0), *[(1.5 * STEP, -0.5 * STEP)] * (TURNS - 1)),
    long_step=LongStep.MULTISTEP,
)
BACK = SamplerResponse(  # its older slopes cancel out
    tuple(SIGMAS[:-1]),
    tuple(
        (3 * STEP, -3 * STEP, 2 * STEP, STEP, -2 * STEP) if turn > 3 else (STEP, 0.0, 0.0, 0.0, 0.0)
        for turn in range(TURNS)
    ),
)
CALM = Reaction(torch.zeros(TURNS, dtype=torch.float64), torch.zeros(TURNS, dtype=torch.float64))
WILD = Reaction(CALM.linear + 4.0, CALM.noise + 4.0)
START, LEVEL, RISE = torch.eye(3, dtype=torch.float64)  # three directions


def model(slopes, response=EULER, answers=CALM, **how):
    """The path model of a run whose slopes are these vectors."""
    start = torch.eye(len(slopes[0]), dtype=torch.float64)[0]
    z = torch.stack([start, *slopes])
    return PathModel(z @ z.T, response, answers, **how)


LINE = [LEVEL + turn * RISE for turn in range(TURNS)]
STAIR = [LEVEL if turn < 3 else RISE for turn in range(TURNS)]


def test_a_line_is_known_from_two_of_its_slopes():
    line = model(LINE)
    assert line.slope_weights((0, 1), 4) == pytest.approx([0, -3, 4], abs=0.02)
    assert line.slope_weights((0, 2), 1) == pytest.approx([0, 0.5, 0.5], abs=0.02)
    assert line.distance((0, 1)) == pytest.approx(0, abs=0.01)


def test_a_constant_slope_is_known_from_one():
    assert model([LEVEL] * TURNS).slope_weights((0,), 5) == pytest.approx([0, 1], abs=1e-3)


def test_without_any_relation_little_is_foreseen():
    white = PathModel(torch.eye(TURNS + 1, dtype=torch.float64), EULER, CALM)
    # Off by all of its size, it is in doubt: of the newest slope 1 - 1 / (1 + DOUBT) is kept.
    kept = 1 - 1 / (1 + DOUBT)
    assert white.slope_weights((0, 2), 1) == pytest.approx([0, 0, kept], abs=1e-3)
    assert white.expected_innovation((0, 2), 3) == pytest.approx(math.hypot(1, kept), abs=1e-3)
    # With the first slope alone the others are missing: seven of size 1/8 each, of a movement of
    # eight. So much is doubted, and reused of seven. The last latent is x_0 and eight of them.
    reused = 7 * (1 - 1 / (1 + DOUBT * 7 / 8))
    assert white.distance((0,)) == pytest.approx(
        math.sqrt((7 + reused**2) / 64) / math.sqrt(1 + 8 / 64), rel=1e-3
    )


def test_a_computed_turn_takes_back_what_the_drafts_did():
    rising = model([turn * RISE for turn in range(TURNS)])
    # At turn 1 the slope 0 was served for 1; at turn 2 the slope is 2, and 1 has to be made up for.
    assert rising.movement_weights((0, 2), 2)[-1] == pytest.approx(1.5 * STEP, rel=1e-2)
    assert rising.movement_weights((0, 2), 3)[-1] == pytest.approx(1.5 * STEP, rel=1e-2)


def test_no_slope_is_looked_for_behind_the_newest_three():
    assert len(model(LINE).slope_weights((0, 1, 2, 3, 4, 5), 6)) == 1 + 3


def test_fewer_plain_steps_go_on_along_the_slope_that_they_see():
    """Along the rise, 0 + 1 + ... + 7 = 28 eighths; in four steps of two it is 2 (0 + 2 + 4 + 6) =
    24 eighths, in one it is none. The last latent is the start less 1 level less 3.5 rises."""
    line, size = model(LINE), math.sqrt(1 + 1 + 3.5**2)
    assert line.fewer_steps(TURNS) == pytest.approx(0, abs=1e-5)
    assert line.fewer_steps(4) == pytest.approx(0.5 / size)
    assert line.fewer_steps(1) == pytest.approx(3.5 / size)
    assert model(LINE, ADAMS).fewer_steps(4) is None


def test_a_model_that_reacts_makes_drafts_dearer():
    calm, wild = model(STAIR), model(STAIR, answers=WILD)
    assert wild.distance((0, 4)) > 1.5 * calm.distance((0, 4))
    assert model(STAIR, answers=CALM, surprise=4.0).distance((0, 4)) == pytest.approx(
        2 * calm.distance((0, 4))
    )


def test_plans_compute_where_the_slope_changes():
    stair = model(STAIR)
    assert stair.plan(2) == (0, 3)
    assert stair.plan_within(0.01) == (0, 3)
    assert stair.plan(1) == (0,)
    assert stair.plan_within(0.0) == tuple(range(TURNS))


def test_a_long_step_of_a_multistep_sampler_looks_back():
    """From sigma 1/2 to 1/4, and 1 before: log 2 each. It adds (1 - 1/2) / 2 (D - D'), and D - D'
    is -3/4 (v - v'). To the end it goes along the newest slope."""
    adams, at = model(LINE, ADAMS).algebra, torch.tensor
    courses = adams.extend(adams.begin(), at([4]))
    to_quarter, to_end = (
        (adams.latent(courses, at([turn]), held=True) - courses.here)[0].tolist()
        for turn in (6, TURNS)
    )
    assert to_quarter == pytest.approx([0, 3 / 16, -1 / 4 - 3 / 16])
    assert to_end == pytest.approx([0, 0, -1 / 2])


def test_a_sampler_that_looks_back_sees_the_slopes_of_that_time():
    """From turn 3 on, where the slopes of turns 1 to 3 are in use: a draft at turn 4 goes on along
    that of 3, and for that of turn 0 stands that of 1."""
    algebra = model(LINE, BACK).algebra
    courses = algebra.begin()
    for turn in (1, 2, 3):
        courses = algebra.extend(courses, torch.tensor([turn]))
    moved = algebra.latent(courses, torch.tensor([5]), held=True) - courses.here
    assert moved[0].tolist() == pytest.approx([0, 0, -STEP, 2 * STEP, STEP])


def heun(slopes, answers=0.0):
    """The path model of a Heun run, of which the last step is Euler's: of as many levels as there
    are slopes, which it finds both times that it asks there. J and nu are `answers`."""
    levels = len(slopes)
    step, turns = -1 / levels, [(level + 1) // 2 for level in range(2 * levels - 1)]
    strides = (step, 0.0), *[(step / 2, -step / 2), (step, 0.0)] * (levels - 1)
    sigmas = tuple(1 - turn / levels for turn in turns)
    react = torch.full((len(turns),), answers, dtype=torch.float64)
    response = SamplerResponse(sigmas, strides, long_step=LongStep.HEUN)
    return model([slopes[turn] for turn in turns], response, Reaction(react, react))


def test_a_long_step_of_heun_goes_along_the_mean_of_its_two_slopes():
    """From sigma 1 to 1/2 along the first slope, where it asks again; half of that is taken back
    for the slope found there. Then on, along it."""
    algebra, at = heun(LINE[:4]).algebra, torch.tensor
    courses = algebra.extend(algebra.begin(), at([3]), held=True)
    assert courses.here[0].tolist() == pytest.approx([0, -1 / 2, 0])
    corrected = algebra.extend(courses, at([4]), held=True)
    assert corrected.here[0].tolist() == pytest.approx([0, -1 / 4, -1 / 4, 0])
    last = algebra.latent(corrected, at([7]), held=True)
    assert last[0].tolist() == pytest.approx([0, -1 / 4, -1 / 4, -1 / 2])


@pytest.mark.parametrize(("count", "seconds"), [(40, ()), (42, (2, 4))])
def test_of_a_level_that_is_asked_for_twice_one_answer_does(count, seconds):
    """Slopes of 40 levels of which nothing follows from others; so many turns are not searched."""
    unknown = heun(torch.eye(41, dtype=torch.float64)[1:].unbind())
    assert unknown.plan(count) == tuple(sorted((0, *range(1, 79, 2), *seconds)))


def test_levels_that_are_nearly_one_are_asked_for_twice():
    assert SamplerResponse((1.0, 0.5, 0.5000001, 0.2), ((1.0,),) * 4).again == (
        False,
        False,
        True,
        False,
    )


def test_between_two_answers_at_a_level_the_model_reacts():
    """Turn 1 asks where turn 2 does, half of the first step of 1/4 times the slope's change away.
    J and nu add to the square of its slope."""
    slopes = [LEVEL, RISE, RISE, RISE]
    still, moved = (heun(slopes, answers).algebra.gram.diagonal() for answers in (0.0, 4.0))
    expected = 2 * (ASIDE * REACTS * 4) ** 2 * (1 / 8) ** 2 * 2
    assert (moved - still).tolist() == pytest.approx([0, 0, expected, 0, 0, 0, 0, 0])


@pytest.mark.parametrize("rule", [LongStep.HEUN, LongStep.MULTISTEP])
def test_behind_its_own_turns_no_long_step_looks_back(rule):
    calm = torch.zeros(TURNS + 1, dtype=torch.float64)
    stage = replace(EULER, long_step=rule).onward([0.1])
    algebra = model([*LINE, LEVEL], stage, Reaction(calm, calm), onward=1).algebra
    own = algebra.extend(algebra.begin(), torch.tensor([7]))
    bends = [
        float((algebra.latent(own, torch.tensor([turn]), held=True) - own.here)[0, 1])
        for turn in (8, 9)
    ]
    assert bends[0] != 0 and bends[1] == 0


def test_a_stage_of_a_multistep_sampler_is_one():
    calm = torch.zeros(TURNS + 1, dtype=torch.float64)
    stage = model([*LINE, LEVEL], ADAMS.onward([0.1]), Reaction(calm, calm), onward=1)
    assert stage.algebra.long_step is LongStep.MULTISTEP
    assert model(LINE).algebra.long_step is LongStep.EULER


def alike(turns, over):
    """The path model of slopes that are alike over so many turns."""
    turn = torch.arange(turns, dtype=torch.float64)
    gram = torch.exp(-(turn[:, None] - turn).square() / (2 * over**2)) + 1e-6 * torch.eye(turns)
    return euler(torch.nn.functional.pad(torch.linalg.cholesky(gram), (1, 0)).unbind())


@pytest.mark.parametrize(("turns", "over", "shortest"), [(21, 5, 10), (12, 3, 7)])
def test_the_shortest_plan_is_found_where_longer_ones_are_insured(turns, over, shortest):
    """One turn more is foretold to bring the run less near, with an insured beginning."""
    smooth = alike(turns, over)
    within = 1.01 * smooth.distance(smooth.plan(shortest))
    assert smooth.distance(smooth.plan(shortest + 1)) > within
    assert smooth.distance(smooth.plan(shortest - 1)) > within
    assert len(smooth.plan_within(within)) == shortest


def test_a_run_of_one_turn_computes_it():
    one = euler([LEVEL])
    assert one.plan_within(0.0) == one.plan_within(0.1) == (0,)


def test_every_plan_begins_with_the_lead():
    stair = model(STAIR, trials=(Trial(1.0, 2, 1.0),))
    assert stair.plan(3) == (0, 1, 3)
    assert all(plan[:2] == (0, 1) for plan in map(stair.plan, range(2, TURNS + 1)))
    assert stair.plan(1) == (0,)


def euler(slopes):
    """The path model of an Euler run in as many steps."""
    turns = len(slopes)
    calm = torch.zeros(turns, dtype=torch.float64)
    sigmas = tuple(1 - turn / turns for turn in range(turns))
    response = SamplerResponse(sigmas, ((-1 / turns,),) * turns)
    return model(slopes, response, Reaction(calm, calm))


def test_a_plan_of_more_than_half_of_the_turns_begins_without_gaps():
    late = euler([LEVEL] * 8 + [RISE, START])  # all that is unknown comes at the end
    assert late.plan(6)[:3] == (0, 1, 2) and late.lead(6) == 3
    assert late.plan(4)[1] > 1 and late.lead(4) == 1


def test_so_does_one_of_heuns_turns():
    """Where all that is unknown comes at the end, fifteen of 27 turns begin with nine."""
    late = heun([LEVEL] * 12 + [RISE, START])
    assert late.plan(15)[:9] == tuple(range(9)) and late.lead(15) == 9


def test_a_beginning_without_gaps_may_be_too_dear():
    """Nothing tells the last five slopes. With three turns at the beginning, two of five are
    missing."""
    level, *unknown = torch.eye(7, dtype=torch.float64)[1:]
    late = euler([*[level] * 5, *unknown])
    assert late.plan(6) == (0, 5, 6, 7, 8, 9) and late.lead(6) == 1


def test_of_two_beginnings_without_gaps_the_longer_one_may_be_too_dear():
    """Nothing tells the last six slopes: of eleven turns five may come first, not six."""
    level, *unknown = torch.eye(8, dtype=torch.float64)[1:]
    late = euler([*[level] * 7, *unknown])
    assert late.plan(11) == (*range(5), *range(7, 13)) and late.lead(11) == 5


def test_a_run_of_few_turns_is_not_insured():
    assert model([LEVEL] * (TURNS - 2) + [RISE, START]).lead(6) == 1


def test_trials_know_the_lead_and_the_distance_better():
    trials = (Trial(0.25, 3, 2.0), Trial(1.0, 1, 1.0))
    tried, untried = model(STAIR, trials=trials), model(STAIR)
    assert tried.plan(4)[:3] == (0, 1, 2)
    assert tried.distance((0, 4)) == pytest.approx(2 * untried.distance((0, 4)))


def test_many_plans_at_once_are_each_as_alone():
    wild = model(STAIR, answers=WILD).algebra
    plans = torch.tensor([[0, 2, 5], [0, 3, 4], [0, 1, 7]])
    together = wild.foretell(plans)
    assert together.tolist() == pytest.approx([float(wild.foretell(p[None])) for p in plans])


def test_the_reaction_is_what_was_measured():
    found = reaction([1.0, 0.905, 0.5], 3.5, flow=True)
    assert found.linear.tolist() == pytest.approx([0, 8, -2.0])
    assert found.noise[1] == pytest.approx(13.5)
    between = reaction([0.732], 2.25, flow=True)  # half way from guidance 1 to 3.5
    assert between.linear.tolist() == pytest.approx([(-2.3 - 2.0) / 2])
    # Noise over signal: 1 stands for a share of .5, and slopes are noise alone.
    assert reaction([1.0], 1.0, flow=False).noise.tolist() == pytest.approx(
        [reaction([0.5], 1.0, flow=True).noise.item() / 4]
    )


# --- a whole run ----------------------------------------------------------------------------------


class Known:
    """A prediction whose slopes are known. Counts what was computed."""

    def __init__(self, slope, x, sigma):
        self.slope, self.x, self.sigma = slope.float(), x, sigma

    def draft(self, call, rows):
        accepted, _ = call.judge(rows, None)
        return accepted, [self.denoised(slope) for slope in call.forecast(HEAD_INPUT, accepted)]

    def compute(self, call, rows):
        call.score(call.scorable(rows), [0.0] * len(call.scorable(rows)))
        call.observe(HEAD_INPUT, rows, [self.slope] * len(rows))
        return [self.denoised(self.slope)] * len(rows)

    def denoised(self, slope):
        return self.x[0] - self.sigma * slope


def sample(session, response, slopes):
    """The last latent of a run from the first direction."""
    x, served = torch.eye(len(slopes[0]))[:1], []
    for turn, sigma in enumerate(map(torch.tensor, response.sigmas)):
        prediction = session.predict(sigma, x)
        call = prediction.open_call(["image"], [0], [0])
        denoised = join(call.answer(Known(slopes[turn], x, sigma)))
        call.close(0.01)
        slope = (x - prediction.serve(x, torch.as_tensor(denoised).reshape(x.shape))) / sigma
        served.insert(0, slope)
        strides = response.strides[turn]
        x = x + sum(stride * s for stride, s in zip(strides, served, strict=False))
    return x[0]


def learned(threshold=0.01, **choice):
    settings = {"forecaster": Learned(), "verifier": Innovation(), "budget": Distance()}
    return SpecaConfig(threshold=threshold, **(settings | choice))


@pytest.mark.parametrize("response", [EULER, ADAMS, BACK], ids=["euler", "adams", "back"])
@pytest.mark.parametrize("slopes", [LINE, STAIR], ids=["line", "stair"])
def test_the_sampler_lands_where_the_plain_run_does(response, slopes):
    path = model(slopes, response)
    session = Session(learned(), SIGMAS, path=path)
    last = sample(session, response, slopes)
    plain = START + path.algebra.moves[-1][1:] @ torch.stack(slopes)
    assert last.tolist() == pytest.approx(plain.tolist(), abs=0.02)
    assert session.report.count("accepted") >= TURNS - 3


# Slopes that follow from one another a little.
WALK = [
    torch.nn.functional.normalize(row, dim=0)
    for row in torch.eye(TURNS + 1, dtype=torch.float64)[1:].cumsum(0)
]


def assert_ends_as_foretold(path, slopes, schedule, count):
    """A run whose slopes are those of the profile, with so many computed turns."""
    choice = {"verifier": NoCheck(), "budget": Target(speedup=len(slopes) / count)}
    session = Session(learned(**choice), schedule, path=path)
    last = sample(session, path.response, slopes)
    plain = path.algebra.moves[-1][1:] @ torch.stack(slopes)
    plain[0] += 1
    computed = [call.rows[0].verdict != "accepted" for call in session.report.calls]
    plan = tuple(turn for turn, was in enumerate(computed) if was)
    assert len(plan) == count
    off = float((last - plain).norm() / plain.norm())
    assert off == pytest.approx(path.distance(plan), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("response", [EULER, ADAMS, BACK], ids=["euler", "adams", "back"])
@pytest.mark.parametrize("count", [3, 5, 6, 7])
def test_a_run_ends_as_far_off_as_was_foretold(response, count):
    assert_ends_as_foretold(model(WALK, response), WALK, SIGMAS, count)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_a_run_of_heun_ends_as_far_off_as_was_foretold(count):
    both = [WALK[(turn + 1) // 2] for turn in range(7)]
    assert_ends_as_foretold(heun(WALK[:4]), both, [1.0, 0.75, 0.5, 0.25, 0.0], count)


@pytest.mark.parametrize("slopes", [LINE, STAIR], ids=["line", "stair"])
def test_heun_lands_where_the_plain_run_does(slopes):
    path = heun(slopes[::2])
    session = Session(learned(), [1.0, 0.75, 0.5, 0.25, 0.0], path=path)
    both = [slopes[::2][(turn + 1) // 2] for turn in range(7)]
    last = sample(session, path.response, both)
    plain = START + path.algebra.moves[-1][1:] @ torch.stack(both)
    assert last.tolist() == pytest.approx(plain.tolist(), abs=0.02)
    assert session.report.count("accepted") >= 3


@pytest.mark.parametrize("response", [EULER, ADAMS], ids=["euler", "adams"])
def test_a_latent_that_is_not_where_the_sampler_went_has_jumped(response):
    """By more than the whole movement, which is .5 along a slope of 4; each image for itself."""
    landing = Landing(model(LINE, response))
    x, slope = torch.zeros(3, 1), torch.tensor([[4.0]] * 3)
    for turn in range(2):
        sigma = torch.tensor(SIGMAS[turn])
        landing.observe(sigma, x)
        point = Session(learned(), SIGMAS).point(SIGMAS[turn])
        landing.serve(replace(point, coordinate=float(turn)), x, x - sigma * slope, {0, 1, 2}, {})
        x = x - 0.5
    x = x + torch.tensor([[0.0], [0.49], [0.51]])
    level, jumped = landing.observe(torch.tensor(SIGMAS[2]), x)
    assert level == pytest.approx(SIGMAS[2]) and jumped == {2}


def test_a_jump_is_the_reason_and_afterwards_there_is_no_profile():
    session = Session(learned(), SIGMAS, path=model(LINE))
    reasons = []
    for turn, sigma in enumerate(SIGMAS[:-1]):
        prediction = session.predict_at(sigma, jumped={0} if turn == 2 else ())
        call = prediction.open_call(["a"], [0], [0])
        call.judge(call.draft_rows, None)
        call.observe(HEAD_INPUT, call.full_rows, [torch.ones(1)] * len(call.full_rows))
        reasons += [row.reason for row in call.close(0.0).rows]
    assert reasons[2:] == ["jump", *["profile"] * (TURNS - 3)]


def test_after_memory_ran_out_a_run_with_a_profile_says_so():
    session = Session(learned(), SIGMAS, path=model(LINE))
    session.predict_at(SIGMAS[0])
    session.stop_caching()
    session.predict_at(SIGMAS[0])  # asked for again
    assert session.stopped is Reason.MEMORY and session.path is None


def test_a_draft_before_a_change_is_taken_back_in_full():
    # One turn late: the stair's step lies at 3, and 4 is the first turn that sees it.
    session = Session(learned(budget=Target(speedup=TURNS / 2)), SIGMAS, path=model(STAIR))
    session.path.plan = lambda count: (0, 4)
    last = sample(session, EULER, STAIR)
    plain = START + model(STAIR).algebra.moves[-1][1:] @ torch.stack(STAIR)
    assert last.tolist() == pytest.approx(plain.tolist(), abs=1e-3)


def test_a_run_at_threshold_zero_is_the_plain_one():
    path = model(LINE)
    session = Session(learned(threshold=0.0), SIGMAS, path=path)
    plain = START.float()
    for slope in LINE:
        plain = plain + STEP * slope.float()
    assert torch.allclose(sample(session, EULER, LINE), plain, atol=1e-6)
    assert session.report.count("accepted") == 0


def test_a_run_that_teaches_is_plain_and_says_so():
    gatherer = Gatherer()
    session = Session(learned(), SIGMAS, gatherer=gatherer)
    sample(session, EULER, LINE)
    reasons = {row.reason for call in session.report.calls for row in call.rows}
    assert reasons == {Reason.LEARNING.value}


def test_a_sampler_that_goes_another_way_is_followed_by_no_profile():
    session = Session(learned(), SIGMAS, path=model(LINE))
    verdicts = []
    for sigma in (1.0, 0.9, 0.85, 0.8):  # the profile expects steps of 1/8
        call = session.predict_at(sigma).open_call(["image"], [0], [0])
        verdicts += [row.reason for row in call.records]
    assert Reason.DRAFT.value not in verdicts[1:]
    assert verdicts[-1] == Reason.PROFILE.value


def state(turn):
    point = Session(learned(), SIGMAS, path=model(STAIR)).point(SIGMAS[turn])
    return LaneState(point, distance=0.0, streak=0, computed=0, calls=0)


@pytest.mark.parametrize("name", ["target", "distance"])
def test_planned_budgets_compute_their_plan(name):
    policy = BUDGETS[name]().policy(0.01, model(STAIR))
    policy.plan = (0, 3)
    states = [state(turn) for turn in range(TURNS)]
    assert policy.decide(states[0]) is Reason.BUDGET
    policy.on_computed(states[0], None, None)
    assert [policy.decide(s) for s in states[1:4]] == [Reason.DRAFT, Reason.DRAFT, Reason.BUDGET]


def test_a_plan_is_searched_for_behind_the_first_turn_and_once():
    searches = []

    def search():
        searches.append(1)
        return 0, 3

    policy = PlannedPolicy(0.01, TURNS, search, hurries=True)
    assert policy.decide(state(0)) is Reason.BUDGET and not searches
    for turn in (0, 3):
        policy.on_computed(state(turn), None, None)
    assert searches == [1]


def test_a_surprise_halves_the_way_to_the_next_computed_turn():
    policy = Distance().policy(0.01, model(STAIR))
    policy.plan = (0, 1, 7)
    policy.on_surprise()
    policy.on_computed(state(1), 0.5, None)
    assert policy.due == 1 + 3
    policy.on_computed(state(1), 0.1, None)
    assert policy.due == 7


# --- what-if --------------------------------------------------------------------------------------


def recorded(threshold=0.01):
    """A run with a profile, as its report tells it."""
    path = model(STAIR, answers=WILD)
    session = Session(learned(threshold), SIGMAS, path=path)
    sample(session, EULER, STAIR)
    report = session.report
    report.profile = {"state": "served", "plans": path.plans().to_json()}
    return report, path


def computed(report):
    return [call.index for call in report.calls if call.computed]


@pytest.mark.parametrize("threshold", [0.0, 0.002, 0.02, 0.5])
def test_what_if_follows_the_plan_of_another_threshold(threshold):
    report, path = recorded()
    predicted = replay(report, learned(threshold).to_dict())
    every = list(range(TURNS))
    assert computed(predicted) == (list(path.plan_within(threshold)) if threshold else every)
    foretold = path.distance(computed(predicted))
    assert predicted.profile["foretold"] == pytest.approx(foretold, rel=1e-3)


def test_what_if_foretells_the_psnr_from_the_distance():
    report, _ = recorded()
    predicted = replay(report, learned(0.5).to_dict())
    predicted.profile["foretold"] = 0.01  # 40 dB below the latent
    assert psnr_band(report, predicted) == pytest.approx((46, 55))


def test_what_if_says_how_many_plain_steps_are_nearer():
    report, _ = recorded()
    predicted = replay(report, learned(0.5).to_dict())
    steps = len(computed(predicted))
    predicted.profile |= {"foretold": 0.5, "fewer_steps": [[1, 0.9], [TURNS, 0.0]]}
    at = 0.9 * (TURNS - steps) / (TURNS - 1)
    for foretold, better in ((at - 0.01, None), (at + 0.01, steps)):
        predicted.profile["foretold"] = foretold
        assert better_steps(predicted) == better
    del predicted.profile["fewer_steps"]
    assert better_steps(predicted) is None


def test_what_if_of_a_run_that_taught_nothing_is_refused():
    report, _ = recorded()
    report.profile = {"state": "learning"}
    with pytest.raises(ConfigError, match="what-if: the run was the plain model's"):
        replay(report, learned().to_dict())
