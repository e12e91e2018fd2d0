from sparc.train.config import TrainConfig
from sparc.train.step.settings import LearnerSettings


def test_settings_of_a_run():
    config = TrainConfig(cross_weight=0.25, auxk=7, dead_after=99, clip=2.0, seed=3)
    chosen = LearnerSettings.of(config)
    assert chosen == LearnerSettings(cross_weight=0.25, auxk=7, dead_after=99, clip=2.0, seed=3)
