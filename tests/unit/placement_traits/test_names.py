"""The form of a name: what an operator may write, and what Placement gets."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from placement_traits import MAX_LENGTH, InvalidName, check_custom, normalise

PLACEMENT = re.compile(r"CUSTOM_[A-Z0-9_]+")

messy = st.text(alphabet=st.one_of(st.characters(), st.sampled_from("CUSTOMcustom_-_ 09aZé")))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("gold", "CUSTOM_GOLD"),
        ("Site A", "CUSTOM_SITE_A"),
        ("site-a", "CUSTOM_SITE_A"),
        ("  site   a!", "CUSTOM_SITE_A"),
        ("1050", "CUSTOM_1050"),
        ("site__a", "CUSTOM_SITE_A"),
        ("custom", "CUSTOM_CUSTOM"),
    ],
)
def test_a_plain_text_becomes_a_custom_name(text: str, name: str) -> None:
    assert normalise(text) == name


@pytest.mark.parametrize("text", ["CUSTOM_GOLD", "custom_gold", "Custom_Gold", "custom-gold"])
def test_the_prefix_is_added_only_once(text: str) -> None:
    assert normalise(text) == "CUSTOM_GOLD"


@pytest.mark.parametrize("name", ["CUSTOM_A__B", "CUSTOM__A", "CUSTOM_A_", "CUSTOM_CUSTOM_A"])
def test_a_name_that_exists_in_placement_is_never_renamed(name: str) -> None:
    assert normalise(name) == name
    assert normalise(name.lower()) == name


@pytest.mark.parametrize("text", ["", " ", "---", "custom_", "CUSTOM_", "CUSTOM___", "custom-", "日本", "é", "²"])
def test_a_text_that_leaves_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidName, match=r"^No name can be made of '.*\.$"):
        normalise(text)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("café 1", "CUSTOM_CAF_1"),
        ("groß", "CUSTOM_GRO"),
        ("custom_ﬁt", "CUSTOM_T"),
        ("٣4", "CUSTOM_4"),
    ],
)
def test_only_ascii_letters_and_digits_are_kept(text: str, name: str) -> None:
    assert normalise(text) == name


def test_a_text_that_fills_255_characters_is_accepted_and_one_more_is_refused() -> None:
    longest = "a" * (MAX_LENGTH - len("CUSTOM_"))
    assert len(normalise(longest)) == MAX_LENGTH
    with pytest.raises(InvalidName, match="has 256 characters, and Placement accepts at most 255"):
        normalise(longest + "a")
    with pytest.raises(InvalidName, match="has 256 characters"):
        normalise("CUSTOM_" + longest + "a")


def test_a_new_line_at_the_end_does_not_slip_through() -> None:
    assert normalise("CUSTOM_A\n") == "CUSTOM_A"
    with pytest.raises(InvalidName):
        check_custom("CUSTOM_A\n")


@given(messy)
@example("custom_custom-a")
@example("_custom_a")
def test_normalising_gives_a_valid_name_and_doing_it_twice_changes_nothing(text: str) -> None:
    try:
        name = normalise(text)
    except InvalidName:
        return
    assert PLACEMENT.fullmatch(name)
    assert len(name) <= MAX_LENGTH
    assert check_custom(name) == name
    assert normalise(name) == name
    assert name.isascii()


@given(
    st.from_regex(r"CUSTOM_[A-Z0-9_]*[A-Z0-9][A-Z0-9_]*", fullmatch=True).filter(lambda name: len(name) <= MAX_LENGTH)
)
def test_every_name_that_placement_could_hold_keeps_its_spelling(name: str) -> None:
    assert normalise(name) == name == check_custom(name)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("USB_KEY", "must start with CUSTOM_"),
        ("custom_usb", "must start with CUSTOM_"),
        ("CUSTOM_", "nothing after its prefix"),
        ("CUSTOM_usb", "characters other than A-Z, 0-9"),
        ("CUSTOM_A-B", "characters other than A-Z, 0-9"),
        ("CUSTOM_É", "characters other than A-Z, 0-9"),
        ("CUSTOM_" + "A" * 249, "has 256 characters"),
    ],
)
def test_a_refused_name_says_what_is_wrong_with_it(name: str, complaint: str) -> None:
    with pytest.raises(InvalidName, match=complaint):
        check_custom(name)


def test_placement_takes_a_name_of_underscores_so_we_do_too() -> None:
    assert check_custom("CUSTOM___") == "CUSTOM___"


@given(messy)
def test_a_complaint_is_one_printable_line(text: str) -> None:
    for function in (normalise, check_custom):
        try:
            function(text)
        except InvalidName as error:
            assert str(error).isprintable()
            assert str(error).isascii()
            assert str(error).endswith(".")
            assert len(str(error)) < 600


def test_the_agreement_with_os_resource_classes() -> None:
    theirs = pytest.importorskip("os_resource_classes")
    for text in ("gold", "Site A", "a.b-c", "x  y", "a__b", "ß x", "1050"):
        # Ours also drops what they leave at the ends.
        assert normalise(text).replace("CUSTOM_", "") == (
            theirs.normalize_name(text).removeprefix("CUSTOM_").strip("_")
        )
