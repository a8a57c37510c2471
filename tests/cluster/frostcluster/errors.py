"""The two ways in which the test cluster fails: it cannot run here, or something it started went wrong."""


class ClusterError(Exception):
    """Something that the cluster needed did not happen. The message says what, and where to look."""


class MissingRequirement(ClusterError):  # noqa: N818 - it names what it is, and callers read it as that
    """This machine cannot run the cluster at all. One line says what is missing; tests skip on it."""
