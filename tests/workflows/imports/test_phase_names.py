import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mtinet.errors import UserError
from mtinet.workflows.imports.phase_names import parse_assignments, phases_of


def test_hepatobiliary_is_never_delayed_unless_the_user_says_so():
    assert phases_of(["hbp"], {}, "--phase")[0] == {"hbp": "hepatobiliary"}
    assert phases_of(["hbp"], {"hbp": "delayed"}, "--phase")[0] == {"hbp": "delayed"}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("aprtev +-_2", min_size=1, max_size=6), max_size=6))
def test_no_name_is_lost_between_known_and_unknown(names):
    try:
        phases, unknown = phases_of(names, {}, "--phase")
    except UserError:
        return  # two of them are one phase
    assert set(phases) | set(unknown) == set(names)
    assert not set(phases) & set(unknown)


@pytest.mark.parametrize(
    ("names", "mapping", "told"),
    [
        (["a1"], {"a1": "artrial"}, "hepatobiliary"),
        (["a1"], {"a2": "arterial"}, "found: a1"),
        (["art", "arterial"], {}, "--phase arterial=ignore"),
    ],
)
def test_a_wrong_mapping_names_the_repair(names, mapping, told):
    with pytest.raises(UserError, match=told):
        phases_of(names, mapping, "--phase")


def test_ignored_names_are_neither_known_nor_unknown():
    assert phases_of(["t2", "pre"], {"t2": "ignore"}, "--phase") == ({"pre": "pre"}, [])


@pytest.mark.parametrize("word", ["art", "=arterial", "art="])
def test_an_assignment_has_two_sides(word):
    with pytest.raises(UserError, match="NAME=VALUE"):
        parse_assignments([word], "--phase")
