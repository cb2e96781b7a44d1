"""Dynamometer cards of sucker-rod pumps in seven working conditions, drawn by a simulation.

A card is the curve of load over position at the top of a pump's rods through one stroke; its shape
tells what the pump at their bottom does. No field data are used. Every card is simulated anew from
a well and a fault drawn at random, by the physics in the textbooks (Gibbs 1963, "Predicting the
behavior of sucker-rod pumping systems"; Takacs, "Sucker-Rod Pumping Handbook"):

* The rods are an elastic bar with damping: u_tt = a² u_xx - c u_t for the displacement u (upwards)
  at depth x, a = 4,970 m/s in steel. The surface unit moves their top, u(0, t), like a crank with a
  pitman. They are cut into 8 pieces and integrated explicitly, the position first.
* At their bottom hangs the plunger, which bears the load F = A · (p_d - p): p_d is the pressure of
  the column of liquid above it, p that in the barrel below it, A its area.
* In the barrel is liquid, which does not give way, and gas, for which p · volume stays constant.
  Below the intake pressure p_i the standing valve opens and lets in liquid with its share of gas;
  above p_d the travelling valve opens and lets them out through the plunger.
* At the top the load is the weight of the rods in the liquid plus the rods' tension there.

The conditions: "normal"; "gas interference", the intake gives much gas at a high pressure, which is
compressed slowly before the travelling valve opens; "fluid pound", the well gives less liquid than
the pump lifts, so that the plunger falls through thin gas and hits the liquid; "leaking travelling
valve" and "leaking standing valve", liquid passes a closed valve, in proportion to the difference
of pressures; "stuck", the plunger does not move, the rods only stretch; "rod parted", the rods end
where they broke, at one of the joints, and lift nothing but themselves.

Depth, stroke, speed, rods, plunger, pressures, damping and the degree of the fault differ from well
to well, so that a slight fault looks nearly normal; sensors add noise. A card is drawn into 28 x 28
grey pixels: position from left to right over the stroke, load from 0 at the bottom to what the
well's normal load would reach at its most, or the card's own if that is higher.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw

from tfkd.data.assembly import splits_in_memory
from tfkd.data.resizing import STRETCH, resize

CONDITIONS = (
    "normal",
    "gas interference",
    "fluid pound",
    "leaking travelling valve",
    "leaking standing valve",
    "stuck",
    "rod parted",
)
EACH = 300  # cards of a condition
SIZE = 28

SOUND = 4970.0  # m/s, in steel rods
STEEL, MODULUS = 7850.0, 2.07e11  # kg/m³, Pa
GRAVITY = 9.81
PIECES = 8  # of the rods
STEPS = 720  # of a stroke; a step must be shorter than sound takes through a piece
STROKES = 3  # simulated; the last one is the card
FINER = 4  # a card is drawn so many times larger, then reduced
MARGIN = 1  # pixels around it
STUCK = CONDITIONS.index("stuck")


def load(size=None, rule=STRETCH, **division):
    """The cards; no published split, so validation and test are cut.

    Args:
        size: (height, width) to resize to; None for 28x28.
        rule: of resizing, see `tfkd.data.resizing`.
        **division: validation_fraction, seed, limit, as `tfkd.data.load` takes them.

    Returns:
        `Splits`.
    """
    images, labels = cards()
    if size is not None:
        images = resize(images, size, rule).numpy()
    arrays = {"train": (images, labels)}
    return splits_in_memory("rod_pump_cards", arrays, CONDITIONS, rule, **division)


@functools.cache
def cards(each=EACH, seed=0):
    """(uint8 images (n, 28, 28, 1), int64 labels (n,)), the conditions in turns."""
    labels = np.tile(np.arange(len(CONDITIONS)), each)
    # RandomState's streams are frozen by NumPy's policy (NEP 19); Generator's are not.
    random = np.random.RandomState(seed)
    well = wells(labels, random)
    position, load = simulate(well)
    load += 0.01 * well["most"][:, np.newaxis] * random.standard_normal(load.shape)
    images = np.stack([drawn(*card) for card in zip(position, load, well["most"], strict=True)])
    return images[..., np.newaxis], labels


def wells(labels, random):
    """A well, and a fault in it, for each label: {name: array (n,)}, in SI units."""

    def between(low, high):
        return random.uniform(low, high, len(labels))

    def only(condition, values, otherwise):
        return np.where(labels == CONDITIONS.index(condition), values, otherwise)

    depth, stroke = between(1000, 2000), between(1.8, 4.2)
    period = 60 / between(4.5, 9)
    rods = np.pi / 4 * between(0.019, 0.0255) ** 2
    plunger = np.pi / 4 * between(0.038, 0.057) ** 2
    liquid = between(850, 1000)
    discharge = liquid * GRAVITY * depth + between(0.5e6, 1.5e6)
    # Of the plunger's highest speed; a tight valve lets next to nothing through.
    fastest = np.pi * stroke / period
    gassy = between(0.15, 0.4)
    well = {
        "label": labels,
        "depth": depth,
        "stroke": stroke,
        "period": period,
        "rods": rods,
        "plunger": plunger,
        "discharge": discharge,
        "intake": discharge * only("gas interference", gassy, between(0.02, 0.12)),
        "gassy": only("gas interference", between(0.25, 0.7), between(0, 0.06)),
        "dead": stroke * only("gas interference", between(0.01, 0.05), 0.002),
        "give": stroke * between(0.01, 0.05),
        "supply": stroke * only("fluid pound", between(0.2, 0.75), 9.0),
        "travelling": fastest * only("leaking travelling valve", between(0.25, 0.9), 0.01),
        "standing": fastest * only("leaking standing valve", between(0.25, 0.9), 0.01),
        "damping": between(0.5, 1.5),
        "pitman": between(0.1, 0.3),
        "whole": only("rod parted", random.randint(1, PIECES, len(labels)), PIECES),
    }
    weight = rods * GRAVITY * (STEEL - liquid)  # of a metre
    lifted = plunger * (discharge - well["intake"])
    shaken = 1 + stroke * (2 * np.pi / period) ** 2 / (2 * GRAVITY)
    return well | {
        "weight": weight * depth * well["whole"] / PIECES,
        "most": 1.2 * (weight * depth * shaken + lifted),
    }


def simulate(well):
    """The cards of wells: (positions, loads), each (n, STEPS), metres and newtons."""
    count, step = len(well["label"]), well["period"] / STEPS
    piece = well["depth"] / PIECES
    stiffness = np.tile(MODULUS * well["rods"] / piece, (PIECES, 1))
    # What is below a parted piece hangs on nothing, and has nothing to do with the card.
    stiffness[np.minimum(well["whole"], PIECES - 1), np.arange(count)] *= well["whole"] == PIECES
    masses = np.tile(STEEL * well["rods"] * piece, (PIECES, 1))
    masses[-1] /= 2  # half a piece hangs at the last joint
    loaded, stuck = well["whole"] == PIECES, well["label"] == STUCK
    joints = np.zeros((PIECES, count))
    speeds, pulls = np.zeros((2, PIECES + 1, count))
    stretched = np.empty((PIECES, count))
    barrel = Barrel(well)
    positions, loads = np.empty((2, STEPS, count))
    turn = 2 * np.pi * np.arange(STEPS) / STEPS
    crank = (1 - np.cos(turn)) / 2 + np.outer(well["pitman"] / 4, np.sin(turn) ** 2)
    tops = (well["stroke"][:, None] * crank / crank.max(axis=1, keepdims=True)).T.copy()
    for _ in range(STROKES):
        for number, top in enumerate(tops):
            stretched[0] = top - joints[0]
            stretched[1:] = joints[:-1] - joints[1:]
            pulls[:-1] = stretched * stiffness
            pulls[-1] = barrel.load * loaded
            speeds[:-1] += step * (
                (pulls[:-1] - pulls[1:]) / masses - well["damping"] * speeds[:-1]
            )
            speeds[-2] *= ~stuck
            joints += step * speeds[:-1]
            barrel.follow(speeds[-2], step)
            positions[number], loads[number] = top, well["weight"] + pulls[0]
    return positions.T, loads.T


class Barrel:
    """What is between the standing and the travelling valve, in metres of the plunger's way.

    At pressure p the gas has the height `gas` / p, and `give` · (p_d - p) / (p_d - p_i) is how much
    liquid and tubing have expanded; both together are the height that the plunger has opened.

    Attributes:
        load: on the plunger, newtons.
    """

    def __init__(self, well):
        self._well, self._intake, self._discharge = well, well["intake"], well["discharge"]
        self._rise = self._discharge - self._intake
        self._softness = well["give"] / self._rise
        self._gas, self._height, self._share, self._entered = np.zeros((4, *well["depth"].shape))

    @property
    def load(self):
        return self._well["plunger"] * self._rise * self._share

    def _pressure(self):
        """p of gas / p + softness · (p_d - p) = height."""
        half = (self._height - self._softness * self._discharge) / 2
        root = np.sqrt(half * half + self._softness * self._gas)
        return (root - half) / self._softness

    def follow(self, speed, step):
        """One step of the plunger, up where `speed` is above 0."""
        well, share = self._well, self._share
        leaking = well["travelling"] * share - well["standing"] * (1 - share)
        self._height += step * (speed - leaking)
        pressure = self._pressure()
        # The standing valve: liquid with its gas as long as there is some, then gas alone.
        filled = self._gas / self._intake + well["give"]
        entering = np.where(pressure < self._intake, self._height - filled, 0.0)
        gas = np.where(self._entered < well["supply"], well["gassy"], 1.0)
        self._entered = np.where(speed < 0, 0.0, self._entered + (1 - gas) * entering)
        self._gas += self._intake * gas * entering
        self._height -= (1 - gas) * entering
        # The travelling valve: the gas, which is on top, but for what stays in the dead space; then
        # liquid.
        kept = np.minimum(well["dead"], self._gas / self._discharge)
        opened = pressure > self._discharge
        self._height = np.where(opened, np.maximum(self._height, kept), self._height)
        self._gas = np.where(opened, self._discharge * self._height, self._gas)
        pressure = np.clip(self._pressure(), self._intake, self._discharge)
        self._share = (self._discharge - pressure) / self._rise


def drawn(position, load, most):
    """A card as uint8 pixels (28, 28), the lines white."""
    side = SIZE - 2 * MARGIN
    right = position / position.max()
    up = np.maximum(load, 0.0) / max(most, load.max())
    # Whole numbers: the last digit of a simulated load moves no pixel.
    across = np.rint((MARGIN + side * right) * FINER - 0.5).astype(int)
    down = np.rint((SIZE - MARGIN - side * up) * FINER - 0.5).astype(int)
    points = [*zip(across.tolist(), down.tolist(), strict=True)]
    image = Image.new("L", (SIZE * FINER, SIZE * FINER))
    ImageDraw.Draw(image).line([*points, points[0]], fill=255, width=FINER)
    return np.asarray(image.reduce(FINER))
