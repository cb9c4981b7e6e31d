"""Pictures of environments that are places: a cart with its pole, a pendulum, a hill, a maze.

What the agent sees is drawn in full colour. Grey is what is true and hidden from it: the state
behind noisy readings, speeds, the way to turn. Orange is its last action.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from recurrent_rl.envs.drawing import FAINT, INK, MARGIN, PAPER, WIDTH, Colours, font

SCENE_HEIGHT = 184
"""Of a scene, in pixels."""
_SEEN, _HIDDEN, _DONE = (0, 114, 178), (186, 186, 186), (230, 159, 0)
_GROUND, _LIMIT = (120, 120, 120), (220, 220, 220)
_LEGEND = "blue: observed\ngrey: true, hidden\norange: last action"
_FINER = 3
"""A scene is drawn so many times as large and made smaller, for smooth lines."""

Point = tuple[float, float]
"""Pixels from the left and from the top."""
Colour = tuple[int, int, int]


class Canvas:
    """A white picture `[SCENE_HEIGHT, WIDTH, 3]`, drawn on in its own pixels."""

    def __init__(self) -> None:
        from PIL import Image, ImageDraw

        self._image = Image.new("RGB", (WIDTH * _FINER, SCENE_HEIGHT * _FINER), PAPER)
        self._to = ImageDraw.Draw(self._image)
        self._note = ""

    def line(self, points: Sequence[Point], colour: Colour, width: float = 2) -> None:
        """A line through these points, round where it ends."""
        self._to.line(_finer(points), colour, round(width * _FINER), joint="curve")
        for end in (points[0], points[-1]):
            self.disc(end, width / 2, colour)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """A disc."""
        x, y, r = centre[0] * _FINER, centre[1] * _FINER, radius * _FINER
        self._to.ellipse((x - r, y - r, x + r, y + r), colour)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """A filled polygon."""
        self._to.polygon(_finer(points), colour)

    def box(self, left: float, top: float, right: float, bottom: float, colour: Colour) -> None:
        """A filled box."""
        self.polygon([(left, top), (right, top), (right, bottom), (left, bottom)], colour)

    def arrow(self, points: Sequence[Point], colour: Colour, width: float = 3) -> None:
        """A line with a head at its last point; nothing where it is too short to have one."""
        (x, y), tip = points[-2], points[-1]
        if math.dist(points[0], tip) < 4:
            return
        length = max(math.dist((x, y), tip), 1e-6)
        along = ((tip[0] - x) / length, (tip[1] - y) / length)
        self.line(points, colour, width)
        across, size = (-along[1], along[0]), 2.2 * width
        sides = [
            (tip[0] + side * size * across[0], tip[1] + side * size * across[1]) for side in (-1, 1)
        ]
        ahead = (tip[0] + 1.6 * size * along[0], tip[1] + 1.6 * size * along[1])
        self.polygon([*sides, ahead], colour)

    def note(self, text: str) -> None:
        """Small text at the top left."""
        self._note = text

    def picture(self) -> Colours:
        """What was drawn."""
        from PIL import Image, ImageDraw

        small = self._image.resize((WIDTH, SCENE_HEIGHT), Image.Resampling.LANCZOS)
        ImageDraw.Draw(small).text((MARGIN, 8), self._note, FAINT, font(13))
        return np.asarray(small)


def _finer(points: Sequence[Point]) -> list[Point]:
    return [(x * _FINER, y * _FINER) for x, y in points]


_METRE = 100.0
_TRACK = 150.0


def cart_pole(
    seen: tuple[float, float],
    true: tuple[float, float, float, float],
    limits: tuple[float, float],
    push: int,
) -> Colours:
    """A cart that balances a pole.

    Args:
        seen: position (m) and angle (rad), as observed.
        true: position, velocity, angle and angular velocity.
        limits: of position and angle.
        push: -1 to the left, 1 to the right, 0 for none yet.
    """
    canvas = Canvas()
    position, velocity, angle, spin = true
    middle, half = WIDTH / 2, limits[0] * _METRE
    canvas.line([(0, _TRACK), (WIDTH, _TRACK)], _GROUND)
    for side in (-1, 1):
        end = middle + side * half
        canvas.line([(end, _TRACK - 12), (end, _TRACK + 12)], _GROUND, 3)
        steepest = _tip(position, side * limits[1])
        canvas.line([_tip(position, 0, 0), steepest], _LIMIT, 1)
    if not np.allclose(seen, (position, angle), atol=1e-3):
        _draw_cart(canvas, position, angle, _HIDDEN, _HIDDEN)
    _draw_cart(canvas, *seen, INK, _SEEN)
    wheel = (middle + position * _METRE, _TRACK + 22)
    canvas.arrow([wheel, (wheel[0] + 40 * velocity, wheel[1])], _HIDDEN)
    tip = _tip(position, angle)
    turn = (40 * spin * math.cos(angle), 40 * spin * math.sin(angle))
    canvas.arrow([tip, (tip[0] + turn[0], tip[1] + turn[1])], _HIDDEN)
    if push:
        from_side = middle + seen[0] * _METRE - push * 62
        canvas.arrow([(from_side, _TRACK - 14), (from_side + push * 24, _TRACK - 14)], _DONE, 4)
    canvas.note(_LEGEND)
    return canvas.picture()


def _tip(position: float, angle: float, length: float = _METRE) -> Point:
    """Where a pole of this length on the cart ends."""
    x, y = WIDTH / 2 + position * _METRE, _TRACK - 22
    return x + length * math.sin(angle), y - length * math.cos(angle)


def _draw_cart(canvas: Canvas, position: float, angle: float, cart: Colour, pole: Colour) -> None:
    x = WIDTH / 2 + position * _METRE
    canvas.box(x - 26, _TRACK - 24, x + 26, _TRACK - 6, cart)
    for side in (-14, 14):
        canvas.disc((x + side, _TRACK - 5), 5, cart)
    canvas.line([_tip(position, angle, 0), _tip(position, angle)], pole, 7)
    canvas.disc(_tip(position, angle, 0), 4, PAPER)


_PIVOT: Point = (WIDTH / 2, 94.0)
_ROD = 74.0


def pendulum(seen: tuple[float, float], angle: float, speed: float, torque: float) -> Colours:
    """A pendulum that is to stand up.

    Args:
        seen: cosine and sine of the angle, as observed.
        angle: from upright (rad), to the left where it is positive.
        speed: of the angle (rad/s).
        torque: the last one, 2 at most.
    """
    canvas = Canvas()
    canvas.line([_around(0, _ROD + 6), _around(0, _ROD + 12)], _LIMIT, 3)
    looks = math.atan2(seen[1], seen[0])
    if abs(math.remainder(looks - angle, 2 * math.pi)) > 1e-3:
        canvas.line([_PIVOT, _around(angle, _ROD)], _HIDDEN, 10)
    canvas.line([_PIVOT, _around(looks, _ROD)], _SEEN, 10)
    canvas.disc(_PIVOT, 5, INK)
    canvas.arrow(_arc(angle, 0.16 * speed, _ROD + 10), _HIDDEN)
    canvas.arrow(_arc(math.pi / 2 * np.sign(torque), 0.8 * torque, 26), _DONE, 4)
    canvas.note(_LEGEND)
    return canvas.picture()


def _around(angle: float, radius: float) -> Point:
    return _PIVOT[0] - radius * math.sin(angle), _PIVOT[1] - radius * math.cos(angle)


def _arc(start: float, turn: float, radius: float) -> list[Point]:
    return [_around(start + turn * share, radius) for share in np.linspace(0, 1, 12)]


def mountain_car(position: float, velocity: float, force: float, goal: float) -> Colours:
    """A car in a valley, whose motor is too weak for the hill.

    Args:
        position: from -1.2 to 0.6; it is what is observed.
        velocity: 0.07 at most.
        force: the last one, 1 at most.
        goal: the position to reach.
    """
    canvas = Canvas()
    places = np.linspace(-1.2, 0.6, 80)
    ground = [_on_hill(x) for x in places]
    canvas.polygon([*ground, (ground[-1][0], SCENE_HEIGHT), (ground[0][0], SCENE_HEIGHT)], _LIMIT)
    canvas.line(ground, _GROUND)
    foot = _on_hill(goal)
    canvas.line([foot, (foot[0], foot[1] - 30)], INK)
    canvas.polygon(
        [(foot[0], foot[1] - 30), (foot[0] + 18, foot[1] - 24), (foot[0], foot[1] - 18)], INK
    )
    x, y = _on_hill(position)
    before, after = _on_hill(position - 0.01), _on_hill(position + 0.01)
    slope = math.atan2(after[1] - before[1], after[0] - before[0])
    along, up = (math.cos(slope), math.sin(slope)), (math.sin(slope), -math.cos(slope))

    def at(ahead: float, above: float) -> Point:
        return x + ahead * along[0] + above * up[0], y + ahead * along[1] + above * up[1]

    canvas.polygon([at(-17, 5), at(17, 5), at(17, 12), at(8, 19), at(-8, 19), at(-17, 12)], _SEEN)
    for wheel in (-10, 10):
        canvas.disc(at(wheel, 5), 5, INK)
    canvas.arrow([at(0, 30), at(900 * velocity, 30)], _HIDDEN)
    side = math.copysign(20, force)
    canvas.arrow([at(side, 12), at(side + 22 * force, 12)], _DONE, 4)
    canvas.note(_LEGEND)
    return canvas.picture()


def _on_hill(position: float) -> Point:
    """A place on the ground; its height is that of Gymnasium's drawing."""
    height = 0.45 * math.sin(3 * position) + 0.55
    return 40 + (position + 1.2) / 1.8 * 560, 168 - 120 * height


