import dataclasses
import json

import pytest

from sparc.common.config import UNSET, from_mapping, load_config, option, to_mapping
from sparc.common.defaults import changed, given_settings, recorded_settings, set_defaults
from sparc.common.errors import ConfigError

GAITS = {
    "walk": {},
    "ride": {"speed": 15.0, "distance": lambda config: 2 * config.days},
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Journey:
    gait: str = option("ride", "How.", choices=GAITS, former_values={"horse": "ride"})
    days: int = option(1, "How long.")
    speed: float = option(5.0, "How fast.", default_by="gait")
    distance: int = option(0, "How far.", default_by="gait", added=True, former="way")

    def __post_init__(self):
        set_defaults(self, GAITS[self.gait])


def test_what_is_not_given_is_decided_and_what_is_given_wins(tmp_path):
    assert (Journey().speed, Journey(days=3).distance) == (15, 6)
    assert (Journey(speed=5).speed, Journey(gait="walk").speed) == (5, 5)
    file = tmp_path / "sparc.toml"
    file.write_text('[train]\ngait = "horse"\ndays = 4\n')
    assert load_config(Journey, "train", file, {"speed": 1.0}) == Journey(days=4, speed=1)


def test_a_change_is_decided_again_but_not_what_was_given():
    ride = Journey(speed=9)
    assert changed(ride, days=5) == Journey(days=5, speed=9)
    walk = changed(ride, gait="walk")
    assert (walk.speed, walk.distance) == (9, 0)
    assert changed(changed(Journey(), gait="walk"), gait="ride") == Journey()
    kept = dataclasses.replace(Journey(), gait="walk")
    assert (kept.speed, changed(kept, gait="ride").speed) == (15, 15)


def test_given_settings_leave_out_what_was_decided():
    assert given_settings(Journey(distance=0)) == {"gait": "ride", "days": 1, "distance": 0}


def test_a_record_keeps_its_meaning_when_another_default_is_decided(monkeypatch):
    one = Journey(gait="walk", days=2)
    record = json.loads(json.dumps(to_mapping(one)))
    assert record == {"gait": "walk", "days": 2, "speed": 5.0}
    monkeypatch.setitem(GAITS, "walk", {"speed": 4.0, "distance": 30})
    assert Journey(gait="walk", days=2) != one
    complete = recorded_settings(Journey, record, source="record")
    assert from_mapping(Journey, complete, source="record") == one
    old = recorded_settings(Journey, {"gait": "horse", "way": 8}, source="record")
    assert from_mapping(Journey, old, source="record") == Journey(distance=8, speed=5)


def test_a_record_that_gives_a_setting_twice_is_refused():
    with pytest.raises(ConfigError, match="record: distance is given twice"):
        recorded_settings(Journey, {"distance": 1, "way": 8}, source="record")


def test_nothing_is_left_open():
    assert UNSET not in dataclasses.asdict(Journey()).values()
