"""How long is waited after failures in a row."""

from frostline_operator.runtime.backoff import Backoff


def test_pauses_double_up_to_the_longest_and_begin_anew_after_a_success() -> None:
    backoff = Backoff(0.5, 3.0)
    assert [backoff.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next() == 0.5


def test_the_first_pauses_stay_the_same_where_it_is_patient() -> None:
    backoff = Backoff(1.0, 4.0, patient=4)
    assert [backoff.next() for _ in range(7)] == [1, 1, 1, 1, 2, 4, 4]


def test_failures_without_end_stay_at_the_longest_pause() -> None:
    backoff = Backoff(1.0, 30.0, failures=100_000)
    assert backoff.next() == 30.0
