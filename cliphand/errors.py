"""The errors that the command line tells in one sentence instead of a traceback."""


class InputError(Exception):
    """Bad input, which the user can mend: exit code 2.

    The message is one sentence that says what was given, what is valid and what to do.
    """


class UnavailableError(InputError):
    """Something that this machine lacks, a package, a GPU or a kind of arithmetic: no file is at fault."""


class RunError(Exception):
    """A run that began and could not go on, such as one whose loss is not finite: exit code 3.

    What it had saved stays; the message is one sentence that says what happened and how to go on.
    """
