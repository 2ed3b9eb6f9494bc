# The host's typed errors: everything that a person can put right, under the one root that host and board share.
# Each text carries numbers and ends with what to do next. Depends on tinycl.shared.errors only.

from tinycl.shared.errors import PLAN, SAMPLE, UNKNOWN_CLASS, TinyclError


class UserError(TinyclError):
    """Something that the person in front of the command line can put right."""


class DataError(UserError):
    """A data set, a file or a sample that is not what was asked for."""

    code = SAMPLE


class SampleError(UserError):
    """Samples that the board's blob does not take; nothing of them was sent."""

    code = SAMPLE


class UnknownClass(UserError):
    """A name that is none of the classes that can be chosen."""

    code = UNKNOWN_CLASS


class ModelError(UserError):
    """A backbone that breaks its budget or cannot be written in 32-bit integers."""

    code = PLAN


class BudgetError(UserError):
    """A method that cannot work in the bytes that it was given."""

    code = PLAN
