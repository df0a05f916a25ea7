"""JSON as anybody may have written it, for tests that load it."""

import copy

from hypothesis import strategies as st

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value, path=()):
    """The paths to everything in a JSON value."""
    yield path
    inside = value.items() if isinstance(value, dict) else ()
    inside = enumerate(value) if isinstance(value, list) else inside
    for key, each in inside:
        yield from places(each, (*path, key))


def changed(value, path, other):
    """A JSON value with something else at one place."""
    made = copy.deepcopy(value)
    if not path:
        return other
    at = made
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = other
    return made
