"""What can go wrong between here and a cluster; apart from the client, which takes long to load."""

from __future__ import annotations


class ApiError(Exception):
    """The API server said no, or nothing.

    Attributes:
        status: of HTTP; 0 where there was no answer.
        reason: the API's one word, such as AlreadyExists.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.status = status
        self.reason = reason
        super().__init__(message)

    @property
    def passing(self) -> bool:
        """Whether trying again later may help without anybody doing anything."""
        return self.status == 0 or self.status == 429 or self.status >= 500


class NotReadableError(Exception):
    """The study cannot be shown; the message says why and what to do."""
