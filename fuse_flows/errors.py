"""The exceptions of the package: one base class, each with what FireWorks needs to store it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from pydantic import ValidationError


class FuseFlowsError(Exception):
    """Base class of every exception raised by fuse_flows."""

    def to_dict(self) -> dict[str, Any]:
        """Describe the exception for the LaunchPad (FireWorks stores this beside the stack trace).

        Returns
        -------
        dict
            The class name and the message.
        """
        return {"error": type(self).__name__, "message": str(self)}


class ConfigError(FuseFlowsError, ValueError):
    """Bad input of a user: the message names the field and the fix.

    Parameters
    ----------
    field
        Name of the offending field, as it is spelt in the configuration.
    message
        What is wrong and what to do about it.
    """

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        self.message = message
        super().__init__(f"{field}: {message}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.field, self.message)


class MissingExtraError(FuseFlowsError, ImportError):
    """A package that belongs to an optional extra is not installed.

    Parameters
    ----------
    package
        Name of the package that could not be imported.
    extra
        The extra of fuse-flows that installs it.
    """

    def __init__(self, package: str, extra: str) -> None:
        self.package = package
        self.extra = extra
        super().__init__(f"{package} is not installed; run: pip install 'fuse-flows[{extra}]'")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.package, self.extra)


class DatabaseError(FuseFlowsError, RuntimeError):
    """MongoDB, the LaunchPad or the JobStore cannot be used; the message says why and what to do."""


class JobFailedError(FuseFlowsError, RuntimeError):
    """A job of a search ended with an exception; the message holds its last line."""


class GenerationError(FuseFlowsError, RuntimeError):
    """No acceptable random structure was found within the allowed attempts."""


class MoveFailed(FuseFlowsError, RuntimeError):  # noqa: N818 - an expected outcome of a move, not an error
    """A move cannot be made on this structure, or found no acceptable result.

    Parameters
    ----------
    move
        Name of the move.
    reason
        Why it failed, in a few words; counted in the move statistics.
    """

    def __init__(self, move: str, reason: str) -> None:
        self.move = move
        self.reason = reason
        super().__init__(f"{move}: {reason}")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.move, self.reason)


class Refusal(NamedTuple):
    """The first thing that pydantic refused.

    Parameters
    ----------
    place
        Where: keys and numbers of list entries, from the outside inwards.
    kind
        pydantic's name for it, such as ``missing`` or ``extra_forbidden``.
    message
        What is wrong.
    given
        The value.
    cause
        The exception that a validator of ours raised, if that is what it was.
    """

    place: tuple[str, ...]
    kind: str
    message: str
    given: Any
    cause: Exception | None

    def field(self, *above: str) -> str:
        """Return the name of the field, below those that the model knows nothing of."""
        return ".".join((*above, *self.place))


def first_refusal(error: ValidationError) -> Refusal:
    """Return the first thing that pydantic refused, to be told as a :class:`ConfigError`."""
    first = error.errors(include_url=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    cause = first.get("ctx", {}).get("error")
    return Refusal(tuple(map(str, first["loc"])), first["type"], message, first["input"], cause)