def t_maze(position: int, length: int, goal: int, is_sign_seen: bool) -> Colours:
    """A corridor that ends in two arms.

    Args:
        position: of the agent, from 0 to `length`, where the junction is.
        length: steps from the sign to the junction.
        goal: 0 for the left arm, which is drawn above, 1 for the right one.
        is_sign_seen: whether the agent is shown the sign now.
    """
    canvas = Canvas()
    side = min(40.0, 560 / (length + 1))
    arm, middle = max(side, 14.0), 98.0
    left = (WIDTH - side * (length + 1)) / 2
    across = left + side * length
    half = arm / 2
    canvas.box(left, middle - half, across + side, middle + half, _LIMIT)
    for way in (-1, 1):
        canvas.box(across, middle + way * half, across + side, middle + way * 3 * half, _LIMIT)
    if side >= 6:
        for cell in range(1, length + 1):
            x = left + cell * side
            canvas.line([(x, middle - half), (x, middle + half)], PAPER, 1)
    way = 1 if goal else -1
    canvas.disc((across + side / 2, middle + way * 2 * half), min(7, half / 2), _HIDDEN)
    sign = left + side / 2
    start, end = middle + half + 10, middle + half + 30
    points = [(sign, start), (sign, end)] if goal else [(sign, end), (sign, start)]
    canvas.arrow(points, _SEEN if is_sign_seen else _HIDDEN, 4)
    canvas.disc((left + (position + 0.5) * side, middle), max(4, min(11, side / 3)), INK)
    canvas.note("blue: the sign, while it is seen\ngrey: it and its arm, hidden")
    return canvas.picture()
