from typing import get_args

from sparc.analyze.codes.code_sets import CodeSet, Control
from sparc.train.model.codes import Mode


def test_every_set_has_a_path_of_its_own_and_is_stored_or_reorders_one_that_is():
    sets = [CodeSet(mode, control) for mode in get_args(Mode) for control in get_args(Control)]
    assert len({code_set.path for code_set in sets}) == len(sets)
    assert CodeSet("joint").path == "trained/joint"
    reordered = {code_set: code_set.reorders for code_set in sets if not code_set.stored}
    assert reordered == {
        CodeSet("joint", "permuted_after"): CodeSet("joint"),
        CodeSet("independent", "permuted"): CodeSet("independent"),
    }
    assert all(code_set.permuted and of.stored for code_set, of in reordered.items())
