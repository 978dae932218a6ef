"""How many letters may be on their way: one over a slow link, more where they come quickly."""

from peers.mailbox.window import Window


def test_it_grows_where_letters_come_quickly_and_has_a_bound() -> None:
    window, sizes = Window(), []
    for number in range(8):
        window.asked(number)
        window.came(number + 0.1)
        sizes.append(window.letters)
    assert sizes == [2, 4, 8, 16, 16, 16, 16, 16]


def test_it_shrinks_where_they_take_their_time() -> None:
    window = Window()
    for _ in range(3):
        window.asked(0.0)
        assert window.came(0.1)
    for letters in (4, 2, 1, 1):
        window.asked(0.0)
        window.came(1.0)
        assert window.letters == letters


def test_a_letter_that_comes_when_it_is_left_says_nothing_of_the_link() -> None:
    window = Window()
    window.asked(0.0)
    assert not window.came(3600.0)
    assert not window.came(3600.1)
    assert window.letters == 1
