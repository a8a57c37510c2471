"""Who gets the free devices."""

from hypothesis import given
from hypothesis import strategies as st

from frostline_operator.engine.fairness import Claim, shares


def test_higher_priority_first_then_those_with_least() -> None:
    claims = [Claim("low", 0, 0, 9, 1), Claim("high", 5, 3, 2, 2)]
    assert shares(3, claims) == {"high": 2, "low": 1}
    equals = [Claim("rich", 0, 3, 9, 1), Claim("poor", 0, 0, 9, 2)]
    assert shares(3, equals) == {"poor": 3, "rich": 0}
    assert shares(5, equals) == {"poor": 4, "rich": 1}


def test_in_turn_where_all_is_equal() -> None:
    assert shares(3, [Claim("b", 0, 0, 9, 2), Claim("a", 0, 0, 9, 1)]) == {"a": 2, "b": 1}


claims = st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 5), st.integers(0, 6)), max_size=6).map(
    lambda rows: [Claim(i, p, h, w, i) for i, (p, h, w) in enumerate(rows)]
)


@given(st.integers(0, 20), claims)
def test_nothing_is_wasted_and_nobody_gets_more_than_wanted(free: int, made: list[Claim]) -> None:
    dealt = shares(free, made)
    assert all(0 <= dealt[c.study] <= c.wanted for c in made)
    assert sum(dealt.values()) == min(free, sum(c.wanted for c in made))
    for a in made:
        for b in made:
            if a.priority > b.priority and dealt[b.study] > 0:
                assert dealt[a.study] == a.wanted
            if a.priority == b.priority and dealt[a.study] < a.wanted and dealt[b.study] > 0:
                assert b.held + dealt[b.study] <= a.held + dealt[a.study] + 1
