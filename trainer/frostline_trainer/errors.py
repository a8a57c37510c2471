"""What is the study's own fault."""

from __future__ import annotations


class StudyFault(Exception):  # noqa: N818 - it is the study that is at fault; the name says whose
    """The study's own fault: a bad model, bad data, a bad setting. Exit 43, never retried.

    The message names the field at fault and what would put it right, because it is what the person who wrote the
    study reads in its status.
    """
