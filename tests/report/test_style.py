"""The style: every variable is there for light screens and for dark ones."""

import re

from tfprune.report.plots import _VARIABLES
from tfprune.report.style import STYLE


def test_light_and_dark_define_the_same_variables() -> None:
    light, dark = re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)
    names = [re.findall(r"(--[\w-]+):", block) for block in (light, dark)]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])
    assert set(_VARIABLES.values()) <= set(names[0])
    assert set(re.findall(r"var\((--[\w-]+)\)", STYLE)) <= set(names[0])
